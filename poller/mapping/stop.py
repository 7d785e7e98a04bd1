"""A stop that is asked for once: who waits for it goes on, and what may not outlast it is cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import anyio

T = TypeVar("T")


class Cancelled(Protocol):
    """What may not outlast a stop."""

    def cancel(self) -> None:
        """The stop was asked for."""


class Stop:
    """As an `anyio.Event`, but nothing is made for it before somebody waits: thousands of shards have one each."""

    __slots__ = ("_cancels", "_event", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._event: anyio.Event | None = None
        self._cancels: tuple[Cancelled, ...] = ()
        """One, mostly."""

    def is_set(self) -> bool:
        """It was asked for."""
        return self._is_set

    def set(self) -> None:
        """Ask for it."""
        self._is_set = True
        if self._event is not None:
            self._event.set()
        for each in self._cancels:
            each.cancel()

    async def wait(self) -> None:
        """Return when it was asked for."""
        self._event = self._event or anyio.Event()
        if self._is_set:
            self._event.set()
        await self._event.wait()

    def cancels(self, what: Cancelled) -> None:
        """Let the stop cancel something, at once where it was asked for."""
        self._cancels += (what,)
        if self._is_set:
            what.cancel()

    def spares(self, what: Cancelled) -> None:
        """It is over, or has found its way by itself."""
        self._cancels = tuple(each for each in self._cancels if each is not what)

    async def unless_set(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """What a call answers; None when the stop came first, which cancels it."""
        with anyio.CancelScope() as scope:
            self.cancels(scope)
            try:
                return await call()
            finally:
                self.spares(scope)
        return None
