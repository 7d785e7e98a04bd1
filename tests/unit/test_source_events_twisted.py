"""Answers twisted in one place: a page is cut as each of its records is alone, and is JSON, or it is refused as a whole."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from poller.model.errors import Transient
from poller.model.record import Page, Record, TrimHorizon, event_of
from poller.sources import dynamodb_event
from poller.sources.dynamodb_event import cut_dynamodb, dynamodb_frame
from poller.sources.kinesis_event import cut_kinesis, kinesis_frame

STREAM = "arn:aws:kinesis:eu-west-1:111122223333:stream/s"
TABLE = "arn:aws:dynamodb:eu-west-1:111122223333:table/t/stream/2026-01-01T00:00:00.000"
LIKE_THE_WIRE = [
    '","Data":"',
    '"},{"SequenceNumber":"1',
    "}},{{",
    "null",
    ",,",
    "\n",
    "\\",
    "ü",
    "SequenceNumber",
    "S",
    "",
]
"""Texts of users that look like what stands between two."""

NAMES = [
    *("SequenceNumber", "PartitionKey", "Data", "ApproximateArrivalTimestamp", "EncryptionType"),
    *("eventID", "eventName", "eventVersion", "dynamodb", "userIdentity"),
    *("ApproximateCreationDateTime", "Keys", "NewImage", "OldImage", "SizeBytes", "StreamViewType"),
]

texts = st.sampled_from(LIKE_THE_WIRE) | st.text(max_size=6)
numbers = st.integers(min_value=1, max_value=10**20).map(str)


def kinesis(body: bytes) -> Page:
    frame = kinesis_frame(STREAM, None)
    return cut_kinesis(body, frame=frame, shard="shard-1", position=TrimHorizon(), limit=99, now=7.0)


def dynamodb(body: bytes) -> Page:
    return cut_dynamodb(body, frame=dynamodb_frame(TABLE), position=TrimHorizon(), limit=99, now=7.0)


kinesis_records = st.fixed_dictionaries(
    {
        "SequenceNumber": numbers,
        "ApproximateArrivalTimestamp": st.sampled_from([1_795_000_000, 1_795_000_000.123, 1.5]),
        "Data": st.binary(max_size=9).map(lambda data: base64.b64encode(data).decode()),
        "PartitionKey": texts,
    },
    optional={"EncryptionType": st.sampled_from(["KMS", "NONE", None])},
)
images = st.dictionaries(texts, st.fixed_dictionaries({"S": texts}) | st.just({"M": {"Keys": {"S": "x"}}}), max_size=2)
changes = st.fixed_dictionaries(
    {
        "ApproximateCreationDateTime": st.integers(1, 2),
        "Keys": st.fixed_dictionaries({"pk": st.fixed_dictionaries({"S": texts})}),
        "SequenceNumber": numbers,
    },
    optional={
        "NewImage": images,
        "OldImage": images | st.none(),
        "SizeBytes": st.integers(1, 99),
        "StreamViewType": texts,
    },
)
table_records = st.fixed_dictionaries(
    {
        "eventID": st.sampled_from(["a", "b"]),
        "eventName": st.sampled_from(["INSERT", "MODIFY"]),
        "eventVersion": st.just("1.1"),
        "dynamodb": changes,
    },
    optional={"userIdentity": st.just({"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"})},
)


@st.composite
def answers(draw: st.DrawFn, records: st.SearchStrategy[dict[str, Any]]) -> bytes:
    """An answer as one server or another writes it: each has its order of fields, for all records the same."""
    place = {name: draw(st.integers(0, 99)) for name in NAMES}

    def laid_out(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: laid_out(value[name]) for name in sorted(value, key=lambda name: place.get(name, 0))}

    read = draw(st.lists(records, max_size=4)) * draw(st.sampled_from([1, 1, 1, 60]))
    answer = laid_out({"NextShardIterator": "next", "MillisBehindLatest": 0}) | {"Records": [*map(laid_out, read)]}
    if draw(st.booleans()):
        answer = dict(reversed(answer.items()))
    separators = draw(st.sampled_from([(",", ":"), (",", ":"), (", ", ": ")]))
    return json.dumps(answer, separators=separators, ensure_ascii=draw(st.booleans())).encode()


PIECES = [*b'"\\{}[],:0n \n\t\x00\xff', b"null", b'"A":1,', b"{},", b"\\u0041", b"[[", b",,", b'"Data":"",']


@st.composite
def twisted(draw: st.DrawFn, whole: bytes) -> bytes:
    """The answer with something left out, said twice, put between, or cut off; or as it is."""
    start = draw(st.integers(0, len(whole)))
    end = draw(st.integers(start, min(len(whole), start + 3)))
    piece = draw(st.sampled_from(PIECES))
    between = bytes([piece]) if isinstance(piece, int) else piece
    way = draw(st.sampled_from(["whole", "without", "twice", "between", "instead", "short"]))
    return {
        "whole": whole,
        "without": whole[:start] + whole[end:],
        "twice": whole[:end] + whole[start:],
        "between": whole[:start] + between + whole[start:],
        "instead": whole[:start] + between + whole[end:],
        "short": whole[:start],
    }[way]


class _Each(msgspec.Struct):
    Records: list[Raw]


def check(cut: Callable[[bytes], Page], body: bytes) -> None:
    try:
        page = cut(body)
    except Transient:
        return
    alone: list[Record] = []
    for record in msgspec.json.decode(body, type=_Each).Records:
        alone += cut(b'{"Records":[%b]}' % record).records
    assert page.records == tuple(alone)
    try:
        answer = json.loads(body)
    except UnicodeDecodeError:
        return  # what is never decoded is passed on as it came
    assert len(json.loads(event_of(page.records))["Records"]) == len(answer["Records"])
    assert (None if page.cursor is None else page.cursor.token) == answer.get("NextShardIterator")


@given(body=answers(kinesis_records).flatmap(twisted))
@settings(max_examples=400)
def test_a_twisted_answer_of_kinesis_is_cut_as_its_records_are_alone_or_refused(body: bytes):
    check(kinesis, body)


@given(body=answers(table_records).flatmap(twisted))
@settings(max_examples=400)
def test_a_twisted_answer_of_dynamodb_streams_is_cut_as_its_records_are_alone_or_refused(body: bytes):
    check(dynamodb, body)


@pytest.mark.parametrize("place", [b"1", b"k", b"e"], ids=["sequence number", "key", "field's name"])
def test_an_answer_that_is_no_utf_8_passes_by_itself(place: bytes):
    record = b'{"SequenceNumber":"1","PartitionKey":"k","Data":""}'
    change = b'{"eventID":"i","eventName":"n","dynamodb":{"SequenceNumber":"1","Keys":{"a":{"S":"k"}}}}'
    for cut, whole in ((kinesis, record), (dynamodb, change)):
        twice = b'{"Records":[%b,%b]}' % (whole, whole.replace(b'"%b"' % place, b'"\xff"'))
        if b"\xff" in twice:
            with pytest.raises(Transient, match="cannot be read"):
                cut(twice)


def test_an_image_nested_without_end_passes_by_itself():
    image = b'{"M":' * 100_000
    with pytest.raises(Transient, match="cannot be read"):
        dynamodb(b'{"Records":[{"eventID":"i","eventName":"n","dynamodb":{"SequenceNumber":"1","NewImage":%b' % image)


@pytest.mark.parametrize(
    ("keys", "at_once"),
    [
        ([b'{"pk":{"S":"a"}}', b'{"pk":{"S":""}}'], True),
        ([b'{"pk":{"B":"AA=="},"sk":{"N":"1"}}', b'{"pk":{"B":"AQ=="},"sk":{"N":"-2.5"}}'], True),
        ([b'{"pk":{"S":"a"}}', b'{"pk":{"N":"1"}}'], False),
        ([b'{"pk":{"S":"a"}}', b'{"pk":{"S":"\\"}}\\n{\\"pk\\":{\\"S\\":\\""}}'], False),
        ([b'{"pk":{"S":"a"}}', b'{"pk":{"S":"a"},"ab":{"S":"b"}}'], False),
        ([b'{"pk":{"S":"a"}}', b'{"pk": {"S":"a"}}'], False),
        ([b'{"sk":{"N":"1"},"pk":{"S":"a"}}', b'{"sk":{"N":"2"},"pk":{"S":"a"}}'], False),
        ([b'{"pk":{"S":"a"}}', b""], False),
        ([b"", b'{"pk":{"S":"a"}}'], False),
        ([b'{"pk":{"S":"a"}}', b"null"], False),
    ],
    ids=[
        "one attribute",
        "two attributes",
        "another type",
        "a key that looks like two records'",
        "one attribute more",
        "a space",
        "out of order",
        "the last has none",
        "the first has none",
        "null",
    ],
)
def test_the_keys_of_a_page_are_read_at_once_where_they_are_of_one_form(keys: list[bytes], at_once: bool):
    assert dynamodb_event._item_keys([Raw(each) for each in keys])[1] is at_once
    found, _ = dynamodb_event._item_keys([Raw(each) for each in keys])
    assert found == [dynamodb_event._item_keys([Raw(each)])[0][0] for each in keys]
