// The handler of contract.py for Node.js, behind the runtime client of its package.
import { setTimeout as sleep } from "node:timers/promises";

await sleep(1000 * Number(process.env.SLOW_START || 0));

export async function handler(event) {
  switch (event.do) {
    case "partial": return { batchItemFailures: [{ itemIdentifier: "2" }] };
    case "fail": throw new TypeError("it is broken");
    case "hang": return sleep(600000);
    case "crash": return process.exit(3);
    case "garbage": return 10n; // a BigInt, which JSON does not know
    case "count": return event.value.length;
    case "large": return ["x".repeat(event.size)];
    case "slow": await sleep(50); return event.value;
    case "trace": return process.env._X_AMZN_TRACE_ID;
    case "eat": { const eaten = []; for (;;) { eaten.push(Buffer.alloc(8 << 20, 1)); await sleep(10); } }
    default: return event.value;
  }
}
