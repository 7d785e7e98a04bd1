"""What the store remembers of a mapping, and under which keys. No I/O, no clock."""

from __future__ import annotations

import hashlib

import msgspec

from poller.model.record import At, Position, TrimHorizon


class MappingRow(msgspec.Struct, frozen=True, kw_only=True):
    """Written once, when a mapping first sees its source, before any shard is read."""

    start: TrimHorizon | At
    """StartingPosition, with LATEST resolved to the moment of the first sight."""


class ShardRow(msgspec.Struct, frozen=True, kw_only=True):
    """How far a shard has been processed."""

    position: Position
    ended: bool = False
    """Closed, read to its end, and every record settled."""


def prefix(mapping: str, source: str, identity: str) -> str:
    """The key of a mapping's row, and with "/" the beginning of its shards' keys.

    The source and its identity are part of it: a stream that was deleted and created anew under the same name, or a
    mapping that was pointed at another stream, starts afresh instead of skipping by foreign sequence numbers.
    """
    return f"{mapping}/{hashlib.sha256(f'{source} {identity}'.encode()).hexdigest()[:16]}"


encode = msgspec.json.Encoder().encode
decode_mapping = msgspec.json.Decoder(MappingRow).decode
decode_shard = msgspec.json.Decoder(ShardRow).decode
