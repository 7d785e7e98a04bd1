"""What operators wish of a mapping, and what follows from it for each shard. No I/O, no clock, no chance.

The wishes of a mapping are one row of the store, written by compare-and-swap by whoever takes an order and read by all
replicas. A seek names the shards that it is about. A shard's row says which seek was the last that moved it, in the
same write that moved it: so each is done once, by whoever has the shard, whatever crashes in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from poller.mapping.row import ShardRow
from poller.model.record import Partition, Position

FOLDER = "@steer/"
"""Where the wishes lie in the store; no mapping's name holds an "@"."""


class Pause(msgspec.Struct, frozen=True):
    """Somebody's wish that nothing is delivered."""

    who: str
    at: float
    """Unix seconds."""


class Seek(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody's wish that shards go on elsewhere."""

    serial: int
    """Greater than that of every seek before it."""
    stream: str
    """The key of the stream's rows: a stream that was created anew under the same name is another one."""
    shards: tuple[str, ...]
    """Those that were listed when it was wished. Later ones are their children, and begin at their own beginnings."""
    to: Position
    forward: bool = False
    """LATEST, resolved to the moment of the order: a shard that is past it stays where it is."""
    reopens: bool = False
    """Shards that have ended are read again, and their children wait for them again."""
    asked: str
    """The place as it was asked for, for people."""
    who: str
    at: float
    """Unix seconds."""


class Wishes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The row."""

    serial: int = 0
    """Of the last seek. The row stays when nothing is wished any more, so that serials grow for ever."""
    paused: Pause | None = None
    """The whole mapping."""
    shards: Mapping[str, Pause] = {}
    """Shards that are paused by themselves."""
    seeks: tuple[Seek, ...] = ()
    """Those that are not done for all their shards, in the order of their serials."""


encode = msgspec.json.Encoder(order="deterministic").encode
decode = msgspec.json.Decoder(Wishes).decode


def key(mapping: str) -> str:
    """Under which a mapping's wishes are stored."""
    return f"{FOLDER}{mapping}"


def paused(wishes: Wishes, shard: str) -> Pause | None:
    """Why nothing of a shard may be delivered; None when it may."""
    return wishes.paused or wishes.shards.get(shard)


def pending(wishes: Wishes, stream: str, shard: str, row: ShardRow | None) -> Seek | None:
    """The seek that a shard has yet to obey: of several the last one, the others are overtaken."""
    for seek in reversed(wishes.seeks):
        if seek.stream == stream and shard in seek.shards:
            done = row is not None and (row.steered >= seek.serial or (row.ended and not seek.reopens))
            return None if done else seek
    return None


def as_wished(
    rows: Mapping[str, ShardRow], wishes: Wishes, stream: str, listed: Sequence[Partition]
) -> Mapping[str, ShardRow]:
    """The rows as if every seek were obeyed: shards that will be read again have not ended, so their children wait."""
    again = {
        shard.id: msgspec.structs.replace(rows[shard.id], ended=False)
        for shard in listed
        if wishes.seeks and shard.id in rows and rows[shard.id].ended and _pending(wishes, stream, shard.id, rows)
    }
    return {**rows, **again} if again else rows


def reopened(blocked: Mapping[str, Sequence[str]], rows: Mapping[str, ShardRow]) -> frozenset[str]:
    """Shards that have to stop and wait again: a parent that had ended is read again.

    Args:
        blocked: shards that wait, and the parents that they wait for, known as `as_wished`.
        rows: the same.
    """
    return frozenset(
        shard
        for shard, parents in blocked.items()
        if any(parent in rows and not rows[parent].ended for parent in parents)
    )


def undone(wishes: Wishes, stream: str, rows: Mapping[str, ShardRow], listed: Sequence[Partition]) -> Wishes:
    """The wishes without the seeks of this stream that are done: all their shards have obeyed, or left the stream."""
    there = {shard.id for shard in listed} | {shard for shard, row in rows.items() if not row.ended}
    left = tuple(
        seek
        for seek in wishes.seeks
        if seek.stream != stream
        or any(shard in there and pending(wishes, stream, shard, rows.get(shard)) is seek for shard in seek.shards)
    )
    return wishes if len(left) == len(wishes.seeks) else msgspec.structs.replace(wishes, seeks=left)


def pause(wishes: Wishes, shard: str, by: Pause) -> Wishes:
    """Wish that nothing is delivered, of one shard or with "" of the mapping. Who paused it first stays named."""
    if not shard:
        return msgspec.structs.replace(wishes, paused=wishes.paused or by)
    return msgspec.structs.replace(wishes, shards={shard: by, **wishes.shards})


def resume(wishes: Wishes, shard: str) -> Wishes:
    """Wish that a shard goes on or, with "", the mapping with all its shards."""
    if not shard:
        return msgspec.structs.replace(wishes, paused=None, shards={})
    others = {name: by for name, by in wishes.shards.items() if name != shard}
    return msgspec.structs.replace(wishes, shards=others)


def sought(wishes: Wishes, seek: Seek, *, above: int) -> Wishes:
    """Wish a seek. It overtakes those before it for its shards; those of another stream are forgotten.

    Args:
        seek: whose serial is not looked at.
        above: the greatest serial that any shard's row names.
    """
    serial = max(wishes.serial, above) + 1
    before = (
        msgspec.structs.replace(each, shards=tuple(shard for shard in each.shards if shard not in seek.shards))
        for each in wishes.seeks
        if each.stream == seek.stream
    )
    return msgspec.structs.replace(
        wishes,
        serial=serial,
        seeks=(*(each for each in before if each.shards), msgspec.structs.replace(seek, serial=serial)),
    )


def _pending(wishes: Wishes, stream: str, shard: str, rows: Mapping[str, ShardRow]) -> bool:
    return pending(wishes, stream, shard, rows.get(shard)) is not None
