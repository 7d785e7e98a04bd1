"""A GetRecords answer of Kinesis cut into records of the event. The payload is never decoded. No I/O, no clock.

Source: Lambda guide, "Using Lambda to process records from Kinesis", and events observed on AWS.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat

import msgspec
from msgspec import Raw
from msgspec.structs import astuple

from poller.model.errors import Transient
from poller.model.record import After, Counted, Cursor, Page, Position, Record
from poller.sources.arn import parse_arn
from poller.sources.wire import ABSENT, NOTHING, UNREADABLE, present

_NOT_ENCRYPTED = (*ABSENT, b'"NONE"')


class _Record(msgspec.Struct, gc=False):
    """A record on the wire. `EncryptionType` is carried of encrypted streams only, as AWS does."""

    SequenceNumber: str
    Data: Raw
    PartitionKey: Raw = NOTHING  # not there on streams that distribute records by themselves
    ApproximateArrivalTimestamp: Raw = NOTHING
    EncryptionType: Raw = NOTHING


class _Page(msgspec.Struct):
    """The answer. `ChildShards` is left out: the topology tells it, also after a restart."""

    Records: list[_Record]
    NextShardIterator: str | None = None
    MillisBehindLatest: float | None = None


_decoder = msgspec.json.Decoder(_Page)
_text_decoder = msgspec.json.Decoder(str)
_number_decoder = msgspec.json.Decoder(float)
_texts_decoder = msgspec.json.Decoder(list[str])
_numbers_decoder = msgspec.json.Decoder(list[float])


class KinesisFrame(msgspec.Struct, frozen=True):
    """What all events of a stream say alike."""

    head: bytes
    """From behind the event id to the partition key."""


def kinesis_frame(arn: str, role_arn: str | None) -> KinesisFrame:
    """The frame of a stream's events."""
    encode = msgspec.json.encode
    parsed = parse_arn(arn)
    return KinesisFrame(
        head=b","
        b'"eventName":"aws:kinesis:record",'
        b'"eventVersion":"1.0",'
        b'"eventSource":"aws:kinesis",'
        b'"eventSourceARN":' + encode(arn) + b","
        b'"invokeIdentityArn":' + encode(parsed.invoke_identity(role_arn)) + b","
        b'"awsRegion":' + encode(parsed.region) + b","
        b'"kinesis":{"kinesisSchemaVersion":"1.0"'
    )


def cut_kinesis(
    body: bytes | bytearray, *, frame: KinesisFrame, shard: str, position: Position, limit: int, now: float
) -> Page:
    """Cut an answer into a page.

    Args:
        body: as it came.
        frame: the stream's.
        shard: where it was read.
        position: where the read began; the page's when it is empty.
        limit: records asked for.
        now: unix seconds, the arrival of a record that does not say its own.

    Raises:
        Transient: the body is torn, or no answer of GetRecords.
    """
    try:
        page = _decoder.decode(body)
        records = _records(page.Records, frame, shard, now) if page.Records else ()
    except UNREADABLE as error:
        raise Transient(f"kinesis GetRecords: the answer cannot be read: {error}") from error
    behind = (page.MillisBehindLatest or 0.0) / 1000
    if records:
        position = After(records[-1].id)
    return Page(
        records=records,
        cursor=None if page.NextShardIterator is None else Cursor(position=position, token=page.NextShardIterator),
        behind=behind,
        full=len(records) >= limit or (behind > 0 and bool(records)),  # 10 MiB cut a page, too
    )


def _records(read: list[_Record], frame: KinesisFrame, shard: str, now: float) -> tuple[Record, ...]:
    """All records of a page, field by field, so that no line of Python is run for each of them."""
    start, middle = b'{"eventID":"' + shard.encode() + b":", b'"' + frame.head
    if len(read) == 1:  # it would be dearer
        return tuple([_record(record, start, middle, now) for record in read])
    ids, data, keys, times, encryptions = zip(*map(astuple, read), strict=True)
    try:
        key_texts = _texts_decoder.decode(b"[%b]" % b",".join(keys))
        arrivals = _numbers_decoder.decode(b"[%b]" % b",".join(times))
    except msgspec.DecodeError:  # some have none
        return tuple([_record(record, start, middle, now) for record in read])
    if not len(read) == len(key_texts) == len(arrivals):
        return tuple([_record(record, start, middle, now) for record in read])
    sequences = list(map(str.encode, ids))
    pieces = zip(
        repeat(start),
        sequences,
        repeat(middle + b',"partitionKey":'),
        keys,
        repeat(b',"sequenceNumber":"'),
        sequences,
        repeat(b'","data":'),
        data,
        repeat(b',"approximateArrivalTimestamp":'),
        times,
        _ends(encryptions),
    )
    bodies = list(map(b"".join, pieces))
    return Counted(map(Record, ids, bodies, arrivals, key_texts), bodies)


def _ends(encryptions: Sequence[Raw]) -> Iterable[bytes]:
    """What stands behind the arrival of each record."""
    if encryptions.count(NOTHING) == len(encryptions):
        return repeat(b"}}")
    texts = list(map(bytes, encryptions))
    ends = {text: _end(text) for text in {*texts}}
    return map(ends.__getitem__, texts)


def _end(encryption: bytes) -> bytes:
    return b"}}" if encryption in _NOT_ENCRYPTED else b',"encryptionType":%b}}' % encryption


def _record(record: _Record, start: bytes, middle: bytes, now: float) -> Record:
    """One record, whatever it lacks, of whatever stream."""
    sequence = record.SequenceNumber.encode()
    key = present(record.PartitionKey)
    arrived = present(record.ApproximateArrivalTimestamp)
    body = b"".join(
        (
            start,
            sequence,
            middle,
            b',"partitionKey":' + key if key else b"",
            b',"sequenceNumber":"',
            sequence,
            b'","data":',
            record.Data,
            b',"approximateArrivalTimestamp":' + arrived if arrived else b"",
            _end(bytes(record.EncryptionType)),
        )
    )
    return Record(
        id=record.SequenceNumber,
        body=body,
        arrived=_number_decoder.decode(arrived) if arrived else now,
        key=_text_decoder.decode(key) if key else "",
    )
