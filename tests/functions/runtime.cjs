// A client of the Lambda Runtime API in Node.js's standard library, with the handler of contract.py beside it.
const http = require("http");

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const agent = new http.Agent({ keepAlive: true });

function call(method, path, body, headers = {}) {
  return new Promise((resolve, reject) => {
    const options = { agent, host, port, method, path: `/2018-06-01/runtime${path}`, headers };
    const request = http.request(options, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("end", () => resolve({ headers: response.headers, body: Buffer.concat(chunks).toString() }));
    });
    request.on("error", reject);
    request.end(body);
  });
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function handler(event) {
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

async function main() {
  await sleep(1000 * Number(process.env.SLOW_START || 0));
  for (;;) {
    const { headers, body } = await call("GET", "/invocation/next");
    const id = headers["lambda-runtime-aws-request-id"];
    process.env._X_AMZN_TRACE_ID = headers["lambda-runtime-trace-id"];
    try {
      await call("POST", `/invocation/${id}/response`, JSON.stringify((await handler(JSON.parse(body))) ?? null));
    } catch (error) {
      console.error(error.stack);
      const account = { errorType: error.name, errorMessage: error.message, stackTrace: error.stack.split("\n") };
      await call("POST", `/invocation/${id}/error`, JSON.stringify(account), {
        "Lambda-Runtime-Function-Error-Type": error.name,
      });
    }
  }
}

main();
