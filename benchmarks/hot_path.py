"""The part of the hot path that only computes, over and over: a read's answer is cut, an event built, a request signed.

The digest of the event is left out: it is OpenSSL's, nothing here can make it cheaper, and how many instructions it
takes depends on those that the processor has. Run by `benchmarks.instructions` under valgrind, which begins to count at `getloadavg` and writes down at each further one.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
from collections.abc import Callable

from poller.aws.fast.signing import Form, Heads, Keys
from poller.model.record import Cursor, Page, TrimHorizon, event_of
from poller.sources.dynamodb_event import cut_dynamodb, dynamodb_frame
from poller.sources.kinesis_event import cut_kinesis, kinesis_frame
from poller.sources.sqs_event import cut_sqs, sqs_frame
from tests.servers.load import Load

RECORDS = {"kinesis": 100, "dynamodb": 100, "sqs": 10}
"""Of one answer, which becomes one event."""
ROUNDS = (5, 25)
ARNS = {
    "kinesis": "arn:aws:kinesis:eu-west-1:123456789012:stream/load",
    "dynamodb": "arn:aws:dynamodb:eu-west-1:123456789012:table/load/stream/2026-01-01T00:00:00.000",
    "sqs": "arn:aws:sqs:eu-west-1:123456789012:load",
}
_NOW = 1_795_000_000.0
_FORM = Form(
    method="POST",
    url="https://lambda.eu-west-1.amazonaws.com/2015-03-31/functions/load/invocations",
    headers={"X-Amz-Invocation-Type": "RequestResponse", "X-Amz-Log-Type": "Tail", "User-Agent": "poller"},
    region="eu-west-1",
    service="lambda",
)
_DIGEST = "0" * 64
_KEYS = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")


def answers(source: str, records: int, reads: int) -> list[bytes]:
    """What the load double answers to one read after the other; 0 records: that nothing is there."""
    load = Load(shards=1, record_bytes=1024, latency=0, now=_NOW)
    load.fill(records * reads + (records > 0))  # there is more
    service = {"kinesis": b"Kinesis_20131202", "dynamodb": b"DynamoDBStreams_20120810", "sqs": b"AmazonSQS"}[source]
    answered = []
    for read in range(reads):
        asked = {
            "ShardIterator": f"{load.shards[0]}/{read * records}",
            "MaxNumberOfMessages": records,
            "Limit": records,
        }
        _, pieces = load.call(service, "ReceiveMessage" if source == "sqs" else "GetRecords", asked)
        answered.append(b"".join(pieces))
    return answered


def cutter(source: str, limit: int) -> Callable[[bytes], Page]:
    """Cuts an answer."""
    arn, shard = ARNS[source], "shardId-00000000000000000000"
    if source == "kinesis":
        kinesis = kinesis_frame(arn, None)
        return lambda body: cut_kinesis(body, frame=kinesis, shard=shard, position=TrimHorizon(), limit=limit, now=_NOW)
    if source == "dynamodb":
        dynamodb = dynamodb_frame(arn)
        return lambda body: cut_dynamodb(body, frame=dynamodb, position=TrimHorizon(), limit=limit, now=_NOW)
    sqs, cursor = sqs_frame(arn, windowed=False), Cursor(position=TrimHorizon())
    return lambda body: cut_sqs(body, frame=sqs, cursor=cursor, limit=limit, now=_NOW)


def work(rounds: int, body: bytes, cut: Callable[[bytes], Page], heads: Heads) -> int:
    """Answers how many bytes were made, so that nothing is for nothing."""
    made = 0
    for _ in range(rounds):
        page = cut(body)
        event = event_of(page.records)
        made += len(heads.head(_DIGEST, len(event), _KEYS, int(_NOW))) + len(event)
    return made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sources", nargs="+", choices=list(RECORDS))
    parser.add_argument("--control", help="callgrind_control, which starts the counting")
    asked = parser.parse_args()
    gc.disable()  # when it runs depends on what else was imported
    prepared = []
    for source in asked.sources:
        (body,), cut = answers(source, RECORDS[source], 1), cutter(source, RECORDS[source])
        heads = Heads(_FORM)
        work(2, body, cut, heads)
        prepared.append((body, cut, heads))
    if asked.control:
        subprocess.run([asked.control, "-i", "on", str(os.getpid())], check=True, stdout=subprocess.DEVNULL)
    for body, cut, heads in prepared:
        for rounds in ROUNDS:
            os.getloadavg()
            work(rounds, body, cut, heads)
    os.getloadavg()


if __name__ == "__main__":
    main()
