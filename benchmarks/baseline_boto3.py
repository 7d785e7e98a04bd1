"""The naive loop with boto3: a thread for each shard, or five for a queue. Frozen, as `baseline.py` is."""

from __future__ import annotations

import argparse
import threading
import time
from typing import Any

import boto3
from botocore.config import Config

from benchmarks.baseline import STREAM, TABLE, event_of, queue_event_of, table_event_of

_LOOPS = 5
"""Receives of a queue at the same time."""


def follow(kinesis: Any, function: Any, shard: str, batch_size: int) -> None:
    answer = kinesis.get_shard_iterator(StreamARN=STREAM, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    iterator = answer["ShardIterator"]
    while True:
        began = time.monotonic()
        page = kinesis.get_records(ShardIterator=iterator, Limit=batch_size)
        iterator = page["NextShardIterator"]
        if page["Records"]:
            function.invoke(FunctionName="function", Payload=event_of(page["Records"], shard))["Payload"].read()
        if not page["MillisBehindLatest"]:
            time.sleep(max(0.0, 1.0 - (time.monotonic() - began)))


def follow_table(streams: Any, function: Any, shard: str, batch_size: int) -> None:
    answer = streams.get_shard_iterator(StreamArn=TABLE, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    iterator = answer["ShardIterator"]
    while True:
        began = time.monotonic()
        page = streams.get_records(ShardIterator=iterator, Limit=batch_size)
        iterator = page["NextShardIterator"]
        if page["Records"]:
            function.invoke(FunctionName="function", Payload=table_event_of(page["Records"]))["Payload"].read()
        if len(page["Records"]) < batch_size:
            time.sleep(max(0.0, 1.0 - (time.monotonic() - began)))


def drain(sqs: Any, function: Any, url: str, batch_size: int) -> None:
    while True:
        answer = sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=batch_size,
            WaitTimeSeconds=1,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        if messages := answer.get("Messages"):
            function.invoke(FunctionName="function", Payload=queue_event_of(messages))["Payload"].read()
            entries = [{"Id": message["MessageId"], "ReceiptHandle": message["ReceiptHandle"]} for message in messages]
            sqs.delete_message_batch(QueueUrl=url, Entries=entries)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--source", choices=["kinesis", "dynamodb", "sqs"], default="kinesis")
    asked = parser.parse_args()
    session = boto3.Session(region_name="eu-west-1")

    def client(service: str) -> Any:
        return session.client(service, endpoint_url=asked.url, config=Config(max_pool_connections=64))

    function = client("lambda")
    if asked.source == "sqs":
        sqs = client("sqs")
        url = sqs.get_queue_url(QueueName="load")["QueueUrl"]
        work: list[tuple[Any, Any, Any]] = [(drain, sqs, url)] * _LOOPS
    elif asked.source == "dynamodb":
        streams = client("dynamodbstreams")
        table = streams.describe_stream(StreamArn=TABLE)["StreamDescription"]["Shards"]
        work = [(follow_table, streams, shard["ShardId"]) for shard in table]
    else:
        kinesis = client("kinesis")
        work = [(follow, kinesis, shard["ShardId"]) for shard in kinesis.list_shards(StreamARN=STREAM)["Shards"]]
    threads = [
        threading.Thread(target=loop, args=(service, function, what, asked.batch_size)) for loop, service, what in work
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
