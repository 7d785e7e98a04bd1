"""From our rows to the library's leases, by its own rules, so that it reads on where we stopped. No I/O, no clock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

import msgspec

from poller.mapping.kcl.carry import Fate
from poller.mapping.kcl.leases import SHARD_END, TRIM_HORIZON, Lease, Mark, new_item
from poller.mapping.row import ShardRow
from poller.model.record import After, At, From, Position, TrimHorizon


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """What the stream says of a shard, as far as a lease holds it."""

    parents: tuple[str, ...] = ()
    hash_range: tuple[str, str] | None = None
    """The first and the last hash key, decimal; None where there are none (DynamoDB Streams)."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How rows are written into one table."""

    stream: str = ""
    """`account:stream:epoch` when the application reads several streams, else ""."""
    typed: bool = False
    """New rows say that they are leases."""
    force: bool = False
    """Checkpoints may go backwards."""

    def key(self, shard: str) -> str:
        """Of a shard's row."""
        return f"{self.stream}:{shard}" if self.stream else shard


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in the stream about the places at which our rows stand."""

    counts: Mapping[str, int] = {}
    """By shard, the user records in the record behind which our row stands."""
    firsts: Mapping[str, str] = {}
    """By shard, the sequence number of the first record from the moment at which our row stands; none: no entry."""


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """One write of a row."""

    key: str
    counter: int | None
    """What `leaseCounter` must be for the row to be written; None: there must be no such row."""
    mark: Mark
    children: tuple[str, ...] = ()
    item: Mapping[str, Any] = {}
    """The whole row, where there is none yet."""

    @property
    def update(self) -> dict[str, Any]:
        """The parameters of UpdateItem for a row that is there: a checkpoint, and nobody owns it any more."""
        values: dict[str, Any] = {
            ":c": {"S": self.mark.checkpoint},
            ":s": {"N": str(self.mark.sub)},
            ":before": {"N": str(self.counter)},
            ":after": {"N": str((self.counter or 0) + 1)},
            ":zero": {"N": "0"},
        }
        sets = "checkpoint = :c, checkpointSubSequenceNumber = :s, leaseCounter = :after, ownerSwitchesSinceCheckpoint = :zero"
        if self.children:
            values[":children"] = {"SS": list(self.children)}
            sets += ", childShardIds = :children"
        return {
            "Key": {"leaseKey": {"S": self.key}},
            "UpdateExpression": f"SET {sets} REMOVE leaseOwner, checkpointOwner, pendingCheckpoint,"
            " pendingCheckpointSubSequenceNumber, pendingCheckpointState",
            "ConditionExpression": "leaseCounter = :before",
            "ExpressionAttributeValues": values,
        }


class Returned(msgspec.Struct, frozen=True):
    """The writes, in the order in which they must be made, and the fate of everything."""

    writes: tuple[Write, ...]
    fates: tuple[Fate, ...]


def moment_of(row: ShardRow) -> float | None:
    """The moment from which a row has something left to do, where that is no record: unix seconds, else None.

    What an open tumbling window was told so far would be told to nobody else, so all of it is undone.
    """
    if row.ended:
        return None
    if row.window is not None:
        return row.window.start
    return row.position.time if isinstance(row.position, At) else None


def record_of(row: ShardRow) -> str | None:
    """The sequence number of the record whose user records have to be counted, if any."""
    plain = not row.ended and row.window is None
    return row.position.sequence if plain and isinstance(row.position, After) else None


def give_back(
    leases: Sequence[Lease], rows: Mapping[str, ShardRow], shards: Mapping[str, Shard], looked: Looked, rules: Rules
) -> Returned:
    """Decide for every row of ours, and for every shard that has to get a row there.

    A checkpoint (sequence, sub) means that everything up to it is finished: the library reads that record again and
    drops what is finished of it. So behind a record is (its sequence, its last user record), and at a record that is
    not finished is (its sequence, -1). The children of an ended shard have rows before its SHARD_END. A shard that
    ended here and that the library does not know gets a row only below one that it knows: it removes rows from the
    top, and what is above has been removed.

    Args:
        rows: by shard.
        shards: those the stream lists.

    Source: KCL `ShutdownTask`, `LeaseCleanupManager`, `DynamoDBLeaseSerializer`; leases, sections 1.1 and 1.2.
    """
    return _Return(leases, rows, shards, looked, rules).decide()


class _Return:
    """One decision, shard by shard, parents before children."""

    def __init__(
        self,
        leases: Sequence[Lease],
        rows: Mapping[str, ShardRow],
        shards: Mapping[str, Shard],
        looked: Looked,
        rules: Rules,
    ) -> None:
        self._leases = {lease.shard: lease for lease in leases}
        self._rows = rows
        self._shards = shards
        self._looked = looked
        self._rules = rules
        self._children: dict[str, list[str]] = defaultdict(list)
        for child in sorted(shards):
            for parent in shards[child].parents:
                self._children[parent].append(child)
        self._known = set(self._leases)
        """Shards that have a row there, or get one."""
        self._writes: list[tuple[int, Write]] = []
        self._fates: list[Fate] = []

    def decide(self) -> Returned:
        depth = _depths(self._shards)
        deepest = max(depth.values(), default=0)
        for shard in sorted({*self._rows, *self._shards}, key=lambda shard: (depth.get(shard, 0), shard)):
            write = self._of(shard)
            if write is not None:
                self._known.add(shard)
                late = 1 + deepest - depth.get(shard, 0) if write.mark.checkpoint == SHARD_END else 0
                self._writes.append((late, write))
        self._writes.sort(key=lambda each: each[0])
        return Returned(tuple(write for _, write in self._writes), tuple(self._fates))

    def _of(self, shard: str) -> Write | None:
        lease, row = self._leases.get(shard), self._rows.get(shard)
        key = lease.key if lease else self._rules.key(shard)
        found = str(lease.mark) if lease else "no row"
        if row is None:
            row = self._unread(shard, lease)
            if row is None:
                stays = "left as it is" if lease else "nothing is written"
                self._fates.append(Fate(key, found, f"{stays}: nothing of it was read here"))
                return None
        mark, remarks = _mark(shard, row, self._looked)
        why = self._stays(shard, lease, row, mark)
        if why:
            self._fates.append(Fate(key, found, "; ".join([why, *(remarks if lease else [])])))
            return None
        self._fates.append(Fate(key, found, "; ".join([str(mark), *remarks])))
        children = tuple(self._children[shard]) if row.ended else ()
        if lease is not None:
            return Write(key=key, counter=lease.counter, mark=mark, children=children)
        item = self._item(shard, mark, children)
        return Write(key=key, counter=None, mark=mark, children=children, item=item)

    def _unread(self, shard: str, lease: Lease | None) -> ShardRow | None:
        """The row of a shard that we have none of: it is given one when a parent ended, as the library would do."""
        ended = any(parent in self._rows and self._rows[parent].ended for parent in self._parents(shard))
        return ShardRow(position=TrimHorizon()) if lease is None and ended else None

    def _stays(self, shard: str, lease: Lease | None, row: ShardRow, mark: Mark) -> str:
        """Why nothing is written; "" when something is."""
        if lease is not None:
            if mark == lease.mark:
                return "left as it is: it stands there already"
            if mark.rank < lease.mark.rank and not self._rules.force:
                return f"left as it is: it stands further there, --force takes it back to {mark}"
            return ""
        if shard not in self._shards:
            return "left out: the stream does not list it any more"
        if row.ended and self._known.isdisjoint(self._parents(shard)) and not self._held_up(shard):
            return "left out: it has ended, and the library knows nothing above it"
        return ""

    def _held_up(self, shard: str) -> bool:
        """Whether another parent of a child is not ended: the library ends it only when both have rows."""
        others = {parent for child in self._children[shard] for parent in self._parents(child)} - {shard}
        return any(not (other in self._rows and self._rows[other].ended) for other in others)

    def _parents(self, shard: str) -> tuple[str, ...]:
        return self._shards[shard].parents if shard in self._shards else ()

    def _item(self, shard: str, mark: Mark, children: Sequence[str]) -> dict[str, Any]:
        of = self._shards[shard]
        item = new_item(self._rules.key(shard), mark, parents=of.parents, children=children)
        if of.hash_range is not None:
            item |= {"startingHashKey": {"S": of.hash_range[0]}, "endingHashKey": {"S": of.hash_range[1]}}
        if self._rules.stream:
            item |= {"streamName": {"S": self._rules.stream}, "shardId": {"S": shard}}
        if self._rules.typed:
            item["entityType"] = {"S": "LEASE"}
        return item


def _mark(shard: str, row: ShardRow, looked: Looked) -> tuple[Mark, list[str]]:
    """The checkpoint that says the same, or the nearest one before it, and what has to be said of it."""
    if row.ended:
        return Mark(SHARD_END), []
    remarks = []
    if row.window is not None:
        remarks.append("its open tumbling window is given up, and its records are delivered again")
    elif any(lane.done for lane in row.lanes):
        remarks.append("lanes stand ahead of it, and what they finished is delivered again")
    if moment_of(row) is None:
        mark, remark = _of_position(row.position, looked.counts.get(shard))
        return mark, [*remarks, *remark]
    first = looked.firsts.get(shard)
    if first is None:
        return Mark(TRIM_HORIZON), [
            *remarks,
            "nothing has arrived since the moment it stands at, which cannot be said there",
        ]
    return Mark(first, -1), remarks


def _of_position(position: Position, count: int | None) -> tuple[Mark, list[str]]:
    match position:
        case After(sequence=sequence):
            unseen = "it could not be looked at: if it is an aggregate, most of it is delivered again"
            return Mark(sequence, max(0, (count or 1) - 1)), [] if count is not None else [unseen]
        case From(sequence=sequence):
            return Mark(sequence, -1), []
        case _:
            return Mark(TRIM_HORIZON), []


def _depths(shards: Mapping[str, Shard]) -> Mapping[str, int]:
    """By shard, the listed generations above it."""
    found: dict[str, int] = {}
    for shard in TopologicalSorter({shard: of.parents for shard, of in shards.items()}).static_order():
        parents = shards[shard].parents if shard in shards else ()
        found[shard] = max((1 + found[parent] for parent in parents if parent in shards), default=0)
    return found
