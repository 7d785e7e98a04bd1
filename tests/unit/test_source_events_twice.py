"""The cut against an obvious second one, of dictionaries: whatever a service answers, both make the same events of it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poller.model.errors import Transient
from poller.model.record import Cursor, Record, TrimHorizon, event_of
from poller.sources.dynamodb_event import cut_dynamodb, dynamodb_frame
from poller.sources.kinesis_event import cut_kinesis, kinesis_frame
from poller.sources.sqs_event import cut_sqs, sqs_frame

STREAM = "arn:aws:kinesis:eu-west-1:111122223333:stream/s"
TABLE = "arn:aws:dynamodb:eu-west-1:111122223333:table/t/stream/2026-01-01T00:00:00.000"
QUEUE = "arn:aws:sqs:eu-west-1:111122223333:q"
NOW = 7.0

texts = st.text(max_size=12)
numbers = st.integers(min_value=1, max_value=10**30).map(str)
moments = st.floats(min_value=0, max_value=4e9)
values = st.one_of(
    st.fixed_dictionaries({"S": texts}),
    st.fixed_dictionaries({"N": numbers}),
    st.fixed_dictionaries({"BOOL": st.booleans()}),
    st.fixed_dictionaries({"L": st.lists(st.fixed_dictionaries({"S": texts}), max_size=2)}),
)
items = st.dictionaries(texts, values, max_size=3)


@st.composite
def answers(draw: st.DrawFn, records: st.SearchStrategy[dict[str, Any]], name: str) -> tuple[bytes, Any]:
    """An answer as bytes, in one of the ways that JSON can be written; fields in any order, absent ones null or left out."""
    given_records = []
    for record in draw(st.lists(records, max_size=4)):
        shuffled = {key: record[key] for key in draw(st.permutations(list(record)))}
        if draw(st.booleans()):
            shuffled = {key: value for key, value in shuffled.items() if value is not None}
        given_records.append(shuffled)
    answer = {name: given_records, "NextShardIterator": "next", "Unheard": {"of": [1]}}
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :")]))
    written = json.dumps(answer, separators=separators, ensure_ascii=draw(st.booleans()))
    return written.encode("utf-8"), answer


def without_nothing(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value is not None}


kinesis_records = st.fixed_dictionaries(
    {
        "SequenceNumber": numbers,
        "Data": st.binary(max_size=12).map(lambda data: base64.b64encode(data).decode()),
        "PartitionKey": st.none() | texts,
        "ApproximateArrivalTimestamp": st.none() | moments,
        "EncryptionType": st.sampled_from([None, "NONE", "KMS"]),
    }
)


@given(answers(kinesis_records, "Records"))
@settings(max_examples=60)
def test_both_cuts_make_the_same_event_of_kinesis_records(answer):
    body, parsed = answer
    expected = [
        {
            "eventID": f"shard-1:{record['SequenceNumber']}",
            "eventName": "aws:kinesis:record",
            "eventVersion": "1.0",
            "eventSource": "aws:kinesis",
            "eventSourceARN": STREAM,
            "invokeIdentityArn": "arn:aws:iam::111122223333:role/poller",
            "awsRegion": "eu-west-1",
            "kinesis": without_nothing(
                {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": record.get("PartitionKey"),
                    "sequenceNumber": record["SequenceNumber"],
                    "data": record["Data"],
                    "approximateArrivalTimestamp": record.get("ApproximateArrivalTimestamp"),
                    "encryptionType": None if record.get("EncryptionType") == "NONE" else record.get("EncryptionType"),
                }
            ),
        }
        for record in parsed["Records"]
    ]
    page = cut_kinesis(
        body, frame=kinesis_frame(STREAM, None), shard="shard-1", position=TrimHorizon(), limit=9, now=NOW
    )
    assert json.loads(event_of(page.records))["Records"] == expected
    assert [(each.id, each.key, each.arrived) for each in page.records] == [
        (
            record["SequenceNumber"],
            record.get("PartitionKey") or "",
            NOW if record.get("ApproximateArrivalTimestamp") is None else record["ApproximateArrivalTimestamp"],
        )
        for record in parsed["Records"]
    ]


changes = st.fixed_dictionaries(
    {
        "SequenceNumber": numbers,
        "ApproximateCreationDateTime": st.none() | moments,
        "Keys": st.none() | st.dictionaries(texts, values, min_size=1, max_size=2),
        "NewImage": st.none() | items,
        "OldImage": st.none() | items,
        "SizeBytes": st.none() | st.integers(min_value=0),
        "StreamViewType": st.none() | st.just("NEW_IMAGE"),
    }
)
table_records = st.fixed_dictionaries(
    {
        "eventID": texts,
        "eventName": st.sampled_from(["INSERT", "MODIFY", "REMOVE"]),
        "eventVersion": st.just("1.1"),
        "awsRegion": st.just("elsewhere"),
        "dynamodb": changes,
        "userIdentity": st.none() | st.just({"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}),
    }
)


@given(answers(table_records, "Records"))
@settings(max_examples=60)
def test_both_cuts_make_the_same_event_of_dynamodb_records(answer):
    body, parsed = answer
    expected = []
    for record in parsed["Records"]:
        who = record.get("userIdentity")
        identity = {"type": who["Type"], "principalId": who["PrincipalId"]} if who else None
        expected.append(
            without_nothing(
                {
                    "eventID": record["eventID"],
                    "eventName": record["eventName"],
                    "eventVersion": "1.1",
                    "eventSource": "aws:dynamodb",
                    "awsRegion": "eu-west-1",
                    "eventSourceARN": TABLE,
                    "userIdentity": identity,
                    "dynamodb": without_nothing(record["dynamodb"]),
                }
            )
        )
    page = cut_dynamodb(body, frame=dynamodb_frame(TABLE), position=TrimHorizon(), limit=9, now=NOW)
    assert json.loads(event_of(page.records))["Records"] == expected
    for cut, record in zip(page.records, parsed["Records"], strict=True):
        keys = record["dynamodb"].get("Keys")
        assert cut.key == (
            "" if keys is None else json.dumps(keys, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        )


escaped_texts = texts | st.text('"\\/\n\0\x7fé🙂{}[],:', max_size=12)
"""Also what JSON has to escape, and what looks like JSON."""
attributes = st.dictionaries(
    escaped_texts | st.just("traceparent"),
    st.fixed_dictionaries({"DataType": st.just("String"), "StringValue": escaped_texts})
    | st.fixed_dictionaries({"DataType": st.just("Binary"), "BinaryValue": st.just("AP8=")}),
    max_size=2,
)
MOMENTS = {"1500": 1.5, "0": 0.0, "1764460800123": 1764460800.123} | dict.fromkeys(
    ["", "x", "-5", "+5", " 7", "1.5", "\u0661\u0662", "9" * 25, "9" * 5000, '1500","SentTimestamp":"7', None], NOW
)
"""What a SentTimestamp says; what is no whole number of milliseconds says nothing."""
system_attributes = st.fixed_dictionaries(
    {},
    optional={
        "SentTimestamp": st.sampled_from(list(MOMENTS)),
        "MessageGroupId": escaped_texts | st.just('","SentTimestamp":"7'),
        "AWSTraceHeader": escaped_texts,
        "SenderId": escaped_texts,
        "New": escaped_texts,
    },
)
messages = st.fixed_dictionaries(
    {
        "MessageId": escaped_texts,
        "ReceiptHandle": escaped_texts,
        "Body": escaped_texts | st.sampled_from(['{"Attributes":{"SentTimestamp":"7"}}', '"}],"Messages":[{']),
        "MD5OfBody": st.none() | st.just("5d41402abc4b2a76b9719d911017c592"),
        "Attributes": st.none() | system_attributes,
        "MD5OfMessageAttributes": st.none() | st.just("ab"),
        "MessageAttributes": st.none() | attributes,
    }
)


@given(answers(messages, "Messages"))
@settings(max_examples=300)
def test_both_cuts_make_the_same_event_of_messages(answer):
    body, parsed = answer
    expected = []
    for message in parsed["Messages"]:
        element = {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message.get("Attributes") or {},
            "messageAttributes": {
                name: without_nothing(
                    {
                        "stringValue": attribute.get("StringValue"),
                        "binaryValue": attribute.get("BinaryValue"),
                        "stringListValues": [],
                        "binaryListValues": [],
                        "dataType": attribute["DataType"],
                    }
                )
                for name, attribute in (message.get("MessageAttributes") or {}).items()
            },
            "md5OfBody": message.get("MD5OfBody"),
            "eventSource": "aws:sqs",
            "eventSourceARN": QUEUE,
            "awsRegion": "eu-west-1",
        }
        if message.get("MD5OfMessageAttributes"):
            element["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
        expected.append(element)
    page = cut_sqs(
        body, frame=sqs_frame(QUEUE, windowed=False), cursor=Cursor(position=TrimHorizon()), limit=9, now=NOW
    )
    assert json.loads(event_of(page.records))["Records"] == expected
    assert [(each.id, each.receipt) for each in page.records] == [
        (message["MessageId"], message["ReceiptHandle"]) for message in parsed["Messages"]
    ]
    for cut, message in zip(page.records, parsed["Messages"], strict=True):
        system = message.get("Attributes") or {}
        assert cut.arrived == MOMENTS[system.get("SentTimestamp")]
        assert cut.key == system.get("MessageGroupId", "")
        assert cut.traced == ("AWSTraceHeader" in system or "traceparent" in (message.get("MessageAttributes") or {}))
    assert page.size_bytes == sum(len(each.body) for each in page.records)


@pytest.mark.parametrize("spaced", [False, True])
def test_a_torn_answer_is_no_page_wherever_it_ends(spaced: bool):
    message = {"MessageId": "m", "ReceiptHandle": "r", "Body": '"}]}', "Attributes": {"SentTimestamp": "1500"}}
    whole = json.dumps({"Messages": [message, message]}, separators=None if spaced else (",", ":")).encode()
    frame, cursor = sqs_frame(QUEUE, windowed=False), Cursor(position=TrimHorizon())
    assert len(cut_sqs(whole, frame=frame, cursor=cursor, limit=9, now=NOW).records) == 2
    for end in range(len(whole)):
        with pytest.raises(Transient):
            cut_sqs(whole[:end], frame=frame, cursor=cursor, limit=9, now=NOW)


@pytest.mark.parametrize(
    "attributes", ["[]", "7", '"null"', '{"MessageGroupId":7}', '{"SentTimestamp":"x","MessageGroupId":[]}']
)
def test_system_attributes_of_another_shape_are_no_page(attributes: str):
    body = b'{"Messages":[{"MessageId":"m","ReceiptHandle":"r","Body":"b","Attributes":%b}]}' % attributes.encode()
    with pytest.raises(Transient):
        cut_sqs(body, frame=sqs_frame(QUEUE, windowed=False), cursor=Cursor(position=TrimHorizon()), limit=9, now=NOW)


plain_records = st.fixed_dictionaries(
    {
        "SequenceNumber": numbers,
        "Data": st.binary(max_size=12).map(lambda data: base64.b64encode(data).decode()),
        "PartitionKey": texts,
        "ApproximateArrivalTimestamp": moments,
    },
    optional={"EncryptionType": st.sampled_from([None, "NONE", "KMS"])},
)
lacking = {"SequenceNumber": "1", "Data": "", "EncryptionType": "KMS"}


@given(read=st.lists(plain_records, max_size=5), escaped=st.booleans())
@settings(max_examples=60)
def test_kinesis_records_that_lack_nothing_are_cut_together_as_they_are_one_by_one(read: list[Any], escaped: bool):
    def cut(records: list[Any]) -> tuple[Record, ...]:
        body = json.dumps({"Records": records, "NextShardIterator": "next"}, ensure_ascii=escaped).encode()
        frame = kinesis_frame(STREAM, None)
        return cut_kinesis(body, frame=frame, shard="shard-1", position=TrimHorizon(), limit=9, now=NOW).records

    assert cut(read) == cut([*read, lacking])[:-1]


text_key, number_key = st.fixed_dictionaries({"S": texts}), st.fixed_dictionaries({"N": numbers})
tables = [
    st.fixed_dictionaries({"pk": text_key}),
    st.fixed_dictionaries({"pk": text_key, "sk": number_key}),
    st.fixed_dictionaries({"sk": number_key, "pk": text_key}),
    st.dictionaries(texts, values, min_size=1, max_size=2),
]
changes_of_tables = st.sampled_from([*tables, st.one_of(tables)]).flatmap(
    lambda keys: st.lists(
        st.fixed_dictionaries(
            {"SequenceNumber": numbers, "Keys": keys, "ApproximateCreationDateTime": st.integers(1, 3)},
            optional={"NewImage": items, "OldImage": st.none() | items, "SizeBytes": st.integers(0, 9)},
        ),
        max_size=5,
    )
)


@given(read=changes_of_tables, escaped=st.booleans())
@settings(max_examples=200)
def test_dynamodb_records_are_cut_together_as_they_are_one_by_one(read: list[Any], escaped: bool):
    def cut(changes: list[Any]) -> tuple[Record, ...]:
        records = [{"eventID": "e", "eventName": "MODIFY", "dynamodb": change} for change in changes]
        body = json.dumps({"Records": records}, ensure_ascii=escaped, separators=(",", ":")).encode()
        frame = dynamodb_frame(TABLE)
        return cut_dynamodb(body, frame=frame, position=TrimHorizon(), limit=9, now=NOW).records

    assert cut(read) == tuple(record for change in read for record in cut([change]))
