"""A ReceiveMessage answer of SQS cut into records of the event. Bodies are never decoded. No I/O, no clock.

Source: Lambda guide, "Using Lambda with Amazon SQS", and events observed on AWS.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

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
    MD5OfBody: Raw = Raw(b"")
    Attributes: Raw = Raw(b"{}")
    MD5OfMessageAttributes: Raw = Raw(b"")
    MessageAttributes: dict[str, _Attribute] | None = None


class _Answer(msgspec.Struct):
    Messages: list[_Message] | None = None


class _SystemAttributes(msgspec.Struct, gc=False):
    """What we look at ourselves; all of them travel."""

    SentTimestamp: str = ""
    MessageGroupId: str = ""


_decoder = msgspec.json.Decoder(_Answer)
_system_decoder = msgspec.json.Decoder(_SystemAttributes)
_encoder = msgspec.json.Encoder()


class SqsFrame(msgspec.Struct, frozen=True):
    """What all events of a queue say alike."""

    tail: bytes
    """From behind the body's digest to the end."""
    windowed: bool
    """Write the digest of no attributes as null instead of leaving it out."""


def sqs_frame(arn: str, *, windowed: bool) -> SqsFrame:
    """The frame of a queue's events."""
    tail = b',"eventSource":"aws:sqs","eventSourceARN":%s,"awsRegion":%s}'
    return SqsFrame(tail=tail % (_encoder.encode(arn), _encoder.encode(parse_arn(arn).region)), windowed=windowed)


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
    attributes = present(message.Attributes) or b"{}"
    system = _system_decoder.decode(attributes)
    body = b"".join(
        (
            b'{"messageId":',
            _encoder.encode(message.MessageId),
            b',"receiptHandle":',
            _encoder.encode(message.ReceiptHandle),
            b',"body":',
            message.Body,
            b',"attributes":',
            attributes,
            b',"messageAttributes":{',
            _attributes(message.MessageAttributes) if message.MessageAttributes else b"",
            b"}",
            _digest(present(message.MD5OfMessageAttributes), windowed=frame.windowed),
            b',"md5OfBody":',
            present(message.MD5OfBody) or b"null",
            frame.tail,
        )
    )
    return Record(
        id=message.MessageId,
        body=body,
        arrived=int(system.SentTimestamp) / 1000 if system.SentTimestamp.isdecimal() else now,
        key=system.MessageGroupId,
        receipt=message.ReceiptHandle,
    )


def _digest(digest: bytes, *, windowed: bool) -> bytes:
    if digest:
        return b',"md5OfMessageAttributes":' + digest
    return b',"md5OfMessageAttributes":null' if windowed else b""


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
