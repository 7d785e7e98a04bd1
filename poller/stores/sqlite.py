"""A store in one file, shared by the processes of one machine.

Writes that come while another is on its way to the disk share the next transaction, so that many shards cost one
`fsync`. Every answer to `put` means that the write is on the disk: a position that LATEST was resolved to must not be
lost with the power, and neither must a checkpoint. Reads have a connection of their own and take a large folder in
pages, so that neither keeps a beat waiting.

One process writes at a time: the others wait for it, up to `_BUSY` seconds, and then fail in passing. One that is
frozen in the middle of a transaction holds them up until it goes on or dies. A file on a network file system is
refused: its locks and shared memory do not reach other machines, and SQLite corrupts it.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
from anyio.to_thread import run_sync

from poller.model.errors import SettingsError, Superseded, Transient
from poller.model.ports import Row, Store
from poller.stores.machine import network_file_system, slot

_SCHEMA = "CREATE TABLE IF NOT EXISTS rows (key TEXT PRIMARY KEY, version INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID"
_GET = "SELECT value, version FROM rows WHERE key = ?"
_SCAN = "SELECT key, value, version FROM rows WHERE key >= ? AND key < ? ORDER BY key"
_VERSION = "SELECT version FROM rows WHERE key = ?"
_PUT = "INSERT INTO rows (key, version, value) VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET version = ?2, value = ?3"
_DELETE = "DELETE FROM rows WHERE key = ?"
_NEXT, _LAST = "\0", "\U0010ffff"
"""A key with it is the next one, or the last one."""
_BUSY = 2.0
"""Seconds to wait for another process to finish its transaction; they take milliseconds."""
_OPENING = 10.0
"""Seconds to wait for the others while the file is opened, and perhaps made."""
_PAGE_ROWS, _PAGE_BYTES = 1_000, 4_000_000
"""What a scan reads at once."""
_LOOK = 0.05
"""Seconds between two looks for a wake of another process."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteStore:
    """`sqlite:///PATH`: survives restarts and kill -9; shared by the processes of one machine."""

    path: str

    @asynccontextmanager
    async def open(
        self, _: object = None, *, kind: type[sqlite3.Connection] = sqlite3.Connection
    ) -> AsyncIterator[Store]:
        """Open or create the file.

        Args:
            kind: of connection, for a disk that fails.

        Raises:
            SettingsError: the file cannot be used.
        """
        connections = await run_sync(_connect, Path(self.path), kind)
        store = _Sqlite(Path(self.path), *connections)
        try:
            yield store
        finally:
            with anyio.CancelScope(shield=True):
                await store.close()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[int]:
        """The lowest number, from 1, that no other process (and nobody else in this one) has of this file.

        It is free again when the context or the process ends, however it ends.

        Raises:
            SettingsError: the folder beside the file cannot be used.
        """
        with slot(Path(self.path)) as number:
            yield number


def _connect(path: Path, kind: type[sqlite3.Connection]) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """A connection to write and one to read."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        system = network_file_system(path.parent)
    except OSError as error:
        raise SettingsError(f"store: {path} cannot be used: {os.strerror(error.errno or 0)}") from None
    if system:
        raise SettingsError(
            f"store: {path} cannot be used: it is on a network file system ({system}), needed: a disk of this machine;"
            " for several machines use dynamodb:// or postgresql://"
        )
    deadline = time.monotonic() + _OPENING
    while True:
        try:
            return _opened(path, kind), _opened(path, kind)
        except sqlite3.Error as error:
            # Another process that makes the file, or ends as its last user, has it to itself for a moment.
            if _is_busy(error) and time.monotonic() < deadline:
                time.sleep(_LOOK)
                continue
            raise SettingsError(f"store: {path} cannot be used: {error}") from None


def _opened(path: Path, kind: type[sqlite3.Connection]) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY, factory=kind)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


@dataclass(slots=True, eq=False)
class _Write:
    key: str
    value: bytes | None
    """None deletes."""
    expected: int
    done: anyio.Event = field(default_factory=anyio.Event)
    error: Superseded | Transient | None = field(default_factory=lambda: Transient("store: the write was not made"))
    """None once the write is on the disk, and not before."""


class _Sqlite:
    shared = True
    pace = 0.0

    def __init__(self, path: Path, writing: sqlite3.Connection, reading: sqlite3.Connection) -> None:
        self._writing = writing
        self._reading = reading
        self._one_writer, self._one_reader = anyio.Lock(), anyio.Lock()
        self._threads = anyio.CapacityLimiter(2)  # of our own: others may be slow with the common ones
        self._pending: list[_Write] = []
        self._bell = path.with_name(path.name + ".wake")
        self._seen = self._rung()

    async def get(self, key: str) -> Row | None:
        rows = await self._read(lambda: self._reading.execute(_GET, (key,)).fetchall())
        return Row(*rows[0]) if rows else None

    async def put(self, key: str, value: bytes, expected: int) -> int:
        await self._write(_Write(key, value, expected))
        return expected + 1

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, Row]]:
        start = prefix
        while page := await self._read(partial(_page, self._reading, start, prefix + _LAST)):
            for key, value, version in page:
                yield key, Row(value, version)
            start = page[-1][0] + _NEXT

    async def delete(self, key: str, expected: int) -> None:
        await self._write(_Write(key, None, expected))

    async def wake(self) -> None:
        with suppress(OSError):  # a hint; who waits looks after a while
            self._bell.touch()
            now = time.time_ns()
            os.utime(self._bell, ns=(now, now))

    async def wait(self, seconds: float) -> None:
        before = self._seen
        with anyio.move_on_after(seconds):
            while (rung := self._rung()) == before:  # noqa: ASYNC110  another process has no event of ours
                await anyio.sleep(_LOOK)
            self._seen = rung

    async def close(self) -> None:
        for connection in (self._reading, self._writing):
            await run_sync(connection.close, limiter=self._threads)

    def _rung(self) -> int:
        """When the bell rang last; it only matters whether that changes."""
        try:
            return self._bell.stat().st_mtime_ns
        except OSError:
            return 0

    async def _write(self, write: _Write) -> None:
        """Queue the write; whoever gets the connection next writes everything that is queued."""
        self._pending.append(write)
        try:
            async with self._one_writer:
                if not write.done.is_set():
                    writes, self._pending = self._pending, []
                    with anyio.CancelScope(shield=True):  # the others' writes are in our hands
                        await run_sync(_commit, self._writing, writes, limiter=self._threads)
                    for each in writes:
                        each.done.set()
        finally:
            if write in self._pending:  # cancelled: not to be made behind the back of who asked for it
                self._pending.remove(write)
        if write.error:
            raise write.error

    async def _read(self, query: Callable[[], T]) -> T:
        async with self._one_reader:
            try:
                return await run_sync(query, limiter=self._threads)
            except sqlite3.Error as error:
                raise Transient(f"store: {error}") from None


def _page(connection: sqlite3.Connection, start: str, before: str) -> list[tuple[str, bytes, int]]:
    """The next rows, not many; the cursor is closed with them, so that it keeps no old rows alive."""
    page: list[tuple[str, bytes, int]] = []
    size = 0
    cursor = connection.execute(_SCAN, (start, before))
    try:
        while len(page) < _PAGE_ROWS and size < _PAGE_BYTES and (row := cursor.fetchone()):
            page.append(row)
            size += len(row[1])
    finally:
        cursor.close()
    return page


def _commit(connection: sqlite3.Connection, writes: list[_Write]) -> None:
    """One transaction for all; each write is compared for itself."""
    try:
        connection.rollback()  # what an earlier failure could not roll back; else nothing
        connection.execute("BEGIN IMMEDIATE")
        errors = [_apply(connection, write) for write in writes]
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        for write in writes:
            write.error = Transient(f"store: {error}")
        with suppress(sqlite3.Error):  # a disk that fails fails here, too: the next transaction begins with it
            connection.rollback()
    else:
        for write, superseded in zip(writes, errors, strict=True):
            write.error = superseded


def _apply(connection: sqlite3.Connection, write: _Write) -> Superseded | None:
    found = connection.execute(_VERSION, (write.key,)).fetchone()
    version = found[0] if found else 0
    if version != write.expected:
        return Superseded(f"{write.key} has version {version}, not {write.expected}")
    if write.value is None:
        connection.execute(_DELETE, (write.key,))
    else:
        connection.execute(_PUT, (write.key, version + 1, write.value))
    return None
