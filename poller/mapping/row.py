"""What the store remembers of a mapping, and under which keys. No I/O, no clock."""

from __future__ import annotations

import hashlib

import msgspec

from poller.model.record import At, Position, TrimHorizon

_DIGITS = 16
"""Of a stream, in its key."""


class MappingRow(msgspec.Struct, frozen=True, kw_only=True):
    """Written once, when a mapping first sees its source, before any shard is read."""

    start: TrimHorizon | At
    """StartingPosition, with LATEST resolved to the moment of the first sight."""


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """A batch, without its records."""

    count: int
    last: str
    """The sequence number of its last record."""


class LaneRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A lane that stands ahead of its shard's position, or in the middle of retries."""

    done: str = ""
    """Everything of this lane up to this sequence number is settled; "": nothing behind the position."""
    chunks: tuple[Chunk, ...] = ()
    """The batches that failures made, in the order in which they are delivered."""
    tried: int = 0
    """Attempts that failed with the first of them."""
    request_id: str = ""
    """Under which the first of them is invoked."""


class WindowRow(msgspec.Struct, frozen=True, kw_only=True):
    """An open tumbling window."""

    start: float
    """Unix seconds."""
    state: msgspec.Raw
    """What the function returned last, a JSON value."""


class ShardRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a shard has been processed."""

    position: Position
    """Everything up to here is settled."""
    ended: bool = False
    """Closed, read to its end, and every record settled."""
    lanes: tuple[LaneRow, ...] = ()
    """All lanes in order when one of them has something to say, else none."""
    window: WindowRow | None = None
    owner: str = ""
    """The replica that has the shard; "": nobody."""
    epoch: int = 0
    """Of the owner: in an older one than its present the shard is free."""
    steered: int = 0
    """The last seek of an operator that moved it."""


def prefix(mapping: str, source: str, identity: str) -> str:
    """The key of a mapping's row, and with "/" the beginning of its shards' keys.

    The source and its identity are part of it: a stream that was deleted and created anew under the same name, or a
    mapping that was pointed at another stream, starts afresh instead of skipping by foreign sequence numbers.
    """
    return f"{mapping}/{hashlib.sha256(f'{source} {identity}'.encode()).hexdigest()[:_DIGITS]}"


def is_prefix(key: str, mapping: str) -> bool:
    """Whether this may be the key of the mapping's row, for whichever stream."""
    start, _, digest = key.rpartition("/")
    return start == mapping and len(digest) == _DIGITS and not set(digest) - set("0123456789abcdef")


encode = msgspec.json.Encoder().encode
decode_mapping = msgspec.json.Decoder(MappingRow).decode
decode_shard = msgspec.json.Decoder(ShardRow).decode
