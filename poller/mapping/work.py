"""The batches that a lane has in hand: what failures split them into, and how they outlive a restart. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from poller.mapping.batch import Batch
from poller.mapping.progress import behind
from poller.mapping.retry import Advance, Again, GiveUp, Split, StreamStep
from poller.mapping.row import Chunk, LaneRow
from poller.model.record import Record

_NOTHING = LaneRow()


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """Batches to deliver one after the other; the budget belongs to the first."""

    batches: tuple[Batch, ...]
    tried: int = 0
    """Attempts that failed with the first batch."""
    request_id: str

    def after(self, step: StreamStep, new_id: Callable[[], str]) -> tuple[Batch, Work]:
        """Follow a step: what it settled, and what is left to do. A changed batch has a new id and a fresh budget."""
        first, others = self.batches[0], self.batches[1:]
        match step:
            case Advance() | GiveUp():
                return first, Work(batches=others, request_id=new_id() if others else "")
            case Split(settled=settled, parts=parts):
                return first[:settled], Work(batches=(*parts, *others), request_id=new_id())
            case Again(counts=counts):
                return (), msgspec.structs.replace(self, tried=self.tried + counts)

    def without(self, count: int, new_id: Callable[[], str]) -> Work:
        """Take records away from the head of the first batch: they are too old."""
        rest = self.batches[0][count:]
        return Work(batches=(rest, *self.batches[1:]) if rest else self.batches[1:], request_id=new_id())

    def row(self) -> LaneRow:
        """What is stored of it: nothing unless a failure made these batches or was spent on the first.

        A window's final invocation has no records to find it by: after a restart it begins anew.
        """
        if not self.batches or not self.batches[0]:
            return _NOTHING
        chunks = tuple(Chunk(len(batch), batch[-1].id) for batch in self.batches)
        return LaneRow(chunks=chunks, tried=self.tried, request_id=self.request_id)


class Resumption:
    """Gathers the records of the batches that a restart interrupted, and makes the same batches of them."""

    def __init__(self, lane: LaneRow) -> None:
        self._lane = lane
        self._gathered: list[Record] = []
        self.handed = 0
        """Records that were handed to its lane since it waits: they leave memory when it waits no more."""
        self._enough = False

    @property
    def waiting(self) -> bool:
        """Whether records are missing."""
        return bool(self._lane.chunks)

    def hand(self, count: int, reached: str) -> bool:
        """So many records are handed to its lane, and everything up to `reached` has been read.

        Answers whether nothing is missing then, be it that filters have dropped the last record.
        """
        self.handed += count
        self._enough |= not behind(reached, self._lane.chunks[-1].last)
        return self._enough

    def make_do(self) -> None:
        """There is no room in memory for what is missing: with the next take, begin with what is there."""
        self._enough = True

    def take(self, records: Sequence[Record], new_id: Callable[[], str]) -> tuple[Work | None, Sequence[Record]]:
        """Add what a read brought: the work once it is whole, and the records behind it."""
        last = self._lane.chunks[-1].last
        mine = [record for record in records if not behind(last, record.id)]
        self._gathered += mine
        beyond = records[len(mine) :]
        if beyond or self._enough or (self._gathered and self._gathered[-1].id == last):
            return self.rest(new_id), beyond
        return None, ()

    def rest(self, new_id: Callable[[], str]) -> Work | None:
        """The work as far as its records came; None when none did. A batch that is not the same any more begins anew."""
        batches: list[Batch] = []
        same = False
        rest = self._gathered
        for place, chunk in enumerate(self._lane.chunks):
            batch = tuple(record for record in rest if not behind(chunk.last, record.id))
            rest = rest[len(batch) :]
            if place == 0:
                same = len(batch) == chunk.count > 0
            if batch:
                batches.append(batch)
        lane, self._lane, self._gathered, self.handed = self._lane, LaneRow(), [], 0
        if not batches:
            return None
        if same:
            return Work(batches=tuple(batches), tried=lane.tried, request_id=lane.request_id)
        return Work(batches=tuple(batches), request_id=new_id())
