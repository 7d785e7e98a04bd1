"""A store that forgets when the process ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from poller.model.errors import Superseded
from poller.model.ports import Row, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStore:
    """`memory://`: positions are lost when the process ends."""

    @asynccontextmanager
    async def open(self, _: object = None) -> AsyncIterator[Store]:
        """An empty store."""
        yield _Memory()


class _Memory:
    shared = False
    pace = 0.0

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._news = anyio.Event()

    async def get(self, key: str) -> Row | None:
        return self._rows.get(key)

    async def put(self, key: str, value: bytes, expected: int) -> int:
        self._compare(key, expected)
        self._rows[key] = Row(value, expected + 1)
        return expected + 1

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, Row]]:
        for key in sorted(key for key in self._rows if key.startswith(prefix)):
            yield key, self._rows[key]

    async def delete(self, key: str, expected: int) -> None:
        self._compare(key, expected)
        self._rows.pop(key, None)

    async def wake(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def wait(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._news.wait()

    def _compare(self, key: str, expected: int) -> None:
        row = self._rows.get(key)
        found = row.version if row else 0
        if found != expected:
            raise Superseded(f"{key} has version {found}, not {expected}")
