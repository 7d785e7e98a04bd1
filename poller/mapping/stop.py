"""A stop that is asked for once: who waits for it goes on, and what may not outlast it is cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


class Stop:
    """As an `anyio.Event`, but nothing is made for it before somebody waits: thousands of shards have one each."""

    __slots__ = ("_event", "_is_set", "_scopes")

    def __init__(self) -> None:
        self._is_set = False
        self._event: anyio.Event | None = None
        self._scopes: tuple[anyio.CancelScope, ...] = ()
        """Of the calls under way that it cancels: one, mostly."""

    def is_set(self) -> bool:
        """It was asked for."""
        return self._is_set

    def set(self) -> None:
        """Ask for it."""
        self._is_set = True
        if self._event is not None:
            self._event.set()
        for scope in self._scopes:
            scope.cancel()

    async def wait(self) -> None:
        """Return when it was asked for."""
        self._event = self._event or anyio.Event()
        if self._is_set:
            self._event.set()
        await self._event.wait()

    async def unless_set(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """What a call answers; None when the stop came first, which cancels it."""
        with anyio.CancelScope() as scope:
            self._scopes += (scope,)
            if self._is_set:
                scope.cancel()
            try:
                return await call()
            finally:
                self._scopes = tuple(each for each in self._scopes if each is not scope)
        return None
