"""Which shards to read, from where, and which must wait for their parents. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from poller.mapping.row import ShardRow
from poller.model.record import At, Partition, Position, TrimHorizon

FORGOTTEN_AFTER = 60.0
"""Seconds for which no listing names an ended shard before its row is removed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with every shard of a listing."""

    open: Mapping[str, Position]
    """Shards to read now, and where to go on; those being read already are among them."""
    blocked: Mapping[str, tuple[str, ...]]
    """Shards that wait, and the parents that they wait for."""
    lost: frozenset[str]
    """Shards that we have not finished and that two listings in a row did not name: the stream dropped them."""
    missing: frozenset[str]
    """What this listing should have named and did not: unfinished shards, and parents that nobody knows."""


def plan(
    listed: Sequence[Partition],
    rows: Mapping[str, ShardRow],
    *,
    start: TrimHorizon | At,
    named: bool = False,
    missing: frozenset[str],
) -> Plan:
    """Decide for every listed shard.

    A child starts after *every* parent was read to its end and its records are settled; siblings run side by side. A
    shard without a row begins where the mapping began, but a child of a shard that we know begins at its own
    beginning, under LATEST too. Under AT_TIMESTAMP, parents that ended before the moment say nothing of their child: it
    begins at the moment as well, or it would bring all that is older.

    Args:
        listed: the whole listing, in any order, children before parents or after.
        rows: what is stored of the mapping's shards.
        start: where the mapping began.
        named: that is a moment which the mapping names, not the one at which LATEST was.
        missing: `Plan.missing` of the listing before; a listing can be torn, so one absence proves nothing. A parent
            that nobody knows and that is missing twice counts as ended, unless a shard that we have not finished has
            left the listing, too: it may be the parent's own parent. A shard that has a row was begun when its
            parents had ended, and their rows may have been removed since.

    Source: Kinesis guide, "Resharding, scaling, and parallel processing".
    """
    there = {partition.id for partition in listed}
    known = there | rows.keys()
    to_open: dict[str, Position] = {}
    blocked: dict[str, tuple[str, ...]] = {}
    absent = {shard for shard, row in rows.items() if not row.ended and shard not in there}
    lost = frozenset(absent & missing)
    leaving = bool(absent)
    for partition in listed:
        row = rows.get(partition.id)
        if row is not None and row.ended:
            continue
        gone = {parent for parent in partition.parents if parent not in known and row is None}
        absent |= gone
        waits = tuple(
            parent
            for parent in partition.parents
            if (parent in gone and (leaving or parent not in missing))
            or (parent in known and not _ended(rows.get(parent)))
        )
        if waits:
            blocked[partition.id] = waits
        elif row is not None:
            to_open[partition.id] = row.position
        else:
            behind = [rows[parent].position for parent in partition.parents if parent in rows]
            untouched = named and all(position == start for position in behind)
            to_open[partition.id] = start if untouched or not behind else TrimHorizon()
    return Plan(open=to_open, blocked=blocked, lost=lost, missing=frozenset(absent))


def unnamed(
    listed: Sequence[Partition], rows: Mapping[str, ShardRow], *, since: Mapping[str, float], now: float
) -> Mapping[str, float]:
    """Ended shards that this listing does not name, each with the moment of the first of all such listings in a row."""
    named = {partition.id for partition in listed}
    return {shard: since.get(shard, now) for shard, row in rows.items() if row.ended and shard not in named}


def forgettable(
    listed: Sequence[Partition], rows: Mapping[str, ShardRow], *, since: Mapping[str, float], now: float
) -> frozenset[str]:
    """Shards whose rows say nothing any more: ended, long unnamed, and no listed child still has to be told of it.

    A row that is removed too early would have its shard read again from the beginning, so one torn listing must not do.

    Args:
        since: what `unnamed` answered.
    """
    waited_for = {parent for partition in listed if partition.id not in rows for parent in partition.parents}
    old = {shard for shard, moment in since.items() if now - moment >= FORGOTTEN_AFTER}
    return frozenset(old - waited_for)


def _ended(row: ShardRow | None) -> bool:
    return row is not None and row.ended
