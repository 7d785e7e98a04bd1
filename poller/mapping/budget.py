"""The bytes of records in memory, all mappings together, and each partition's fair share of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
from anyio.lowlevel import checkpoint

COPIES = 2
"""How often a byte of a record stands in memory at the worst moment: the answer and its records while a page is cut,
a record and the event it is part of while a batch is sent."""
PAGES = 2
"""Pages that a partition holds at the most: the one being processed and the one read ahead."""
_MOST_RECORDS = 10_000
_LEAST_PAGE_BYTES = 65_536
_GUESS_BYTES = 10_240
"""What a record is taken to weigh before the first was seen."""
_WEIGHT = 0.25
"""Of the newest page in the average size of a record."""


@dataclass(slots=True)
class _Waiter:
    size_bytes: int
    admitted: anyio.Event


class Budget:
    """A ceiling for the bytes held. Readers wait for room before they take an answer's body off the connection.

    Waiters are served in order, except that one that does not fit yet does not keep smaller ones from passing. An
    answer larger than the whole ceiling is let in alone.
    """

    def __init__(self, ceiling_bytes: int) -> None:
        self.ceiling_bytes = ceiling_bytes
        self.used_bytes = 0
        self._waiting: list[_Waiter] = []
        self._holders = 0

    @contextmanager
    def join(self) -> Iterator[Holder]:
        """Count a partition among those that share the ceiling; what it still holds at the end is given back."""
        holder = Holder(self)
        self._holders += 1
        try:
            yield holder
        finally:
            self._holders -= 1
            holder.give_back_all()

    @property
    def share_bytes(self) -> int:
        """What each partition may hold so that none keeps the others from reading."""
        return self.ceiling_bytes // max(1, self._holders)

    async def acquire(self, size_bytes: int) -> None:
        """Wait for room."""
        await checkpoint()  # here, where nothing is held yet: a cancelled reader must not keep its room
        if not self._waiting and self._fits(size_bytes):
            self.used_bytes += size_bytes
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
            raise

    def release(self, size_bytes: int) -> None:
        """Give room back."""
        self.used_bytes -= size_bytes
        self._admit()

    def _fits(self, size_bytes: int) -> bool:
        return self.used_bytes + size_bytes <= self.ceiling_bytes or self.used_bytes == 0

    def _admit(self) -> None:
        kept: list[_Waiter] = []
        for waiter in self._waiting:
            if self._fits(waiter.size_bytes):
                self.used_bytes += waiter.size_bytes
                waiter.admitted.set()
            else:
                kept.append(waiter)
        self._waiting = kept


class Holder:
    """One partition's part of the budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held_bytes = 0
        self._reading_bytes = 0
        self._record_bytes = float(_GUESS_BYTES)

    @property
    def limit(self) -> int:
        """How many records the next read may ask for, so that its pages fit this partition's share."""
        page = max(_LEAST_PAGE_BYTES, self._budget.share_bytes // (COPIES * PAGES))
        return max(1, min(_MOST_RECORDS, int(page / self._record_bytes)))

    async def admit(self, answer_bytes: int) -> None:
        """Wait until an answer of this size may be taken into memory. One answer at a time."""
        size_bytes = answer_bytes * COPIES
        await self._budget.acquire(size_bytes)
        self._reading_bytes += size_bytes

    def took(self, records: int, page_bytes: int) -> None:
        """The answer was cut into records, or there was none: hold these, forget the answer."""
        held, reading = page_bytes * COPIES, self._reading_bytes
        self._reading_bytes = 0
        self._held_bytes += held
        if records:
            self._record_bytes += _WEIGHT * (page_bytes / records - self._record_bytes)
        self._budget.release(reading - held)

    def settle(self, records_bytes: int) -> None:
        """Records of this size have left memory."""
        self._held_bytes -= records_bytes * COPIES
        self._budget.release(records_bytes * COPIES)

    def give_back_all(self) -> None:
        """Nothing is held any more."""
        everything, self._held_bytes, self._reading_bytes = self._held_bytes + self._reading_bytes, 0, 0
        self._budget.release(everything)
