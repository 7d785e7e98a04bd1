"""Views of a store for work beside the daemon: one that only reads, and one that keeps its rows apart."""

# ruff: noqa: D102  # the port says what each method does
from __future__ import annotations

from collections.abc import AsyncIterator

import anyio

from poller.model.errors import Superseded
from poller.model.ports import Row, Store


class ReadOnly:
    """What is stored, with writes that nobody else sees and that end with this process."""

    shared = False
    pace = 0.0

    def __init__(self, store: Store) -> None:
        self._store = store
        self._written: dict[str, Row | None] = {}

    async def get(self, key: str) -> Row | None:
        return self._written[key] if key in self._written else await self._store.get(key)

    async def put(self, key: str, value: bytes, expected: int) -> int:
        await self._compare(key, expected)
        self._written[key] = Row(value, expected + 1)
        return expected + 1

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, Row]]:
        found = {key: row async for key, row in self._store.scan(prefix)}
        mine = {key: row for key, row in self._written.items() if key.startswith(prefix)}
        for key, row in sorted((found | mine).items()):
            if row is not None:
                yield key, row

    async def delete(self, key: str, expected: int) -> None:
        await self._compare(key, expected)
        self._written[key] = None

    async def wake(self) -> None:
        pass

    async def wait(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def _compare(self, key: str, expected: int) -> None:
        row = await self.get(key)
        found = row.version if row else 0
        if found != expected:
            raise Superseded(f"{key} has version {found}, not {expected}")


class Apart:
    """Rows of one piece of work, in a folder of their own of a store that others use, too."""

    shared = False
    pace = 0.0

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder

    async def get(self, key: str) -> Row | None:
        return await self._store.get(self._folder + key)

    async def put(self, key: str, value: bytes, expected: int) -> int:
        return await self._store.put(self._folder + key, value, expected)

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, Row]]:
        async for key, row in self._store.scan(self._folder + prefix):
            yield key.removeprefix(self._folder), row

    async def delete(self, key: str, expected: int) -> None:
        await self._store.delete(self._folder + key, expected)

    async def wake(self) -> None:
        pass

    async def wait(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def clear(self) -> None:
        """Remove all rows: the work is done. Raises `Transient`."""
        rows = [(key, row) async for key, row in self._store.scan(self._folder)]
        for key, row in rows:
            await self._store.delete(key, row.version)
