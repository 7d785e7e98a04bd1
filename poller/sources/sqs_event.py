"""A ReceiveMessage answer of SQS cut into records of the event. Bodies are never decoded. No I/O, no clock.

Source: Lambda guide, "Using Lambda with Amazon SQS", and events observed on AWS.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, UnsetType

from poller.model.errors import Transient
from poller.model.record import Cursor, Page, Record
from poller.sources.arn import parse_arn
from poller.sources.wire import present


class _Attribute(msgspec.Struct, gc=False):
    DataType: Raw
    StringValue: Raw = Raw(b"")
    BinaryValue: Raw = Raw(b"")
    StringListValues: Raw = Raw(b"[]")
    BinaryListValues: Raw = Raw(b"[]")


class _Message(msgspec.Struct, gc=False):
    MessageId: str
    ReceiptHandle: str
    Body: Raw
    MD5OfBody: Raw = Raw(b"null")
    Attributes: Raw = Raw(b"{}")
    MD5OfMessageAttributes: Raw = Raw(b"null")
    MessageAttributes: dict[str, _Attribute] | None = None


class _Answer(msgspec.Struct):
    Messages: list[_Message] | None = None


class _SystemAttributes(msgspec.Struct, gc=False):
    """What we look at ourselves; all of them travel."""

    SentTimestamp: str = ""
    MessageGroupId: str = ""
    AWSTraceHeader: Raw = Raw(b"")


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
_system_decoder = msgspec.json.Decoder(_SystemAttributes)
_encoder = msgspec.json.Encoder()
_NOTHING, _NULL, _EMPTY = Raw(b""), Raw(b"null"), Raw(b"{}")


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
        no_digest=_NULL if windowed else UNSET,
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
        records = tuple([_record(message, frame, now) for message in messages])
    except msgspec.DecodeError as error:
        raise Transient(f"sqs ReceiveMessage: the answer cannot be read: {error}") from error
    return Page(records=records, cursor=cursor, full=len(records) >= limit)


def _record(message: _Message, frame: SqsFrame, now: float) -> Record:
    named, attributes = message.MessageAttributes, message.Attributes
    if attributes == _NULL:
        attributes = _EMPTY
    system = _system_decoder.decode(attributes)
    element = _Element(
        message.MessageId,
        message.ReceiptHandle,
        message.Body,
        attributes,
        Raw(b"{%s}" % _attributes(named)) if named else _EMPTY,
        frame.no_digest if message.MD5OfMessageAttributes == _NULL else message.MD5OfMessageAttributes,
        message.MD5OfBody,
        frame.tail,
    )
    return Record(
        message.MessageId,
        _encoder.encode(element),
        int(system.SentTimestamp) / 1000 if system.SentTimestamp.isdecimal() else now,
        system.MessageGroupId,
        message.ReceiptHandle,
        system.AWSTraceHeader != _NOTHING or (named is not None and "traceparent" in named),
    )


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
