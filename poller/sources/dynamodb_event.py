"""A GetRecords answer of DynamoDB Streams cut into records of the event. Images are never decoded. No I/O, no clock.

Source: Lambda guide, "Using Lambda with DynamoDB", and events observed on AWS.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any, TypeVar

import msgspec
from msgspec import Raw
from msgspec.structs import astuple

from poller.model.errors import Transient
from poller.model.record import After, At, Counted, Cursor, Page, Position, Record
from poller.sources.arn import parse_arn
from poller.sources.wire import ABSENT, NOTHING, NULL, UNREADABLE, present

T = TypeVar("T")

_PAGE_BYTES = 1_000_000
"""A page is cut where its records, counted in DynamoDB's smaller way, would pass this."""


class _Identity(msgspec.Struct, gc=False):
    """Who deleted the item: the API's model spells the names in capitals, its documentation and Lambda do not."""

    Type: Raw = NOTHING
    PrincipalId: Raw = NOTHING
    type: Raw = NOTHING
    principalId: Raw = NOTHING  # noqa: N815  -- the wire's name


class _Change(msgspec.Struct, gc=False):
    SequenceNumber: str
    ApproximateCreationDateTime: float | None = None
    Keys: Raw = NOTHING
    NewImage: Raw = NOTHING
    OldImage: Raw = NOTHING
    SizeBytes: Raw = NOTHING
    StreamViewType: str | None = None


class _Record(msgspec.Struct, gc=False):
    """A record on the wire. The frame says `eventVersion`, `eventSource` and `awsRegion`, as Lambda does."""

    eventID: Raw  # noqa: N815  -- the wire's name
    eventName: str  # noqa: N815
    dynamodb: _Change
    userIdentity: _Identity | None = None  # noqa: N815


class _Page(msgspec.Struct):
    Records: list[_Record]
    NextShardIterator: str | None = None


_decoder = msgspec.json.Decoder(_Page)
_keys_decoder = msgspec.json.Decoder(dict[str, Any])
_keys_encoder = msgspec.json.Encoder(order="sorted")
_PLAIN_KEYS = re.compile(rb'\{"([^"\\]*)":\{"([A-Z]+)":"[^"\\]*"\}(?:,"([^"\\]*)":\{"([A-Z]+)":"[^"\\]*"\})?\}')
"""One or two attributes without space between and escapes within: as the encoder writes them, when they are in order."""


class DynamoDBFrame(msgspec.Struct, frozen=True):
    """What all events of a stream say alike."""

    source: bytes
    """From the event's version to its ARN."""


def dynamodb_frame(arn: str) -> DynamoDBFrame:
    """The frame of a stream's events."""
    encode = msgspec.json.encode
    return DynamoDBFrame(
        source=b',"eventVersion":"1.1","eventSource":"aws:dynamodb","awsRegion":'
        + encode(parse_arn(arn).region)
        + b',"eventSourceARN":'
        + encode(arn)
    )


def cut_dynamodb(body: bytes | bytearray, *, frame: DynamoDBFrame, position: Position, limit: int, now: float) -> Page:
    """Cut an answer into a page.

    A position `At` a moment is kept by skipping what is older, from the oldest record on: it also serves to find
    LATEST again after a restart, on every server, with or without iterators for a moment. Until a record is new
    enough, the position does not move on, so that an expired iterator begins to skip anew.

    Args:
        body: as it came.
        frame: the stream's.
        position: where the read began; the page's when nothing was read.
        limit: records asked for.
        now: unix seconds, the creation of a record that does not say its own.

    Raises:
        Transient: the body is torn, or no answer of GetRecords.
    """
    try:
        page = _decoder.decode(body)
        records = _records(page.Records, frame.source, now)
    except UNREADABLE as error:
        raise Transient(f"dynamodbstreams GetRecords: the answer cannot be read: {error}") from error
    kept = records
    if isinstance(position, At):
        since = math.floor(position.time)  # creation times are whole seconds
        kept = Counted(record for record in records if record.arrived >= since)
    if kept:
        position = After(records[-1].id)
    return Page(
        records=kept,
        cursor=None if page.NextShardIterator is None else Cursor(position=position, token=page.NextShardIterator),
        full=len(records) >= limit or len(body) >= _PAGE_BYTES,
    )


def _records(read: list[_Record], source: bytes, now: float) -> Counted:
    """All records of a page, field by field, so that no line of Python is run for each of them."""
    if not read:
        return Counted(())
    event_ids, names, changes, identities = zip(*map(astuple, read), strict=True)
    sequences, created, keys, new, old, sizes, views = zip(*map(astuple, changes), strict=True)
    key_texts, all_keys = _item_keys(keys)
    pieces = _woven(
        b'{"eventID":',
        event_ids,
        _each(_name, names),
        source,
        b"" if identities.count(None) == len(read) else list(map(_identity, identities)),
        b',"dynamodb":{',
        _each(_created, created),
        *_field(b'"Keys":', keys, b",", whole=all_keys),
        *_field(b'"NewImage":', new, b","),
        *_field(b'"OldImage":', old, b","),
        b'"SequenceNumber":"',
        list(map(str.encode, sequences)),
        b'"',
        *_field(b',"SizeBytes":', sizes),
        _each(_view, views),
        b"}}",
    )
    arrived = [now if at is None else at for at in created] if None in created else created
    bodies = list(map(b"".join, pieces))
    return Counted(map(Record, sequences, bodies, arrived, key_texts), bodies)


def _woven(*parts: bytes | Sequence[bytes | Raw]) -> Iterable[tuple[bytes | Raw, ...]]:
    """The pieces of each record.

    Args:
        parts: what all records say alike, and columns of what each says; texts that follow each other become one.
    """
    columns: list[Iterable[bytes | Raw]] = []
    said = b""
    for part in parts:
        if isinstance(part, bytes):
            said += part
            continue
        columns += [repeat(said), part] if said else [part]
        said = b""
    return zip(*columns, repeat(said))


def _each(write: Callable[[T], bytes], values: Sequence[T]) -> bytes | Sequence[bytes]:
    """A column of values of which a page has few different ones: what all records say where there is one only."""
    first = values[0]
    if values.count(first) == len(values):
        return write(first)
    written = {value: write(value) for value in set(values)}
    return list(map(written.__getitem__, values))


def _name(name: str) -> bytes:
    return b',"eventName":' + msgspec.json.encode(name)


def _created(at: float | None) -> bytes:
    return b"" if at is None else b'"ApproximateCreationDateTime":%r,' % at


def _view(view: str | None) -> bytes:
    return b"" if view is None else b',"StreamViewType":' + msgspec.json.encode(view)


def _field(
    label: bytes, column: Sequence[Raw], end: bytes = b"", *, whole: bool = False
) -> Sequence[bytes | Sequence[bytes | Raw]]:
    """A field of every record that has it, as parts of what is woven.

    Args:
        whole: every record is known to have it, so that nobody has to look.
    """
    if not whole and column.count(NULL):
        column = [NOTHING if value == NULL else value for value in column]
    lacking = 0 if whole else column.count(NOTHING)
    if not lacking:
        return (label, column, end)
    if lacking == len(column):
        return ()
    here = list(map(NOTHING.__ne__, column))
    return (
        list(map((b"", label).__getitem__, here)),
        column,
        list(map((b"", end).__getitem__, here)) if end else b"",
    )


def _identity(identity: _Identity | None) -> bytes:
    if identity is None:
        return b""
    kind = present(identity.type) or present(identity.Type) or b"null"
    principal = present(identity.principalId) or present(identity.PrincipalId) or b"null"
    return b',"userIdentity":{"type":' + kind + b',"principalId":' + principal + b"}"


def _item_keys(column: Sequence[Raw]) -> tuple[list[str], bool]:
    """For each record of a page the same text as for every other one of its item, "" where there is none.

    Returns:
        The texts, and whether every record is sure to have one.
    """
    together = b"\n".join(column)
    first = _PLAIN_KEYS.match(together)
    if first and (first[3] is None or first[1] < first[3]) and b"\\" not in together:
        # Without escapes quotes only open and close texts: none reaches into the next record's.
        attributes = b",".join([b'"%b":\\{"%b":"[^"]*"\\}' % (re.escape(name), kind) for name, kind in _pairs(first)])
        if re.fullmatch(b"\\{%b\\}(?:\n\\{%b\\})*+" % (attributes, attributes), together):
            return together.decode().split("\n"), True
    return ["" if each in ABSENT else _item_key(each) for each in map(bytes, column)], False


def _pairs(plain: re.Match[bytes]) -> list[tuple[bytes, bytes]]:
    """The names of one item's key attributes, each with its type, which a table has the same for all items."""
    name, kind, *more = plain.groups()
    return [(name, kind), (more[0], more[1])] if more[0] is not None else [(name, kind)]


def _item_key(keys: bytes) -> str:
    """The same text for every record of an item, in whatever order its attributes came."""
    plain = _PLAIN_KEYS.fullmatch(keys)
    if plain and (plain[3] is None or plain[1] < plain[3]):
        return keys.decode()
    return _keys_encoder.encode(_keys_decoder.decode(keys)).decode()
