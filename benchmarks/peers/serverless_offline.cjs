// The readers of serverless-offline-kinesis and -sqs without the framework: `node serverless_offline.cjs URL SOURCE BATCH_SIZE`.
// They ask their `lambda` for a function, hand it the event, and run it: here that is Invoke, by the SDK that they use.
process.env.AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE = "1";
const AWS = require("aws-sdk");

const [endpoint, source, batchSize] = process.argv.slice(2);
const place = { endpoint, region: "eu-west-1", accountId: "123456789012" };
const client = new AWS.Lambda(place);
const lambda = {
  get: () => {
    let payload;
    return {
      setEvent: (event) => {
        payload = JSON.stringify(event);
      },
      runHandler: () => client.invoke({ FunctionName: "function", Payload: payload }).promise(),
    };
  },
};
const asked = { batchSize: Number(batchSize) };

function kinesis() {
  const Kinesis = require("serverless-offline-kinesis/src/kinesis");
  // It waits for half a second after each read: a twentieth is as little as makes it no poller of empty shards.
  const event = { ...asked, streamName: "load", startingPosition: "TRIM_HORIZON", readInterval: 50 };
  return { reader: new Kinesis(lambda, place), events: [{ functionKey: "function", kinesis: event }] };
}

function sqs() {
  const SQS = require("serverless-offline-sqs/src/sqs");
  const event = { ...asked, queueName: "load" };
  return { reader: new SQS(lambda, {}, place), events: Array(5).fill({ functionKey: "function", sqs: event }) };
}

const { reader, events } = source === "sqs" ? sqs() : kinesis();
reader.create(events).then(() => reader.start());
