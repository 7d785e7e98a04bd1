"""The shards of a mapping that bring nothing: a few tasks read them all, and none has one of its own.

A shard that sleeps in a task of its own costs 6 KiB and a timer, and when all of them are due at once, their tasks and
connections come out of memory that no cache holds any more. Here one that is quiet is an entry in a heap.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Generic, Protocol, TypeVar

import anyio

T = TypeVar("T")

_FEW, _MOST = 8, 500
"""Reads under way at the same time: as many as let the loop be woken by several answers at once and are still warm in the
processor's caches; and no more than the client has connections."""
_EACH = 8
"""Reads for which it is worth while to begin a task."""
_TOGETHER = 0.01
"""Seconds by which a read may come too soon, so that what is due in one slot is begun at once."""
_WITHIN, _WITHIN_AT_MOST = 0.5, 1.0
"""Of the interval between two reads of one shard, and seconds: within that time those that are due together are begun."""
_TAKES = 0.01
"""Seconds that a read is taken to take before the first; that of each shard asks for an iterator, too, and is not counted."""
_WEIGHT = 0.1
"""Of the newest read in how long one takes."""


class Quiet(Protocol):
    """A shard that brings nothing."""

    @property
    def due(self) -> float:
        """When it is to be read next."""

    async def look(self) -> bool:
        """Read it once. Answers whether it is quiet no longer."""


class Watched(Generic[T]):
    """A quiet shard, until it brings something, or a stop has something else for it."""

    __slots__ = ("_of", "_over", "_reading", "_resume", "called", "shard")

    def __init__(self, shard: Quiet, of: T, resume: Callable[[T], None]) -> None:
        self.shard = shard
        self.called = False
        """Somebody else goes on with it."""
        self._of = of
        self._resume = resume
        self._reading: anyio.CancelScope | None = None
        """Of the read under way."""
        self._over: anyio.Event | None = None

    def cancel(self) -> None:
        """Call whoever goes on with it, and break off the read under way."""
        if self._reading is not None and not self.called:
            self._reading.cancel()
        self._call()

    def _call(self) -> None:
        if not self.called:
            self.called = True
            self._resume(self._of)

    async def over(self) -> None:
        """Wait until nobody reads it any more."""
        while self._reading is not None:
            self._over = anyio.Event()
            await self._over.wait()

    async def look(self, scope: anyio.CancelScope) -> None:
        """Read it, in this scope, and call whoever goes on with it if it is not quiet any more."""
        self._reading, brought = scope, False
        try:
            brought = await self.shard.look()
        finally:
            self._reading = None
            if self._over is not None:
                self._over.set()
        if brought:
            self._call()


class Quiets(Generic[T]):
    """Reads the quiet shards of one mapping, each when it is due."""

    def __init__(self, now: Callable[[], float], interval: float, resume: Callable[[T], None]) -> None:
        """Read nothing yet.

        Args:
            now: seconds, of the clock that `due` is on.
            interval: seconds between two reads of one shard.
            resume: goes on with what was watched.
        """
        self._now = now
        self._resume = resume
        self._within = min(_WITHIN * interval, _WITHIN_AT_MOST)
        self._waiting: list[tuple[float, int, Watched[T]]] = []
        self._order = count()
        self._due: deque[Watched[T]] = deque()
        self._reading = 0
        """Tasks that read."""
        self._done = 0
        """Reads that have ended lately."""
        self._takes = _TAKES
        """Seconds that a read takes, about."""
        self._free: list[anyio.Event] = []
        """Tasks that would read."""
        self._nap = anyio.CancelScope()

    def watch(self, shard: Quiet, of: T) -> Watched[T]:
        """Read a shard when it is due, again and again, until it brings something or is cancelled; then resume `of`."""
        watched = Watched(shard, of, self._resume)
        self._add(watched)
        return watched

    async def run(self) -> None:
        """Read, until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                await self._sleep()
                now = self._now()
                while self._waiting and self._waiting[0][0] <= now + _TOGETHER:
                    self._due.append(heapq.heappop(self._waiting)[2])
                for _ in range(self._wanted()):
                    self._reading += 1
                    if self._free:
                        self._free.pop().set()
                    else:
                        tasks.start_soon(self._read)

    def _wanted(self) -> int:
        done, self._done = self._done, 0
        return readers(len(self._due), self._reading, done, takes=self._takes, within=self._within)

    def _add(self, watched: Watched[T]) -> None:
        due = watched.shard.due
        if not self._waiting or due < self._waiting[0][0]:
            self._nap.cancel()
        heapq.heappush(self._waiting, (due, next(self._order), watched))

    async def _sleep(self) -> None:
        """Sleep until a shard is due, or until what was due should have been begun: reads may hang."""
        now = self._now()
        wake = min(self._waiting[0][0] if self._waiting else math.inf, now + self._within if self._due else math.inf)
        if wake > now:
            with anyio.CancelScope() as self._nap:
                await anyio.sleep(wake - now)

    async def _read(self) -> None:
        """Read what is due, one after the other; then wait until more is, unless enough others do."""
        while self._due or await self._more():
            with anyio.CancelScope() as scope:  # one for many reads; a stop in the middle of one takes the next
                while self._due and not scope.cancel_called:  # or the next would be broken off, and read no more
                    await self._read_one(self._due.popleft(), scope)

    async def _more(self) -> bool:
        self._reading -= 1
        if len(self._free) >= _FEW:
            return False
        woken = anyio.Event()  # to wait costs a tenth of a new task
        self._free.append(woken)
        await woken.wait()
        return True

    async def _read_one(self, watched: Watched[T], scope: anyio.CancelScope) -> None:
        if watched.called:
            return
        first, began = watched.shard.due == -math.inf, self._now()
        await watched.look(scope)
        self._done += 1
        if not first:
            self._takes += _WEIGHT * (self._now() - began - self._takes)
        if not watched.called:
            self._add(watched)


def readers(due: int, reading: int, done: int, *, takes: float, within: float) -> int:
    """How many tasks more are to read one shard after the other.

    Args:
        due: shards that wait to be read.
        reading: tasks that read already.
        done: reads that have ended since this was asked last; if none has, those that are under way hang.
        takes: seconds that a read takes.
        within: seconds within which all are to be begun.
    """
    few = min(_FEW, math.ceil(due / _EACH))
    wanted = max(few, math.ceil(due * takes / within)) - (reading if done else 0)
    return max(0, min(due, wanted, _MOST - reading))
