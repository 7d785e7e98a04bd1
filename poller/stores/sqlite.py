"""A store in one file, for one process at a time on one machine.

Writes that come while another is on its way to the disk share the next transaction, so that many shards cost one
`fsync`. Every answer to `put` means that the write is on the disk: a position that LATEST was resolved to must not be
lost with the power, and neither must a checkpoint.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
from anyio.to_thread import run_sync

from poller.model.errors import SettingsError, Superseded, Transient
from poller.model.ports import Row, Store

_SCHEMA = "CREATE TABLE IF NOT EXISTS rows (key TEXT PRIMARY KEY, version INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID"
_GET = "SELECT value, version FROM rows WHERE key = ?"
_SCAN = "SELECT key, value, version FROM rows WHERE key >= ? AND key < ? ORDER BY key"
_VERSION = "SELECT version FROM rows WHERE key = ?"
_PUT = "INSERT INTO rows (key, version, value) VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET version = ?2, value = ?3"
_DELETE = "DELETE FROM rows WHERE key = ?"
_LAST = "\U0010ffff"
_BUSY = 5.0
"""Seconds to wait for another reader of the file (a backup, a shell) to let go."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteStore:
    """`sqlite:///PATH`: survives restarts and kill -9; one process at a time."""

    path: str

    @asynccontextmanager
    async def open(self, kind: type[sqlite3.Connection] = sqlite3.Connection) -> AsyncIterator[Store]:
        """Open or create the file.

        Args:
            kind: of connection, for a disk that fails.

        Raises:
            SettingsError: the file cannot be used, or another process uses it.
        """
        with _lock(Path(self.path)):
            store = _Sqlite(await run_sync(_connect, self.path, kind))
            try:
                yield store
            finally:
                with anyio.CancelScope(shield=True):
                    await store.close()


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Keep other processes out: without leases two would process every record twice."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(path.name + ".lock").open("w")
    except OSError as error:
        raise SettingsError(f"store: {path} cannot be used: {os.strerror(error.errno or 0)}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"store: {path} is in use by another poller, allowed: one process at a time for each file"
            ) from None
        yield


def _connect(path: str, kind: type[sqlite3.Connection]) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY, factory=kind)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(_SCHEMA)
    except sqlite3.Error as error:
        raise SettingsError(f"store: {path} cannot be used: {error}") from None
    return connection


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
    shared = False
    pace = 0.0

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._one_at_a_time = anyio.Lock()
        self._pending: list[_Write] = []

    async def get(self, key: str) -> Row | None:
        rows = await self._run(lambda: self._connection.execute(_GET, (key,)).fetchall())
        return Row(*rows[0]) if rows else None

    async def put(self, key: str, value: bytes, expected: int) -> int:
        await self._write(_Write(key, value, expected))
        return expected + 1

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, Row]]:
        rows = await self._run(lambda: self._connection.execute(_SCAN, (prefix, prefix + _LAST)).fetchall())
        for key, value, version in rows:
            yield key, Row(value, version)

    async def delete(self, key: str, expected: int) -> None:
        await self._write(_Write(key, None, expected))

    async def wake(self) -> None:
        pass

    async def wait(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def close(self) -> None:
        await run_sync(self._connection.close)

    async def _write(self, write: _Write) -> None:
        """Queue the write; whoever gets the connection next writes everything that is queued."""
        self._pending.append(write)
        async with self._one_at_a_time:
            if not write.done.is_set():
                writes, self._pending = self._pending, []
                with anyio.CancelScope(shield=True):  # the others' writes are in our hands
                    await run_sync(partial(_commit, self._connection, writes))
                for each in writes:
                    each.done.set()
        if write.error:
            raise write.error

    async def _run(self, query: Callable[[], T]) -> T:
        async with self._one_at_a_time:
            try:
                return await run_sync(self._read, query)
            except sqlite3.Error as error:
                raise Transient(f"store: {error}") from None

    def _read(self, query: Callable[[], T]) -> T:
        self._connection.rollback()  # as in `_commit`: what is read is on the disk
        return query()


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
