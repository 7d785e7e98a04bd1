"""A ReceiveMessage answer of SQS cut into records of the event. Bodies are never decoded. No I/O, no clock.

Source: Lambda guide, "Using Lambda with Amazon SQS", and events observed on AWS.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from poller.model.errors import Transient
from poller.model.record import Counted, Cursor, Page, Record
from poller.sources.arn import parse_arn
from poller.sources.wire import NOTHING, NULL, UNREADABLE, present

_EMPTY = Raw(b"{}")


class _Attribute(msgspec.Struct, gc=False):
    DataType: Raw
    StringValue: Raw = NOTHING
    BinaryValue: Raw = NOTHING
    StringListValues: Raw = Raw(b"[]")
    BinaryListValues: Raw = Raw(b"[]")


class _Message(msgspec.Struct, gc=False):
    MessageId: str
    ReceiptHandle: str
    Body: Raw
    MD5OfBody: Raw = NULL
    Attributes: Raw = _EMPTY
    MD5OfMessageAttributes: Raw = NULL
    MessageAttributes: dict[str, _Attribute] | None = None


class _Answer(msgspec.Struct):
    Messages: list[_Message] | None = None


class _Undated(msgspec.Struct, gc=False):
    """Of the system attributes what we look at ourselves; all of them travel."""

    MessageGroupId: str = ""
    AWSTraceHeader: Raw = NOTHING


class _SystemAttributes(_Undated, gc=False):
    SentTimestamp: Annotated[int, Meta(ge=0, le=1 << 53)] = -1
    """Milliseconds, written as text; -1: it is not said."""


class _Element(msgspec.Struct, rename="camel", gc=False):
    """A message as the event spells it."""

    message_id: str
    receipt_handle: str
    body: Raw
    attributes: Raw
    message_attributes: Raw
    md5_of_message_attributes: Raw | UnsetType
    md5_of_body: Raw
    event_source: Raw
    """And what stands behind it."""


_decoder = msgspec.json.Decoder(_Answer)
_system_decoder = msgspec.json.Decoder(_SystemAttributes, strict=False)  # a number as text is one
_undated_decoder = msgspec.json.Decoder(_Undated)
_encoder = msgspec.json.Encoder()


class SqsFrame(msgspec.Struct, frozen=True):
    """What all events of a queue say alike."""

    tail: Raw
    """The event source and what follows it, without the brace: a `Raw` is written as it is."""
    no_digest: Raw | UnsetType
    """How the digest of no attributes is written: as null, or not at all."""


def sqs_frame(arn: str, *, windowed: bool) -> SqsFrame:
    """The frame of a queue's events."""
    tail = b'"aws:sqs","eventSourceARN":%s,"awsRegion":%s'
    return SqsFrame(
        tail=Raw(tail % (_encoder.encode(arn), _encoder.encode(parse_arn(arn).region))),
        no_digest=NULL if windowed else UNSET,
    )


def cut_sqs(body: bytes | bytearray, *, frame: SqsFrame, cursor: Cursor, limit: int, now: float) -> Page:
    """Cut an answer into a page.

    Args:
        body: as it came.
        frame: the queue's.
        cursor: stays as it is.
        limit: messages asked for.
        now: unix seconds, the arrival of a message that does not say its own.

    Raises:
        Transient: the body is torn, or no answer of ReceiveMessage.
    """
    try:
        messages = _decoder.decode(body).Messages or []
        records = _records(messages, frame, now)
    except UNREADABLE as error:
        raise Transient(f"sqs ReceiveMessage: the answer cannot be read: {error}") from error
    return Page(records=records, cursor=cursor, full=len(records) >= limit)


def _records(messages: list[_Message], frame: SqsFrame, now: float) -> Counted:
    tail, no_digest = frame.tail, frame.no_digest
    records: list[Record] = []
    for message in messages:  # all in one function: a call for each message costs
        id_, receipt, attributes = message.MessageId, message.ReceiptHandle, message.Attributes
        named, digest = message.MessageAttributes, message.MD5OfMessageAttributes
        try:
            system = _system_decoder.decode(attributes)
        except msgspec.ValidationError:
            system, attributes = _odd(attributes)
        element = _Element(
            id_,
            receipt,
            message.Body,
            attributes,
            Raw(b"{%b}" % _attributes(named)) if named else _EMPTY,
            no_digest if digest is NULL or digest == NULL else digest,
            message.MD5OfBody,
            tail,
        )
        sent = system.SentTimestamp
        records.append(
            Record(
                id_,
                _encoder.encode(element),
                sent / 1000 if sent >= 0 else now,
                system.MessageGroupId,
                receipt,
                system.AWSTraceHeader is not NOTHING or (named is not None and "traceparent" in named),
            )
        )
    return Counted(records)


def _odd(attributes: Raw) -> tuple[_SystemAttributes, Raw]:
    """The attributes of a message that says it has none, or whose timestamp is no moment; and what travels.

    Raises:
        DecodeError: more is wrong with them than that.
    """
    if attributes == NULL:
        return _SystemAttributes(), _EMPTY
    read = _undated_decoder.decode(attributes)
    return _SystemAttributes(MessageGroupId=read.MessageGroupId, AWSTraceHeader=read.AWSTraceHeader), attributes


def _attributes(attributes: dict[str, _Attribute]) -> bytes:
    return b",".join([_encoder.encode(name) + b":" + _attribute(attribute) for name, attribute in attributes.items()])


def _attribute(attribute: _Attribute) -> bytes:
    text, binary = present(attribute.StringValue), present(attribute.BinaryValue)
    return b"".join(
        (
            b"{",
            b'"stringValue":' + text + b"," if text else b"",
            b'"binaryValue":' + binary + b"," if binary else b"",
            b'"stringListValues":',
            present(attribute.StringListValues) or b"[]",
            b',"binaryListValues":',
            present(attribute.BinaryListValues) or b"[]",
            b',"dataType":',
            attribute.DataType,
            b"}",
        )
    )
