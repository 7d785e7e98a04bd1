"""A store in one table of a PostgreSQL database, for replicas on any number of machines.

Writes that come while others are on their way share the next statement, each compared for itself; a statement is
atomic, but nothing here needs more than that a row is. A write carries a name, so that one whose reply was lost is
known as one's own when it is repeated. Beats, checkpoints, reads and notices have a connection each, opened when it is
needed and again when it was lost; a pooler in between has to give each its own session.

A write is durable when it is answered: `synchronous_commit` is turned on where it was off. Failover to an
*asynchronous* standby can take acknowledged versions back, and two replicas may then hold one shard until they write:
the standby that takes over has to be a synchronous one.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import anyio

from poller.model.errors import Denied, SettingsError, Superseded, Transient
from poller.model.ports import Row, Store
from poller.stores.postgres_session import Session
from poller.stores.writing import MEMBERS, Write, Writes

_GET = "SELECT value, version, write FROM poller_rows WHERE key = $1"
_SCAN = """
SELECT key, value, version FROM (
    SELECT key, value, version,
           sum(octet_length(value)) OVER (ORDER BY key ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM (SELECT key, value, version FROM poller_rows WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3) AS page
) AS sized
WHERE before IS NULL OR before < $4
ORDER BY key
"""
"""One page: so many rows, and no more once there are so many bytes."""
_PUT = """
WITH given AS (
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::text[]) AS given(key, expected, value, write)
), locked AS (
    SELECT stored.key FROM poller_rows AS stored JOIN given ON stored.key = given.key
    ORDER BY stored.key FOR UPDATE OF stored
), updated AS (
    UPDATE poller_rows AS stored SET version = given.expected + 1, value = given.value, write = given.write
    FROM given JOIN locked USING (key)
    WHERE stored.key = given.key AND stored.version = given.expected
    RETURNING given.write
), inserted AS (
    INSERT INTO poller_rows (key, version, value, write)
    SELECT key, 1, value, write FROM given WHERE expected = 0 ORDER BY key
    ON CONFLICT DO NOTHING
    RETURNING write
)
SELECT write FROM updated UNION ALL SELECT write FROM inserted
"""
"""Locks in key order, so that statements of several replicas do not wait for one another in a circle."""
_FOUND = "SELECT key, version, write FROM poller_rows WHERE key = ANY($1::text[])"
_DELETE = "DELETE FROM poller_rows WHERE key = $1 AND version = $2 RETURNING key"
_CHANNEL = "poller_rows"
_NOTIFY = f"NOTIFY {_CHANNEL}"

_NEXT, _LAST = "\x01", "\U0010ffff"
"""A key with it is the next one, or the last one; PostgreSQL's texts hold no NUL."""
_PAGE_ROWS, _PAGE_BYTES = 1_000, 4_000_000
_GROUP_ROWS, _GROUP_BYTES = 500, 8_000_000
_BEAT = 1.0
"""Seconds until a statement about a member's row is given up, with its connection."""
_WRITE = 3.0
"""The same of a statement that writes many checkpoints."""
_READ = 10.0
"""The same of a page."""
_AGAIN = 0.5
"""Seconds between two tries to listen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresStore:
    """`postgresql://USER:PASSWORD@HOST/DATABASE`: one table, made where it is missing, shared by all replicas."""

    address: str = field(repr=False)
    """As libpq spells it; it may hold a password."""

    @asynccontextmanager
    async def open(self, _: object = None) -> AsyncIterator[Store]:
        """Reach the database. One that cannot be reached now is no mistake: its rows are `Transient` until it can.

        Raises:
            SettingsError: the driver is missing, or the database or its table may not be used.
        """
        store = _Postgres(self.address)
        try:
            try:
                await store.get(f"{MEMBERS}nobody")
            except Transient:
                pass  # every call connects anew
            except Denied as error:
                raise SettingsError(str(error)) from None
            yield store
        finally:
            with anyio.CancelScope(shield=True):
                await store.close()


@dataclass(slots=True, eq=False)
class _Queued:
    write: Write
    value: bytes
    done: anyio.Event = field(default_factory=anyio.Event)
    error: Superseded | Transient | Denied | None = field(
        default_factory=lambda: Transient("store: the write was not made")
    )
    """None once the write is made, and not before."""


class _Group:
    """Writes of one connection: whoever has it next writes all that are queued."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._one_at_a_time = anyio.Lock()
        self._queued: list[_Queued] = []

    async def write(self, write: Write, value: bytes) -> None:
        """Make one write together with those that wait, too."""
        mine = _Queued(write, value)
        self._queued.append(mine)
        try:
            async with self._one_at_a_time:
                while not mine.done.is_set():
                    group = self._next()
                    with anyio.CancelScope(shield=True):  # the others' writes are in our hands
                        await self._make(group)
                    for each in group:
                        each.done.set()
        finally:
            if mine in self._queued:  # cancelled: not to be made behind the back of who asked for it
                self._queued.remove(mine)
        if mine.error:
            raise mine.error

    def _next(self) -> list[_Queued]:
        """The writes that came first, as many as one statement bears."""
        count, size = 0, 0
        for each in self._queued[:_GROUP_ROWS]:
            size += len(each.value)
            if count and size > _GROUP_BYTES:
                break
            count += 1
        group, self._queued = self._queued[:count], self._queued[count:]
        return group

    async def _make(self, group: list[_Queued]) -> None:
        writes = [each.write for each in group]
        try:
            made = await self._session.fetch(
                _PUT,
                [write.key for write in writes],
                [write.expected for write in writes],
                [each.value for each in group],
                [write.name for write in writes],
            )
            names = {row["write"] for row in made}
            refused = [write.key for write in writes if write.name not in names]
            found = {row["key"]: row for row in await self._session.fetch(_FOUND, refused)} if refused else {}
        except (Transient, Denied) as error:
            for each in group:
                each.error = type(error)(str(error))
            return
        for each in group:
            key, row = each.write.key, found.get(each.write.key)
            if each.write.name in names or (row is not None and row["write"] == each.write.name):
                each.error = None
            else:
                each.error = _superseded(key, row["version"] if row else 0, each.write.expected)


class _Postgres:
    shared = True
    pace = 5.0

    def __init__(self, address: str) -> None:
        self._beats = Session(address, patience=_BEAT)
        self._rows = Session(address, patience=_WRITE)
        self._reads = Session(address, patience=_READ)
        self._news = Session(address, patience=_BEAT)
        self._grouped_beats = _Group(self._beats)
        self._grouped_rows = _Group(self._rows)
        self._writes = Writes(secrets.token_hex(8))
        self._seen = 0

    async def get(self, key: str) -> Row | None:
        rows = await self._reader(key).fetch(_GET, key)
        return Row(rows[0]["value"], rows[0]["version"]) if rows else None

    async def put(self, key: str, value: bytes, expected: int) -> int:
        if "\0" in key:
            raise Denied(f"store: postgresql: {key!r} cannot be a key: it holds a NUL character")
        group = self._grouped_beats if key.startswith(MEMBERS) else self._grouped_rows
        with self._writes.sending(key, value, expected) as write:
            await group.write(write, value)
        return expected + 1

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, Row]]:
        session, start = self._reader(prefix), prefix
        while page := await session.fetch(_SCAN, start, prefix + _LAST, _PAGE_ROWS, _PAGE_BYTES):
            for row in page:
                yield row["key"], Row(row["value"], row["version"])
            start = page[-1]["key"] + _NEXT

    async def delete(self, key: str, expected: int) -> None:
        session = self._beats if key.startswith(MEMBERS) else self._rows
        with self._writes.sending(key, None, expected) as write:
            if expected and await session.fetch(_DELETE, key, expected):
                return
            found = await session.fetch(_GET, key)
            if found or (expected and not write.repeated):
                raise _superseded(key, found[0]["version"] if found else 0, expected)

    async def wake(self) -> None:
        with suppress(Transient, Denied):  # a hint; who waits looks after a while
            await self._beats.fetch(_NOTIFY)

    async def wait(self, seconds: float) -> None:
        before = self._seen
        with anyio.move_on_after(seconds):
            while self._seen == before:
                try:
                    heard = await self._news.heard(_CHANNEL, before)
                except (Transient, Denied):
                    await anyio.sleep(_AGAIN)
                else:
                    self._seen = max(self._seen, heard)

    async def close(self) -> None:
        for session in (self._beats, self._rows, self._reads, self._news):
            await session.close()

    def _reader(self, key: str) -> Session:
        return self._beats if key.startswith(MEMBERS) else self._reads


def _superseded(key: str, found: int, expected: int) -> Superseded:
    return Superseded(f"{key} has version {found}, not {expected}")
