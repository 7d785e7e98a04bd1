"""Records as the Kinesis Producer Library packs them. Source: amazon-kinesis-producer, "aggregation-format"."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def aggregate(key: str, texts: Sequence[str]) -> bytes:
    """One record's data that holds these user records, all of one partition key."""
    records = [_varint(1 << 3) + _varint(0) + _bytes(3, text.encode()) for text in texts]
    message = _bytes(1, key.encode()) + b"".join(_bytes(3, record) for record in records)
    return b"\xf3\x89\x9a\xc2" + message + hashlib.md5(message).digest()


def key_between(first: int, last: int) -> str:
    """A partition key whose hash lies there."""
    return next(
        key for key in map(str, range(100_000)) if first <= int.from_bytes(hashlib.md5(key.encode()).digest()) <= last
    )


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
