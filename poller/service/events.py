"""Sample events, built by what builds the real ones from answers of the services. No I/O, no clock."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import orjson

from poller.model.record import Cursor, Page, TrimHorizon, event_of
from poller.sources.dynamodb_event import cut_dynamodb, dynamodb_frame
from poller.sources.kinesis_event import cut_kinesis, kinesis_frame
from poller.sources.sqs_event import cut_sqs, sqs_frame

SampleSource: TypeAlias = Literal["kinesis", "dynamodb", "sqs"]

_NOW = 1_700_000_000.0
_ORDER = b'{"order": 1, "total": "9.90"}'


def sample(source: SampleSource) -> str:
    """An event of one record, indented for people."""
    event = orjson.loads(event_of(_PAGES[source]().records))
    return orjson.dumps(event, option=orjson.OPT_INDENT_2).decode()


def _kinesis() -> Page:
    record = {
        "SequenceNumber": "49590338271490256608559692538361571095921575989136588898",
        "ApproximateArrivalTimestamp": _NOW,
        "Data": base64.b64encode(_ORDER).decode(),
        "PartitionKey": "customer-1",
    }
    frame = kinesis_frame("arn:aws:kinesis:eu-west-1:123456789012:stream/orders", None)
    answer = _answer({"Records": [record], "NextShardIterator": "next", "MillisBehindLatest": 0})
    return cut_kinesis(answer, frame=frame, shard="shardId-000000000000", position=TrimHorizon(), limit=1, now=_NOW)


def _dynamodb() -> Page:
    record = {
        "eventID": "c81e728d9d4c2f636f067f89cc14862c",
        "eventName": "MODIFY",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "eu-west-1",
        "dynamodb": {
            "ApproximateCreationDateTime": _NOW,
            "Keys": {"id": {"S": "customer-1"}},
            "NewImage": {"id": {"S": "customer-1"}, "orders": {"N": "2"}},
            "OldImage": {"id": {"S": "customer-1"}, "orders": {"N": "1"}},
            "SequenceNumber": "4421584500000000017450439092",
            "SizeBytes": 59,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
    }
    table = "arn:aws:dynamodb:eu-west-1:123456789012:table/customers"
    frame = dynamodb_frame(f"{table}/stream/2026-01-01T00:00:00.000")
    answer = _answer({"Records": [record], "NextShardIterator": "next"})
    return cut_dynamodb(answer, frame=frame, position=TrimHorizon(), limit=1, now=_NOW)


def _sqs() -> Page:
    message = {
        "MessageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
        "ReceiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
        "Body": _ORDER.decode(),
        "MD5OfBody": "eb3d2291663cd223913deaaf5dd17c87",
        "Attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": str(int(_NOW * 1000)),
            "SenderId": "AIDAIENQZJOLO23YVJ4VO",
            "ApproximateFirstReceiveTimestamp": str(int(_NOW * 1000) + 1),
        },
        "MessageAttributes": {"kind": {"DataType": "String", "StringValue": "order"}},
    }
    frame = sqs_frame("arn:aws:sqs:eu-west-1:123456789012:orders", windowed=False)
    return cut_sqs(_answer({"Messages": [message]}), frame=frame, cursor=Cursor(TrimHorizon()), limit=1, now=_NOW)


def _answer(body: Mapping[str, Any]) -> bytes:
    return orjson.dumps(body)


_PAGES = {"kinesis": _kinesis, "dynamodb": _dynamodb, "sqs": _sqs}
