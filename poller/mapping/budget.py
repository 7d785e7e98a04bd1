"""The bytes of records in memory, all mappings together, and each partition's fair share of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import anyio

COPIES = 2
"""How often a byte of a record stands in memory at the worst moment: the answer and its records while a page is cut,
a record and the event it is part of while a batch is sent."""
PAGES = 2
"""Pages that a partition holds at the most: the one being processed and the one read ahead."""
STANDING_BYTES = 262_144
"""What a partition takes besides its records, as measured: the buffers of its two connections, and allocation waste."""
_MOST_RECORDS = 10_000
_LEAST_PAGE_BYTES = 65_536
_GUESS_BYTES = 262_144
"""What a record is taken to weigh before the first was seen. A first read that asks for little costs one more read, one
that asks for too much costs the ceiling; records of 1 MiB, four times as much, still make a page of a share's size."""
_WARM_BYTES = 1_048_576
"""What a processor's cache holds of a page between its coming and its cutting, records and their events beside it: larger
ones cost a twentieth more for each record. Three reads of it a second are all that a Kinesis shard lets anybody read."""
_WEIGHT = 0.25
"""Of the newest page in the average size of a record."""
_ANSWER_BYTES = 14_680_064
"""The largest answer that is reckoned with: 10 MiB in base64, and its frame."""


@dataclass(slots=True)
class _Waiter:
    size_bytes: int
    admitted: anyio.Event
    passed: int = 0
    """How many that came later have been served before."""


class Budget:
    """A ceiling for the bytes held. Readers wait for room before they take an answer's body off the connection.

    Waiters are served in order, except that one that does not fit yet lets smaller ones pass: as many as there are
    partitions, then nobody, so that it is not passed for ever. An answer larger than all the room is let in alone.
    """

    def __init__(self, ceiling_bytes: int) -> None:
        self.ceiling_bytes = ceiling_bytes
        self.used_bytes = 0
        self.room_bytes = self.share_bytes = ceiling_bytes
        """What all records together may take, and what each partition may hold so that none keeps the others from
        reading. The room is the ceiling without what partitions take besides; at least half of it."""
        self._waiting: list[_Waiter] = []
        self._holders = 0

    def join(self, together: int = 1) -> Holder:
        """Count a partition among those that share the ceiling, until it leaves.

        Args:
            together: records that it sends at a time: a batch for each of its lanes.
        """
        self._divide(self._holders + 1)
        return Holder(self, together)

    def leave(self) -> None:
        """Count one less."""
        self._divide(self._holders - 1)

    def _divide(self, holders: int) -> None:
        self._holders = holders
        self.room_bytes = max(self.ceiling_bytes // 2, self.ceiling_bytes - holders * STANDING_BYTES)
        self.share_bytes = self.room_bytes // max(1, holders)

    async def acquire(self, size_bytes: int) -> None:
        """Wait for room."""
        if not self._waiting and self.take(size_bytes):
            return
        waiter = _Waiter(size_bytes, anyio.Event())
        self._waiting.append(waiter)
        self._admit()
        try:
            await waiter.admitted.wait()
        except BaseException:
            if waiter.admitted.is_set():
                self.release(size_bytes)
            else:
                self._waiting.remove(waiter)
                self._admit()  # it may have been the one that nobody passed any more
            raise

    def release(self, size_bytes: int) -> None:
        """Give room back."""
        self.used_bytes -= size_bytes
        if self._waiting:
            self._admit()

    def take(self, size_bytes: int) -> bool:
        """Take room if it is there at once."""
        fits = self._fits(size_bytes)
        if fits:
            self.used_bytes += size_bytes
        return fits

    def _fits(self, size_bytes: int) -> bool:
        return self.used_bytes + size_bytes <= self.room_bytes or self.used_bytes == 0

    def _admit(self) -> None:
        kept: list[_Waiter] = []
        for index, waiter in enumerate(self._waiting):
            if self.take(waiter.size_bytes):
                waiter.admitted.set()
                for earlier in kept:
                    earlier.passed += 1
            else:
                kept.append(waiter)
                if waiter.passed >= self._holders:
                    kept += self._waiting[index + 1 :]
                    break
        self._waiting = kept


def asked_for(room_bytes: int, record_bytes: float, together: int) -> int:
    """How many records a read asks for: no more than there is room for, nor than stay warm, but whole batches if it can.

    Args:
        room_bytes: of a page.
        record_bytes: what a record weighs.
        together: records that are sent at a time.
    """
    most = max(int(_WARM_BYTES / record_bytes), together)
    limit = max(1, min(_MOST_RECORDS, int(room_bytes / record_bytes), most))
    return limit - limit % together if limit > together else limit


class Holder:
    """One partition's part of the budget. Each reads one answer at a time; what is held belongs to the partition."""

    __slots__ = ("_budget", "_held_bytes", "_joined", "_limit", "_limit_of", "_more", "_partition", "_reading_bytes",
                 "_record_bytes", "_together")  # fmt: skip

    def __init__(self, budget: Budget, together: int, partition: Holder | None = None) -> None:
        self._budget = budget
        self._together = together
        self._partition = partition or self
        self._joined = partition is None
        self._held_bytes = 0
        self._reading_bytes = 0
        self._record_bytes = 0.0
        self._limit, self._limit_of = 0, (0, 0.0)
        self._more = False

    @property
    def page_bytes(self) -> int:
        """What a page may weigh, so that two of them fit this partition's share."""
        return max(_LEAST_PAGE_BYTES, self._budget.share_bytes // (COPIES * PAGES))

    @property
    def limit(self) -> int:
        """How many records the next read may ask for."""
        of = self._budget.share_bytes, self._record_bytes
        if of != self._limit_of:  # it changes with neither every read nor every batch
            self._limit_of = of
            self._limit = asked_for(self.page_bytes, self._record_bytes or _GUESS_BYTES, self._together)
        return self._limit

    @property
    def may_read_ahead(self) -> bool:
        """Whether one more page would leave this partition within its share."""
        ahead = COPIES * min(_ANSWER_BYTES, int(self.limit * (self._record_bytes or _GUESS_BYTES)))
        return self._held_bytes + ahead <= self._budget.share_bytes

    def another(self) -> Holder:
        """For a second read of this partition at the same time."""
        return Holder(self._budget, self._together, self._partition)

    @property
    def expects(self) -> bool:
        """`expect` has something to wait for."""
        return self._more

    async def expect(self, records: int) -> None:
        """Wait, before a read that will bring so many records, for the room they take.

        A read that may as well bring nothing does not wait: a quiet partition is looked at though memory is full.
        """
        if self._more:
            size_bytes = COPIES * min(_ANSWER_BYTES, int(records * self._record_bytes))
            await self._budget.acquire(size_bytes)
            self._reading_bytes += size_bytes

    async def admit(self, answer_bytes: int) -> None:
        """Wait until an answer of this size may be taken into memory. One answer at a time."""
        size_bytes = answer_bytes * COPIES
        missing = size_bytes - self._reading_bytes
        if missing > 0 and not self._budget.take(missing):
            # Nobody waits while holding room: two that did would wait for each other.
            self._budget.release(self._reading_bytes)
            self._reading_bytes = 0
            await self._budget.acquire(size_bytes)
        elif missing < 0:
            self._budget.release(-missing)
        self._reading_bytes = size_bytes

    def took(self, records: int, page_bytes: int, *, more: bool) -> None:
        """The answer was cut into records, or there was none: hold these, forget the answer.

        Args:
            more: the next read will bring records, too.
        """
        held, reading = page_bytes * COPIES, self._reading_bytes
        self._reading_bytes = 0
        self._partition._held_bytes += held
        self._more = more and records > 0
        if records:
            weight = _WEIGHT if self._record_bytes else 1.0
            self._record_bytes += weight * (page_bytes / records - self._record_bytes)
        self._budget.release(reading - held)

    def settle(self, records_bytes: int) -> None:
        """Records of this size have left memory."""
        self._held_bytes -= records_bytes * COPIES
        self._budget.release(records_bytes * COPIES)

    def leave(self) -> None:
        """Share the ceiling no longer, and give back what is still held."""
        everything, self._held_bytes, self._reading_bytes = self._held_bytes + self._reading_bytes, 0, 0
        if self._joined:
            self._joined = False
            self._budget.leave()
        self._budget.release(everything)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
