"""The naive loop that everything is compared with: what a developer writes in an afternoon with aiobotocore.

Frozen: no trick goes in here, or the ratios of different days can no longer be compared. A process of its own,
killed by whoever measures it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import time
from typing import Any

from aiobotocore.session import get_session

STREAM = "arn:aws:kinesis:eu-west-1:123456789012:stream/load"
TABLE = "arn:aws:dynamodb:eu-west-1:123456789012:table/load/stream/2026-01-01T00:00:00.000"

_LOOPS = 5
"""Receives of a queue at the same time."""


def event_of(records: list[dict[str, Any]], shard: str) -> bytes:
    return json.dumps(
        {
            "Records": [
                {
                    "eventID": f"{shard}:{record['SequenceNumber']}",
                    "eventName": "aws:kinesis:record",
                    "eventVersion": "1.0",
                    "eventSource": "aws:kinesis",
                    "eventSourceARN": STREAM,
                    "invokeIdentityArn": "arn:aws:iam::123456789012:role/poller",
                    "awsRegion": "eu-west-1",
                    "kinesis": {
                        "kinesisSchemaVersion": "1.0",
                        "partitionKey": record["PartitionKey"],
                        "sequenceNumber": record["SequenceNumber"],
                        "data": base64.b64encode(record["Data"]).decode(),
                        "approximateArrivalTimestamp": record["ApproximateArrivalTimestamp"].timestamp(),
                    },
                }
                for record in records
            ]
        },
        separators=(",", ":"),
    ).encode()


async def follow(kinesis: Any, function: Any, shard: str, batch_size: int) -> None:
    answer = await kinesis.get_shard_iterator(StreamARN=STREAM, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    iterator = answer["ShardIterator"]
    while True:
        began = time.monotonic()
        page = await kinesis.get_records(ShardIterator=iterator, Limit=batch_size)
        iterator = page["NextShardIterator"]
        if page["Records"]:
            reply = await function.invoke(FunctionName="function", Payload=event_of(page["Records"], shard))
            await reply["Payload"].read()
        if not page["MillisBehindLatest"]:
            await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - began)))


def table_event_of(records: list[dict[str, Any]]) -> bytes:
    for record in records:
        record["eventSourceARN"] = TABLE
        change = record["dynamodb"]
        change["ApproximateCreationDateTime"] = change["ApproximateCreationDateTime"].timestamp()
    return json.dumps({"Records": records}, separators=(",", ":")).encode()


async def follow_table(streams: Any, function: Any, shard: str, batch_size: int) -> None:
    answer = await streams.get_shard_iterator(StreamArn=TABLE, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    iterator = answer["ShardIterator"]
    while True:
        began = time.monotonic()
        page = await streams.get_records(ShardIterator=iterator, Limit=batch_size)
        iterator = page["NextShardIterator"]
        if page["Records"]:
            reply = await function.invoke(FunctionName="function", Payload=table_event_of(page["Records"]))
            await reply["Payload"].read()
        if len(page["Records"]) < batch_size:
            await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - began)))


def queue_event_of(messages: list[dict[str, Any]]) -> bytes:
    return json.dumps(
        {
            "Records": [
                {
                    "messageId": message["MessageId"],
                    "receiptHandle": message["ReceiptHandle"],
                    "body": message["Body"],
                    "attributes": message["Attributes"],
                    "messageAttributes": {},
                    "md5OfBody": message["MD5OfBody"],
                    "eventSource": "aws:sqs",
                    "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:load",
                    "awsRegion": "eu-west-1",
                }
                for message in messages
            ]
        },
        separators=(",", ":"),
    ).encode()


async def drain(sqs: Any, function: Any, url: str, batch_size: int) -> None:
    while True:
        answer = await sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=batch_size,
            WaitTimeSeconds=1,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        if messages := answer.get("Messages"):
            reply = await function.invoke(FunctionName="function", Payload=queue_event_of(messages))
            await reply["Payload"].read()
            entries = [{"Id": message["MessageId"], "ReceiptHandle": message["ReceiptHandle"]} for message in messages]
            await sqs.delete_message_batch(QueueUrl=url, Entries=entries)


async def run(url: str, batch_size: int, source: str) -> None:
    session = get_session()
    async with (
        session.create_client("kinesis", region_name="eu-west-1", endpoint_url=url) as kinesis,
        session.create_client("dynamodbstreams", region_name="eu-west-1", endpoint_url=url) as streams,
        session.create_client("sqs", region_name="eu-west-1", endpoint_url=url) as sqs,
        session.create_client("lambda", region_name="eu-west-1", endpoint_url=url) as function,
    ):
        if source == "sqs":
            queue = (await sqs.get_queue_url(QueueName="load"))["QueueUrl"]
            await asyncio.gather(*(drain(sqs, function, queue, batch_size) for _ in range(_LOOPS)))
            return
        if source == "dynamodb":
            table = (await streams.describe_stream(StreamArn=TABLE))["StreamDescription"]["Shards"]
            await asyncio.gather(*(follow_table(streams, function, shard["ShardId"], batch_size) for shard in table))
            return
        shards = (await kinesis.list_shards(StreamARN=STREAM))["Shards"]
        await asyncio.gather(*(follow(kinesis, function, shard["ShardId"], batch_size) for shard in shards))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--source", choices=["kinesis", "dynamodb", "sqs"], default="kinesis")
    asked = parser.parse_args()
    asyncio.run(run(asked.url, asked.batch_size, asked.source))


if __name__ == "__main__":
    main()
