// sqs-consumer as its readme says, with the function behind Invoke: `node sqs_consumer.mjs URL BATCH_SIZE`.
import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { SQSClient } from "@aws-sdk/client-sqs";
import { Consumer } from "sqs-consumer";

const [endpoint, batchSize] = process.argv.slice(2);
const place = { endpoint, region: "eu-west-1" };
const lambda = new LambdaClient(place);
const sqs = new SQSClient(place);

for (let loop = 0; loop < 5; loop++) {
  const consumer = Consumer.create({
    queueUrl: "http://127.0.0.1/1/load",
    sqs,
    batchSize: Number(batchSize),
    waitTimeSeconds: 1,
    attributeNames: ["All"],
    messageAttributeNames: ["All"],
    handleMessageBatch: async (messages) => {
      const records = messages.map((message) => ({
        messageId: message.MessageId,
        receiptHandle: message.ReceiptHandle,
        body: message.Body,
        attributes: message.Attributes,
        messageAttributes: {},
        md5OfBody: message.MD5OfBody,
        eventSource: "aws:sqs",
        eventSourceARN: "arn:aws:sqs:eu-west-1:123456789012:load",
        awsRegion: "eu-west-1",
      }));
      await lambda.send(new InvokeCommand({ FunctionName: "function", Payload: JSON.stringify({ Records: records }) }));
      return messages;
    },
  });
  consumer.on("error", (error) => console.error(error));
  consumer.on("processing_error", (error) => console.error(error));
  consumer.start();
}
