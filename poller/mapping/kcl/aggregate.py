"""How many user records a record holds: more than one when the Kinesis Producer Library packed it. No I/O, no clock.

Source: amazon-kinesis-producer, "aggregation-format": magic, a protobuf message, and the MD5 of that message.
"""

from __future__ import annotations

import hashlib

_MAGIC = b"\xf3\x89\x9a\xc2"
_DIGEST_BYTES = 16
_RECORDS = 3
"""The number of `repeated Record records` in `AggregatedRecord`."""


def user_records(data: bytes) -> int:
    """The user records in a record's data; 1 for data that is no aggregate, as the library sees it."""
    message, digest = data[len(_MAGIC) : -_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if not data.startswith(_MAGIC) or not message:
        return 1
    if hashlib.md5(message, usedforsecurity=False).digest() != digest:
        return 1
    try:
        return _fields(message, _RECORDS)
    except (IndexError, ValueError):
        return 1


def _fields(message: bytes, number: int) -> int:
    """How often a field stands in a protobuf message. Raises `IndexError` or `ValueError` for what is none."""
    found = at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                _, at = _varint(message, at)
            case 1:
                at += 8
            case 2:
                size, at = _varint(message, at)
                at += size
            case 5:
                at += 4
            case kind:
                raise ValueError(f"wire type {kind}")
        found += tag >> 3 == number
    if at != len(message):
        raise IndexError("the message ends within a field")
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the place behind it."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
