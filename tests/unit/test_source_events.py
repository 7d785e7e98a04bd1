"""Answers of the services cut into records, byte for byte."""

from __future__ import annotations

import json
from typing import Any

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.mapping.trace import trace_of
from poller.model.errors import Transient
from poller.model.record import After, At, Cursor, TrimHorizon, event_of
from poller.model.trace import Trace
from poller.sources import dynamodb_event, kinesis_event, sqs_event
from poller.sources.dynamodb_event import cut_dynamodb, dynamodb_frame
from poller.sources.kinesis_event import cut_kinesis, kinesis_frame
from poller.sources.sqs_event import cut_sqs, sqs_frame

STREAM = "arn:aws-cn:kinesis:cn-north-1:111122223333:stream/s"
TABLE = "arn:aws:dynamodb:eu-west-1:111122223333:table/t/stream/2026-01-01T00:00:00.000"
QUEUE = "arn:aws:sqs:eu-west-1:111122223333:q"
PARENT = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"
ATTRIBUTE = b'"traceparent":{"DataType":"String","StringValue":"%s"}' % PARENT.encode()
CURSOR = Cursor(position=TrimHorizon())


def kinesis(body: bytes, **more: Any):
    given = {
        "frame": kinesis_frame(STREAM, None),
        "shard": "shard-1",
        "position": TrimHorizon(),
        "limit": 10,
        "now": 7.0,
    }
    return cut_kinesis(body, **{**given, **more})


def dynamodb(body: bytes, **more: Any):
    given = {"frame": dynamodb_frame(TABLE), "position": TrimHorizon(), "limit": 10, "now": 7.0}
    return cut_dynamodb(body, **{**given, **more})


def sqs(body: bytes, *, windowed: bool = False, limit: int = 10):
    return cut_sqs(body, frame=sqs_frame(QUEUE, windowed=windowed), cursor=CURSOR, limit=limit, now=7.0)


def test_a_kinesis_record_is_written_byte_for_byte():
    page = kinesis(
        b'{"MillisBehindLatest":1500,"NextShardIterator":"n","Records":[ {"PartitionKey" : "k\\u00fc\\/",'
        b'"SequenceNumber":"49","ApproximateArrivalTimestamp":1.789809959621E9,"Data":"aGk="} ]}'
    )
    (record,) = page.records
    assert record.body == (
        b'{"eventID":"shard-1:49","eventName":"aws:kinesis:record","eventVersion":"1.0","eventSource":"aws:kinesis",'
        b'"eventSourceARN":"arn:aws-cn:kinesis:cn-north-1:111122223333:stream/s",'
        b'"invokeIdentityArn":"arn:aws-cn:iam::111122223333:role/poller","awsRegion":"cn-north-1",'
        b'"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":"k\\u00fc\\/","sequenceNumber":"49","data":"aGk=",'
        b'"approximateArrivalTimestamp":1.789809959621E9}}'
    )
    assert (record.id, record.arrived, record.key) == ("49", 1_789_809_959.621, "kü/")
    assert (page.behind, page.full, page.cursor) == (1.5, True, Cursor(position=After("49"), token="n"))


def test_the_role_of_a_mapping_is_the_identity_of_its_events():
    frame = kinesis_frame(STREAM, "arn:aws:iam::1:role/mine")
    (record,) = kinesis(b'{"Records":[{"SequenceNumber":"1","Data":""}]}', frame=frame).records
    assert json.loads(record.body)["invokeIdentityArn"] == "arn:aws:iam::1:role/mine"


@pytest.mark.parametrize("wire", [b"", b',"PartitionKey":null,"ApproximateArrivalTimestamp":null'])
def test_a_kinesis_record_without_key_and_arrival_leaves_them_out(wire):
    (record,) = kinesis(b'{"Records":[{"SequenceNumber":"1","Data":""%s}]}' % wire).records
    assert json.loads(record.body)["kinesis"] == {"kinesisSchemaVersion": "1.0", "sequenceNumber": "1", "data": ""}
    assert (record.arrived, record.key) == (7.0, "")


@pytest.mark.parametrize(("wire", "event"), [(b'"KMS"', "KMS"), (b'"NONE"', None), (b"null", None)])
def test_only_an_encrypted_kinesis_record_says_so(wire, event):
    body = b'{"Records":[{"SequenceNumber":"1","Data":"","EncryptionType":%s}]}' % wire
    (record,) = kinesis(body).records
    assert json.loads(record.body)["kinesis"].get("encryptionType") == event


@pytest.mark.parametrize(
    ("count", "limit", "behind", "full"),
    [(3, 3, 0, True), (3, 4, 0, False), (3, 4, 1, True), (0, 4, 1000, False)],
    ids=["as many as asked for", "all there is", "cut by its size", "an empty stretch"],
)
def test_a_kinesis_page_is_full_when_a_limit_cut_it(count, limit, behind, full):
    records = [{"SequenceNumber": str(number), "Data": ""} for number in range(count)]
    body = json.dumps({"Records": records, "NextShardIterator": "n", "MillisBehindLatest": behind})
    assert kinesis(body.encode(), limit=limit).full is full


def test_a_dynamodb_record_is_written_byte_for_byte():
    page = dynamodb(
        b'{"NextShardIterator":"n","Records":[{"awsRegion":"x","dynamodb":{"ApproximateCreationDateTime":1.789650147E9,'
        b'"Keys":{"sk":{"N":"1"},"pk":{"S":"\\u00e9"}},"NewImage":{"b":{"B":"AA=="},"e": {"S":""}},"SequenceNumber":"3",'
        b'"SizeBytes":9,"StreamViewType":"NEW_AND_OLD_IMAGES","OldImage":{}},"eventID":"d","eventName":"REMOVE",'
        b'"eventSource":"aws:dynamodb","eventVersion":"1.1",'
        b'"userIdentity":{"PrincipalId":"dynamodb.amazonaws.com","Type":"Service"}}]}'
    )
    (record,) = page.records
    assert record.body == (
        b'{"eventID":"d","eventName":"REMOVE","eventVersion":"1.1","eventSource":"aws:dynamodb",'
        b'"awsRegion":"eu-west-1","eventSourceARN":"' + TABLE.encode() + b'",'
        b'"userIdentity":{"type":"Service","principalId":"dynamodb.amazonaws.com"},'
        b'"dynamodb":{"ApproximateCreationDateTime":1789650147.0,"Keys":{"sk":{"N":"1"},"pk":{"S":"\\u00e9"}},'
        b'"NewImage":{"b":{"B":"AA=="},"e": {"S":""}},"OldImage":{},"SequenceNumber":"3","SizeBytes":9,'
        b'"StreamViewType":"NEW_AND_OLD_IMAGES"}}'
    )
    assert (record.id, record.arrived) == ("3", 1_789_650_147.0)
    assert page.cursor == Cursor(position=After("3"), token="n")


def test_the_key_of_an_item_does_not_depend_on_the_order_or_spelling_of_its_attributes():
    keys = [b'{"a":{"S":"\\u00e9"},"b":{"N":"1"}}', b'{ "b":{"N":"1"}, "a":{"S":"\xc3\xa9"}}']
    bodies = [
        b'{"Records":[{"eventID":"e","eventName":"n","dynamodb":{"SequenceNumber":"1","Keys":%s}}]}' % key
        for key in keys
    ]
    assert {dynamodb(body).records[0].key for body in bodies} == {'{"a":{"S":"é"},"b":{"N":"1"}}'}


def test_a_user_identity_may_come_in_lambdas_spelling():
    body = (
        b'{"Records":[{"eventID":"e","eventName":"REMOVE","dynamodb":{"SequenceNumber":"1"},'
        b'"userIdentity":{"type":"Service","principalId":"p"}}]}'
    )
    assert json.loads(dynamodb(body).records[0].body)["userIdentity"] == {"type": "Service", "principalId": "p"}


def test_an_image_that_is_null_is_absent():
    body = b'{"Records":[{"eventID":"e","eventName":"n","dynamodb":{"SequenceNumber":"1","OldImage":null}}]}'
    assert json.loads(dynamodb(body).records[0].body)["dynamodb"] == {"SequenceNumber": "1"}


def test_a_dynamodb_page_that_its_size_cut_is_full():
    image = {"text": {"S": "x" * 1_000_000}}
    record = {"eventID": "e", "eventName": "n", "dynamodb": {"SequenceNumber": "1", "NewImage": image}}
    assert dynamodb(json.dumps({"Records": [record], "NextShardIterator": "n"}).encode()).full
    assert not dynamodb(b'{"Records":[],"NextShardIterator":"n"}').full


@pytest.mark.parametrize("since", [100.0, 100.99])
def test_what_a_table_changed_before_a_moment_is_skipped_by_the_whole_second(since):
    records = [
        {"eventID": "e", "eventName": "n", "dynamodb": {"SequenceNumber": str(at), "ApproximateCreationDateTime": at}}
        for at in (99, 100, 101)
    ]
    page = dynamodb(json.dumps({"Records": records}).encode(), position=At(since))
    assert [record.id for record in page.records] == ["100", "101"]


def test_a_message_is_written_byte_for_byte():
    page = sqs(
        b'{"Messages":[{"Attributes":{"SentTimestamp":"1500","MessageGroupId":"g"},"Body":"\\u00e9 \\ud83d\\ude42 \\/",'
        b'"MD5OfBody":"5d","MD5OfMessageAttributes":"ab","MessageId":"m","ReceiptHandle":"r+/=",'
        b'"MessageAttributes":{"a":{"DataType":"String","StringValue":""},"b":{"BinaryValue":"AP8=","DataType":"Binary"}}}]}'
    )
    (record,) = page.records
    assert record.body == (
        b'{"messageId":"m","receiptHandle":"r+/=","body":"\\u00e9 \\ud83d\\ude42 \\/",'
        b'"attributes":{"SentTimestamp":"1500","MessageGroupId":"g"},"messageAttributes":{'
        b'"a":{"stringValue":"","stringListValues":[],"binaryListValues":[],"dataType":"String"},'
        b'"b":{"binaryValue":"AP8=","stringListValues":[],"binaryListValues":[],"dataType":"Binary"}},'
        b'"md5OfMessageAttributes":"ab","md5OfBody":"5d","eventSource":"aws:sqs",'
        b'"eventSourceARN":"arn:aws:sqs:eu-west-1:111122223333:q","awsRegion":"eu-west-1"}'
    )
    assert (record.id, record.receipt, record.arrived, record.key) == ("m", "r+/=", 1.5, "g")
    assert page.cursor == CURSOR


@pytest.mark.parametrize("wire", [b"", b',"MD5OfMessageAttributes":null'])
@pytest.mark.parametrize("windowed", [False, True])
def test_the_digest_of_no_attributes_is_absent_without_a_window_and_null_with_one(wire, windowed):
    (record,) = sqs(
        b'{"Messages":[{"MessageId":"m","ReceiptHandle":"r","Body":""%s}]}' % wire, windowed=windowed
    ).records
    element = json.loads(record.body)
    assert ("md5OfMessageAttributes" in element) is windowed
    assert element.get("md5OfMessageAttributes") is None
    assert (element["attributes"], element["messageAttributes"], record.arrived) == ({}, {}, 7.0)


@pytest.mark.parametrize(
    ("wire", "trace"),
    [
        (b"", None),
        (b',"Attributes":null,"MessageAttributes":null', None),
        (b',"Attributes":{"SenderId":"AWSTraceHeader"}', None),
        (b',"Attributes":{"AWSTraceHeader":"Root=1-a-b"}', Trace(xray="Root=1-a-b")),
        (b',"Attributes":{"AWSTrace\\u0048eader":"Root=1-a-b"}', Trace(xray="Root=1-a-b")),
        (b',"Attributes":{"AWSTraceHeader":null},"MessageAttributes":{%s}' % ATTRIBUTE, None),
        (b',"MessageAttributes":{"a":{"DataType":"String","StringValue":"traceparent"}}', None),
        (b',"MessageAttributes":{"a":{"DataType":"String","StringValue":""},%s}' % ATTRIBUTE, Trace(parent=PARENT)),
    ],
    ids=[
        "nothing else",
        "null",
        "only in another's value",
        "X-Ray",
        "X-Ray, in escapes",
        "an unheard-of shape",
        "only in an attribute's value",
        "W3C",
    ],
)
def test_the_trace_that_a_message_says_is_found_behind_the_cut(wire: bytes, trace: Trace | None):
    page = sqs(b'{"Messages":[{"MessageId":"m","ReceiptHandle":"r","Body":"\\"traceparent\\""%s}]}' % wire)
    assert trace_of(page.records) == trace


@pytest.mark.parametrize("body", [b"{}", b'{"Messages":[]}', b'{"Messages":null}'])
def test_a_queue_with_nothing_to_give_is_an_empty_page(body):
    assert sqs(body).records == ()


@pytest.mark.parametrize("cut", [kinesis, dynamodb, sqs])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"<html>", b'{"Records":[{}],"Messages":[{}]}', b'{"Records":1,"Messages":1}']
)
def test_what_is_no_answer_passes_by_itself(cut, body):
    with pytest.raises(Transient, match="cannot be read"):
        cut(body)


@pytest.mark.parametrize("wire", [b'"PartitionKey":1', b'"ApproximateArrivalTimestamp":"noon"'])
def test_a_kinesis_record_of_other_types_passes_by_itself(wire):
    with pytest.raises(Transient, match="cannot be read"):
        kinesis(b'{"Records":[{"SequenceNumber":"1","Data":"",%s}]}' % wire)


@given(st.binary(), st.text())
def test_any_half_of_a_page_is_refused(data, key):
    record = {"SequenceNumber": "1", "Data": data.hex(), "PartitionKey": key}
    body = json.dumps({"Records": [record], "NextShardIterator": None}).encode()
    assert kinesis(body).cursor is None
    for length in range(len(body)):
        with pytest.raises(Transient):
            kinesis(body[:length])


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_any_text_reaches_the_function_as_it_was_sent(messages):
    sent = [
        {"MessageId": str(index), "ReceiptHandle": handle, "Body": text}
        for index, (handle, text) in enumerate(messages)
    ]
    for escaped in (True, False):
        page = sqs(json.dumps({"Messages": sent}, ensure_ascii=escaped).encode("utf-8", "surrogatepass"))
        event = json.loads(event_of(page.records))
        assert [(got["receiptHandle"], got["body"]) for got in event["Records"]] == messages


def members(service: str, *path: str) -> set[str]:
    """The members of a shape of botocore's service model: operation, then members down the answer."""
    operation, *rest = path
    shape = botocore.session.Session().get_service_model(service).operation_model(operation).output_shape
    for name in rest:
        shape = shape.members[name]
        while shape.type_name in {"list", "map"}:
            shape = shape.member if shape.type_name == "list" else shape.value
    return set(shape.members)


@pytest.mark.parametrize(
    ("path", "struct", "left"),
    [
        (("kinesis", "GetRecords"), kinesis_event._Page, {"ChildShards"}),
        (("kinesis", "GetRecords", "Records"), kinesis_event._Record, set()),
        (("dynamodbstreams", "GetRecords"), dynamodb_event._Page, set()),
        (
            ("dynamodbstreams", "GetRecords", "Records"),
            dynamodb_event._Record,
            {"eventVersion", "eventSource", "awsRegion"},
        ),
        (("dynamodbstreams", "GetRecords", "Records", "dynamodb"), dynamodb_event._Change, set()),
        (("dynamodbstreams", "GetRecords", "Records", "userIdentity"), dynamodb_event._Identity, set()),
        (("sqs", "ReceiveMessage"), sqs_event._Answer, set()),
        (("sqs", "ReceiveMessage", "Messages"), sqs_event._Message, set()),
        (("sqs", "ReceiveMessage", "Messages", "MessageAttributes"), sqs_event._Attribute, set()),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else None,
)
def test_every_field_of_the_services_model_is_carried_or_left_on_purpose(path, struct, left):
    carried = set(struct.__struct_fields__)
    ours = {"type", "principalId"}  # Lambda's spelling, which some servers answer with
    assert members(*path) - carried == left
    assert carried - members(*path) <= ours


@pytest.mark.parametrize(
    "body",
    [
        b'{"Messages":[{"MessageId":"\xff","ReceiptHandle":"r","Body":"b"}]}',
        b'{"Messages":[{"MessageId":"i","ReceiptHandle":"r","Body":%b' % (b'{"M":' * 100_000),
    ],
    ids=["no UTF-8", "nested without end"],
)
def test_an_answer_of_sqs_that_nobody_can_read_passes_by_itself(body: bytes):
    with pytest.raises(Transient, match="cannot be read"):
        cut_sqs(body, frame=sqs_frame(QUEUE, windowed=False), cursor=CURSOR, limit=10, now=7.0)
