"""What one task has read and another delivers: in order, no further ahead than it may be, and waiting only where it must."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio

T = TypeVar("T")


class Channel(Generic[T]):
    """One task puts, one takes. Nothing that was put is lost to a take that is cancelled.

    anyio's memory object stream does this for any number of tasks, and lets others have their turn at every item: four
    times the work for each, most of it with nobody to wait for. Here a put or a take that need not wait does not yield;
    who uses it waits for a source or a function between any two of them.
    """

    def __init__(self, ahead: float) -> None:
        self._ahead = ahead
        """Items that may lie here, at least one; inf: any number."""
        self._items: deque[T] = deque()
        self._closed = False
        self._left = False
        self._event: Callable[[], anyio.Event] = type(anyio.Event())  # of this loop's kind, looked up once
        self._change: anyio.Event | None = None
        """What the one who waits is woken by. They never both wait: it is either full or empty."""

    async def put(self, item: T) -> bool:
        """Wait until there is room, and put an item there. False when nobody takes any more."""
        while len(self._items) >= self._ahead and not self._left:
            await self._changed()
        if self._left:
            return False
        self._items.append(item)
        self._wake()
        return True

    async def take(self) -> T | None:
        """Wait for the next item and take it. None when all were taken and no more will come."""
        while not self._items:
            if self._closed:
                return None
            await self._changed()
        item = self._items.popleft()
        self._wake()
        return item

    def close(self) -> None:
        """No more will be put; what is here can still be taken."""
        self._closed = True
        self._wake()

    def leave(self) -> None:
        """Nobody will take any more; what is here is let go."""
        self._left = True
        self._items.clear()
        self._wake()

    async def _changed(self) -> None:
        self._change = self._event()
        await self._change.wait()

    def _wake(self) -> None:
        if self._change is not None:
            self._change.set()
            self._change = None
