"""What patterns see of the records of each source: the whole table of payloads and patterns, and untouched bytes."""

import base64
import json
from typing import Any

import msgspec
import pytest

from poller.mapping.filtering import Filters, Kind, compile_pattern, mistakes_for
from poller.model.record import Cursor, Record, TrimHorizon
from poller.sources.dynamodb_event import cut_dynamodb, dynamodb_frame
from poller.sources.kinesis_event import cut_kinesis, kinesis_frame
from poller.sources.sqs_event import cut_sqs, sqs_frame
from tests.unit.settings_file import DYNAMODB, KINESIS, QUEUE

JSON, PLAIN, BINARY = b'{"type":"order","n":3}', b"order 3", b"\xff\xfe{}"


def kinesis(*payloads: bytes, key: str = "k") -> tuple[Record, ...]:
    records = [
        {"SequenceNumber": str(i), "Data": base64.b64encode(data).decode(), "PartitionKey": key, "ApproximateArrivalTimestamp": 1.5}
        for i, data in enumerate(payloads)
    ]  # fmt: skip
    body = json.dumps({"Records": records, "NextShardIterator": "i"}).encode()
    return cut_kinesis(
        body, frame=kinesis_frame(KINESIS, None), shard="s", position=TrimHorizon(), limit=9, now=0
    ).records


def sqs(*bodies: str, **attributes: Any) -> tuple[Record, ...]:
    messages = [
        {"MessageId": str(i), "ReceiptHandle": "r", "Body": body, **attributes} for i, body in enumerate(bodies)
    ]
    answer = json.dumps({"Messages": messages}).encode()
    return cut_sqs(answer, frame=sqs_frame(QUEUE, windowed=False), cursor=Cursor(TrimHorizon()), limit=9, now=0).records


def dynamodb(event: str = "INSERT", image: dict[str, Any] | None = None, **more: Any) -> Record:
    change = {
        "SequenceNumber": "1",
        "ApproximateCreationDateTime": 1.0,
        "Keys": {"id": {"S": "1"}},
        "SizeBytes": 9,
        "StreamViewType": "NEW_IMAGE",
    }
    change |= {"NewImage": image} if image else {}
    body = json.dumps({"Records": [{"eventID": "e", "eventName": event, "dynamodb": change, **more}]}).encode()
    return cut_dynamodb(body, frame=dynamodb_frame(DYNAMODB), position=TrimHorizon(), limit=9, now=0).records[0]


def kept(kind: Kind, pattern: Any, record: Record) -> bool:
    filters = Filters(kind, (json.dumps(pattern),))
    delivered, dropped = filters.split((record,))
    assert (delivered, dropped) in [((record,), ()), ((), (record,))]
    assert bool(filters.refusals(record.body)) != bool(delivered)
    return bool(delivered)


# What it is called, the payload, the pattern, whether it is delivered.
QUEUES: list[tuple[str, bytes | str, Any, bool]] = [
    ("plain text, text that is it", "order 3", {"body": ["order 3"]}, True),
    ("plain text, other text", "order 3", {"body": ["order"]}, False),
    ("plain text, operator", "order 3", {"body": [{"prefix": "order"}]}, True),
    ("plain text, anything but", "order 3", {"body": [{"anything-but": "x"}]}, True),
    ("plain text, exists", "order 3", {"body": [{"exists": True}]}, True),
    ("plain text, does not exist", "order 3", {"body": [{"exists": False}]}, False),
    ("plain text, metadata", "order 3", {"messageId": ["0"]}, True),
    ("plain text, JSON", "order 3", {"body": {"type": ["order"]}}, False),
    ("plain text, absent from JSON", "order 3", {"body": {"type": [{"exists": False}]}}, False),
    ("plain text, absent from JSON in a branch", "order 3", {"$or": [{"body": {"t": [{"exists": False}]}}, {"x": [1]}]}, False),
    ("plain text, text or JSON", "order 3", {"$or": [{"body": {"type": ["order"]}}, {"body": ["order 3"]}]}, True),
    ("JSON, text or JSON", JSON, {"$or": [{"body": {"type": ["order"]}}, {"body": ["order 3"]}]}, True),
    ("JSON, its own text", JSON, {"body": [JSON.decode()]}, False),
    ("JSON, anything but", JSON, {"body": [{"anything-but": "x"}]}, False),
    ("JSON, exists", JSON, {"body": [{"exists": True}]}, False),
    ("JSON, does not exist", JSON, {"body": [{"exists": False}]}, False),
    ("JSON, metadata", JSON, {"messageId": ["0"]}, True),
    ("JSON, other metadata", JSON, {"messageId": ["1"]}, False),
    ("JSON, JSON", JSON, {"body": {"type": ["order"], "n": [{"numeric": [">", 2]}]}}, True),
    ("JSON, other JSON", JSON, {"body": {"type": ["refund"]}}, False),
    ("JSON, absent", JSON, {"body": {"x": [{"exists": False}]}}, True),
    ("JSON, JSON and metadata", JSON, {"body": {"type": ["order"]}, "messageId": ["1"]}, False),
    ("a list in JSON, JSON", '[{"type":"refund"},{"type":"order"}]', {"body": {"type": ["order"]}}, True),
    ("a list in JSON, text", "[1,2]", {"body": ["[1,2]"]}, False),
    ("a number, text", "12345", {"body": ["12345"]}, True),
    ("a number, JSON", "12345", {"body": {"a": [{"exists": False}]}}, False),
    ("text that begins like JSON", "{order", {"body": ["{order"]}, True),
    ("text that begins like JSON, JSON", "{order", {"body": {"a": [{"exists": False}]}}, False),
    ("text that says NaN in JSON", '{"a":NaN}', {"body": {"a": [{"exists": True}]}}, False),
    ("text after JSON", '{"a":1}x', {"body": {"a": [1]}}, False),
    ("nothing, nothing", "", {"body": [""]}, True),
    ("nothing, JSON", "", {"body": {"a": [{"exists": False}]}}, False),
    ("half a character in JSON", '{"a":1,"b":"\\ud800"}', {"body": {"a": [1]}}, True),
    ("a slash that is escaped", "a/b", {"body": ["a/b"]}, True),
]  # fmt: skip
STREAMS: list[tuple[str, bytes | str, Any, bool]] = [
    ("plain text, metadata", PLAIN, {"partitionKey": ["k"]}, True),
    ("plain text, other metadata", PLAIN, {"partitionKey": ["x"]}, False),
    ("plain text, JSON", PLAIN, {"data": {"type": ["order"]}}, False),
    ("plain text, absent from JSON", PLAIN, {"data": {"type": [{"exists": False}]}}, False),
    ("JSON, metadata", JSON, {"sequenceNumber": ["0"]}, True),
    ("JSON, JSON", JSON, {"data": {"type": ["order"]}}, True),
    ("JSON, other JSON", JSON, {"data": {"type": ["refund"]}}, False),
    ("JSON, JSON and metadata", JSON, {"data": {"type": ["order"]}, "partitionKey": ["k"]}, True),
    ("JSON, JSON or metadata", JSON, {"$or": [{"data": {"type": ["x"]}}, {"partitionKey": ["k"]}]}, True),
    ("JSON, arrival", JSON, {"approximateArrivalTimestamp": [{"numeric": [">", 1]}]}, True),
    ("JSON, under the name of the event", JSON, {"kinesis": {"data": {"type": ["order"]}}}, False),
    ("not UTF-8, metadata", BINARY, {"partitionKey": ["k"]}, True),
    ("not UTF-8, JSON", BINARY, {"data": {"type": [{"exists": False}]}}, False),
    ("not UTF-8 within JSON, elsewhere", b'{"a":1,"b":"\xff"}', {"data": {"a": [1]}}, False),
    ("nothing, JSON", b"", {"data": {"a": [{"exists": False}]}}, False),
    ("a scalar in JSON, JSON", b"5", {"data": {"a": [{"exists": False}]}}, False),
    ("a list in JSON, JSON", b'[{"a":1}]', {"data": {"a": [1]}}, True),
    ("JSON behind a byte order mark", b'\xef\xbb\xbf{"a":1}', {"data": {"a": [1]}}, False),
]


@pytest.mark.parametrize(
    ("payload", "pattern", "expected"), [case[1:] for case in QUEUES], ids=[case[0] for case in QUEUES]
)
def test_message_of_a_queue(payload: bytes | str, pattern: Any, expected: bool):
    (record,) = sqs(payload if isinstance(payload, str) else payload.decode())
    assert kept("sqs", pattern, record) == expected


@pytest.mark.parametrize(
    ("payload", "pattern", "expected"), [case[1:] for case in STREAMS], ids=[case[0] for case in STREAMS]
)
def test_record_of_a_stream(payload: bytes, pattern: Any, expected: bool):
    (record,) = kinesis(payload)
    assert kept("kinesis", pattern, record) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({"eventName": ["INSERT"]}, True),
        ({"eventName": ["REMOVE"]}, False),
        ({"eventSource": ["aws:dynamodb"]}, True),
        ({"dynamodb": {"NewImage": {"kind": {"S": ["order"]}}}}, True),
        ({"dynamodb": {"NewImage": {"n": {"N": ["42"]}}}}, True),
        ({"dynamodb": {"NewImage": {"n": {"N": [{"numeric": ["=", 42]}]}}}}, False),
        ({"dynamodb": {"NewImage": {"n": {"N": [{"anything-but": "41"}]}}}}, True),
        ({"dynamodb": {"OldImage": {"kind": {"S": [{"exists": False}]}}}}, True),
        ({"userIdentity": {"principalId": ["dynamodb.amazonaws.com"]}}, False),
        ({"dynamodb": {"NewImage": {"tags": {"L": {"S": ["b"]}}}}}, True),
    ],
    ids=json.dumps,
)
def test_record_of_a_table(pattern: Any, expected: bool):
    record = dynamodb(image={"kind": {"S": "order"}, "n": {"N": "42"}, "tags": {"L": [{"S": "a"}, {"S": "b"}]}})
    assert kept("dynamodb", pattern, record) == expected


def test_deletions_by_time_to_live_can_be_kept_apart():
    identity = {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}
    record = dynamodb("REMOVE", userIdentity=identity)
    assert kept("dynamodb", {"userIdentity": {"type": ["Service"], "principalId": ["dynamodb.amazonaws.com"]}}, record)


@pytest.mark.parametrize("pattern", [{"messageAttributes": {"kind": {"stringValue": ["order"]}}}, {"attributes": {"SenderId": [{"prefix": "A"}]}}], ids=json.dumps)  # fmt: skip
def test_attributes_of_a_message(pattern: Any):
    attributes = {"kind": {"DataType": "String", "StringValue": "order"}}
    (record,) = sqs("x", MessageAttributes=attributes, Attributes={"SenderId": "AID"})
    (bare,) = sqs("x")
    assert kept("sqs", pattern, record)
    assert not kept("sqs", pattern, bare)


@pytest.mark.parametrize(
    ("kind", "pattern", "refused"),
    [
        ("kinesis", {"data": ["abc"]}, True),
        ("kinesis", {"data": [{"prefix": "a"}]}, True),
        ("kinesis", {"$or": [{"data": ["abc"]}, {"partitionKey": ["k"]}]}, True),
        ("kinesis", {"data": {"data": ["abc"]}}, False),
        ("kinesis", {"partitionKey": ["abc"]}, False),
        ("dynamodb", {"dynamodb": ["abc"]}, True),
        ("dynamodb", {"data": ["abc"]}, False),
        ("sqs", {"body": ["abc"]}, False),
    ],
    ids=str,
)
def test_plain_text_is_refused_where_records_hold_json(kind: Kind, pattern: Any, refused: bool):
    found = list(mistakes_for(kind, compile_pattern(pattern)))
    assert bool(found) == refused
    assert all("matched as JSON, allowed: an object of its keys" in str(error) for error in found)


def test_records_that_pass_are_the_same_objects_with_the_same_bytes_in_their_order():
    records = kinesis(JSON, PLAIN, JSON.replace(b"order", b"refund"), b' {"type" : "order","x":1.50} ')
    before = [bytes(record.body) for record in records]
    delivered, dropped = Filters("kinesis", ('{"data":{"type":["order"]}}',)).split(records)
    assert [id(record) for record in delivered] == [id(records[0]), id(records[3])]
    assert [id(record) for record in dropped] == [id(records[1]), id(records[2])]
    assert [record.body for record in records] == before


def test_a_pattern_on_metadata_never_reads_the_payload():
    record = Record(id="1", body=b'{"kinesis":{"partitionKey":"k","data":"this is no base64 !!"}}', arrived=0)
    assert kept("kinesis", {"partitionKey": ["k"]}, record)
    assert not kept("kinesis", {"data": {"a": [{"exists": False}]}}, record)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"5", b'"x"', b'{"kinesis":5}', b'{"kinesis":null}', b"{", b"\xff", b'{"kinesis":{"data":5}}'])  # fmt: skip
@pytest.mark.parametrize("kind", ["kinesis", "dynamodb", "sqs", "document"])
def test_what_is_no_record_is_not_delivered_and_raises_nothing(kind: Kind, body: bytes):
    pattern = {"data": {"a": [{"exists": False}]}, "body": {"a": [{"exists": False}]}, "eventName": [True]}
    assert not kept(kind, pattern, Record(id="1", body=body, arrived=0))


def test_half_a_character_in_a_message_is_text():
    record = Record(id="1", body=b'{"body":"x\\ud800"}', arrived=0)
    assert kept("sqs", {"body": [{"prefix": "x"}]}, record)
    assert not kept("sqs", {"body": {"a": [{"exists": False}]}}, record)


def test_filters_are_equal_when_their_patterns_are():
    one, same, other = (Filters("sqs", (json.dumps({"body": [text]}),)) for text in ("a", "a", "b"))
    assert one == same != other
    assert hash(one) == hash(same)
    assert Filters("sqs", ('{"a":[1]}',)) != Filters("kinesis", ('{"a":[1]}',))


def test_the_record_of_the_fast_reading_and_of_the_slow_one_are_matched_alike():
    (record,) = sqs('{"a":[{"b":1},[{"b":2,"c":3}]]}')
    strange = msgspec.structs.replace(record, body=record.body[:-1] + b',"odd":"\\ud800"}')
    for pattern, expected in (
        ({"body": {"a": {"b": [2], "c": [3]}}}, True),
        ({"body": {"a": {"b": [1], "c": [3]}}}, False),
    ):
        assert kept("sqs", pattern, record) == kept("sqs", pattern, strange) == expected
