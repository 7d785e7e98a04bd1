"""The test's own access to the AWS-compatible servers, without an SDK: creates, produces, looks."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

REGION = "eu-west-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """Kinesis, DynamoDB and SQS at their addresses."""

    http: aiohttp.ClientSession
    url: str
    """Of everything but Kinesis."""
    kinesis_url: str

    async def kinesis(self, operation: str, **parameters: Any) -> Any:
        return await self._call(self.kinesis_url, "kinesis", f"Kinesis_20131202.{operation}", parameters)

    async def dynamodb(self, operation: str, **parameters: Any) -> Any:
        return await self._call(self.url, "dynamodb", f"DynamoDB_20120810.{operation}", parameters)

    async def sqs(self, operation: str, **parameters: Any) -> Any:
        return await self._call(self.url, "sqs", f"AmazonSQS.{operation}", parameters)

    async def stream(self, name: str, shards: int = 1) -> str:
        """Create a Kinesis stream that is ready; answers its ARN."""
        await self.kinesis("CreateStream", StreamName=name, ShardCount=shards)
        return await self.active(name)

    async def active(self, name: str) -> str:
        """Wait for the end of a stream's creation or change; answers its ARN."""
        while True:
            answer = await self.kinesis("DescribeStreamSummary", StreamName=name)
            summary = answer["StreamDescriptionSummary"]
            if summary["StreamStatus"] == "ACTIVE":
                return str(summary["StreamARN"])

    async def table(self, name: str) -> str:
        """Create a table with a stream; answers the stream's ARN."""
        answer = await self.dynamodb(
            "CreateTable",
            TableName=name,
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
        )
        return str(answer["TableDescription"]["LatestStreamArn"])

    async def queue(self, name: str, visibility: int = 600) -> str:
        """Create a queue; answers its ARN."""
        answer = await self.sqs("CreateQueue", QueueName=name, Attributes={"VisibilityTimeout": str(visibility)})
        return str((await self.queue_attributes(answer["QueueUrl"]))["QueueArn"])

    async def queue_attributes(self, url: str) -> dict[str, str]:
        answer = await self.sqs("GetQueueAttributes", QueueUrl=url, AttributeNames=["All"])
        found: dict[str, str] = answer["Attributes"]
        return found

    async def queue_url(self, name: str) -> str:
        return str((await self.sqs("GetQueueUrl", QueueName=name))["QueueUrl"])

    async def left(self, name: str) -> int:
        """Messages that the queue still holds, seen or not."""
        attributes = await self.queue_attributes(await self.queue_url(name))
        return sum(int(attributes[f"ApproximateNumberOfMessages{kind}"]) for kind in ("", "NotVisible", "Delayed"))

    async def put(self, stream: str, *texts: str) -> None:
        """Produce records, each behind the one before."""
        for text in texts:
            data = base64.b64encode(text.encode()).decode()
            await self.kinesis("PutRecord", StreamName=stream, PartitionKey=text, Data=data)

    async def put_many(self, stream: str, texts: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Produce records in one call; answers shard and sequence number of each."""
        records = [{"PartitionKey": text, "Data": base64.b64encode(text.encode()).decode()} for text in texts]
        answer = await self.kinesis("PutRecords", StreamName=stream, Records=records)
        return {
            text: (told["ShardId"], int(told["SequenceNumber"]))
            for text, told in zip(texts, answer["Records"], strict=True)
        }

    async def put_item(self, table: str, text: str) -> None:
        await self.dynamodb("PutItem", TableName=table, Item={"id": {"S": text}})

    async def send(self, queue: str, *texts: str) -> None:
        url = await self.queue_url(queue)
        for text in texts:
            await self.sqs("SendMessage", QueueUrl=url, MessageBody=text)

    async def receive(self, queue: str) -> list[str]:
        """The bodies of messages that are visible now."""
        url = await self.queue_url(queue)
        answer = await self.sqs("ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=10)
        return [message["Body"] for message in answer.get("Messages", [])]

    async def shards(self, stream: str) -> list[dict[str, Any]]:
        answer = await self.kinesis("ListShards", StreamName=stream)
        found: list[dict[str, Any]] = answer["Shards"]
        return found

    async def _call(self, url: str, service: str, target: str, parameters: dict[str, Any]) -> Any:
        headers = {
            "Content-Type": "application/x-amz-json-1.0" if service != "kinesis" else "application/x-amz-json-1.1",
            "X-Amz-Target": target,
            "X-Amz-Date": "20260101T000000Z",
            "Authorization": f"AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/{service}/aws4_request, "
            "SignedHeaders=host, Signature=0",
        }
        async with self.http.post(url, data=json.dumps(parameters), headers=headers) as answer:
            body = await answer.read()
            assert answer.status == 200, f"{target}: {answer.status} {body[:500]!r}"
            return json.loads(body or b"{}")


@asynccontextmanager
async def clouded(url: str, kinesis_url: str = "") -> AsyncIterator[Cloud]:
    async with aiohttp.ClientSession() as http:
        yield Cloud(http=http, url=url, kinesis_url=kinesis_url or url)
