"""From the library's leases to our rows: where the poller goes on, and what becomes of every row. No I/O, no clock."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from poller.mapping.kcl.leases import AT_TIMESTAMP, LATEST, SHARD_END, TRIM_HORIZON, Lease, Table
from poller.mapping.progress import spell
from poller.mapping.row import ShardRow
from poller.model.record import After, At, From, Partition, Position, TrimHorizon


class Fate(msgspec.Struct, frozen=True):
    """What becomes of one row, or of a shard without one."""

    name: str
    found: str
    becomes: str

    def __str__(self) -> str:
        return f"{self.name}: {self.found} -> {self.becomes}"


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the rows do not say, and the stream or the operator does."""

    counts: Mapping[str, int] = {}
    """By shard, the user records in the record at the checkpoint; no entry where it could not be looked at."""
    latest: Mapping[str, At] = {}
    """By shard, what LATEST is resolved to."""
    timestamp: float = math.nan
    """What AT_TIMESTAMP stands for, in unix seconds: the rows do not hold it. Not looked at where none stands there."""


class Carried(msgspec.Struct, frozen=True):
    """The rows to write, by shard, and the fate of everything."""

    rows: Mapping[str, ShardRow]
    fates: tuple[Fate, ...]


def to_look_at(leases: Sequence[Lease]) -> Mapping[str, str]:
    """Shards, and the sequence numbers of the records whose user records have to be counted."""
    return {lease.shard: lease.mark.checkpoint for lease in leases if lease.mark.numeric}


def to_resolve(leases: Sequence[Lease]) -> tuple[str, ...]:
    """Shards that stand at LATEST."""
    return tuple(lease.shard for lease in leases if lease.mark.checkpoint == LATEST)


def needs_timestamp(leases: Sequence[Lease]) -> bool:
    """Whether the operator has to say what AT_TIMESTAMP stands for."""
    return any(lease.mark.checkpoint == AT_TIMESTAMP for lease in leases)


def contradicted(leases: Sequence[Lease], listed: Sequence[Partition]) -> tuple[str, ...]:
    """Shards that have ended in the table and are open in the stream: its rows are of another one.

    Shards of all streams have the same names, and a stream that was deleted and created anew begins with them again.
    """
    still_open = {partition.id for partition in listed if not partition.closed}
    return tuple(lease.shard for lease in leases if lease.mark.checkpoint == SHARD_END and lease.shard in still_open)


def carry(leases: Sequence[Lease], listed: Sequence[Partition], known: Known) -> Carried:
    """Decide for every lease of a stream, and for every listed shard without one.

    The library reads again *at* its checkpoint and drops what is not behind (sequence number, sub-sequence number).
    We deliver whole records, so the record at the checkpoint is

    - finished, and we go on behind it, when the checkpoint names its last user record: for a plain record always;
    - delivered again, whole, when it is an aggregate and the checkpoint names an earlier one of its user records, or
      when it could not be looked at.

    A shard without a lease that is an ancestor of one with a lease is done with: the library removes the rows of
    finished shards, and a parent without a row does not hold up its children there. Here it would, so it is written
    as ended. Any other shard without a lease gets no row: below a known shard it starts at its own beginning when its
    parents have ended, elsewhere where the mapping begins.

    Source: KCL `ProcessTask.filterAndGetMaxExtendedSequenceNumber`, `BlockOnParentShardTask`, `LeaseCleanupManager`;
    leases, section 1.4.
    """
    by_shard = {lease.shard: lease for lease in leases}
    parents = {partition.id: partition.parents for partition in listed}
    rows: dict[str, ShardRow] = {}
    fates: list[Fate] = []
    for lease in leases:
        row, becomes = _row(lease, known)
        rows[lease.shard] = row
        remarks = [becomes, *_remarks(lease, row, parents.get(lease.shard), by_shard)]
        fates.append(Fate(lease.key, str(lease.mark), "; ".join(remarks)))
    ancestors = _above(by_shard.keys(), parents) - by_shard.keys()
    for partition in listed:
        if partition.id in by_shard:
            continue
        if partition.id in ancestors:
            rows[partition.id] = ShardRow(position=TrimHorizon(), ended=True)
            fates.append(Fate(partition.id, "no row, but its descendants have", "ended"))
        else:
            child = not _above({partition.id}, parents).isdisjoint(by_shard.keys() | ancestors)
            where = "at its own beginning, after its parents" if child else "where the mapping begins"
            fates.append(Fate(partition.id, "no row", f"nothing is written, it starts {where}"))
    return Carried(rows, tuple(fates))


def passed_over(table: Table, leases: Sequence[Lease]) -> tuple[Fate, ...]:
    """The rows that are none of these leases."""
    mine = {lease.key for lease in leases}
    foreign = [Fate(lease.key, f"of {lease.stream}", "passed over") for lease in table.leases if lease.key not in mine]
    return (*foreign, *(Fate(key, kind, "passed over, it is no lease") for key, kind in table.others))


def _row(lease: Lease, known: Known) -> tuple[ShardRow, str]:
    match lease.mark.checkpoint:
        case "SHARD_END":
            return ShardRow(position=TrimHorizon(), ended=True), "ended"
        case "TRIM_HORIZON":
            return _at(TrimHorizon())
        case "LATEST":
            return _at(known.latest[lease.shard])
        case "AT_TIMESTAMP":
            return _at(At(known.timestamp))
        case sequence:
            return _behind(sequence, lease.mark.sub, known.counts.get(lease.shard))


def _at(position: Position) -> tuple[ShardRow, str]:
    return ShardRow(position=position), f"from {spell(position)}"


def _behind(sequence: str, sub: int, count: int | None) -> tuple[ShardRow, str]:
    """Behind the record at a checkpoint, or at it when something of it may be undone."""
    if count is not None and sub + 1 >= count:
        return ShardRow(position=After(sequence)), "behind it"
    row = ShardRow(position=From(sequence))
    if count is None:
        return row, "that record again: it could not be looked at, so it may be an aggregate and half done"
    return row, f"that record again: an aggregate with {max(0, sub + 1)} of {count} user records done"


def _remarks(lease: Lease, row: ShardRow, parents: Sequence[str] | None, by_shard: Mapping[str, Lease]) -> list[str]:
    """What an operator should know besides."""
    remarks: list[str] = []
    if parents is None and not row.ended:
        remarks.append("the stream does not list this shard any more, what it held behind it is lost")
    if lease.pending and not row.ended:
        remarks.append(f"the checkpoint prepared at {lease.pending} was never completed, and does not count")
    waits = [parent for parent in parents or () if parent in by_shard and by_shard[parent].mark.checkpoint != SHARD_END]
    if waits and not row.ended and lease.mark.checkpoint != TRIM_HORIZON:
        remarks.append(f"it was begun before {', '.join(waits)} had ended, and waits for that now")
    return remarks


def _above(shards: Iterable[str], parents: Mapping[str, Sequence[str]]) -> set[str]:
    """The listed ancestors of these shards."""
    found: set[str] = set()
    ahead = list(shards)
    while ahead:
        for parent in parents.get(ahead.pop(), ()):
            if parent in parents and parent not in found:
                found.add(parent)
                ahead.append(parent)
    return found
