"""One connection to PostgreSQL that is opened when it is needed, again when it was lost; and whose errors are ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import anyio

from poller.model.errors import Denied, PollerError, SettingsError, Transient

TABLE = """
CREATE TABLE IF NOT EXISTS poller_rows (
    key text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL,
    value bytea NOT NULL,
    write text NOT NULL
) WITH (fillfactor = 70);
"""
"""What `deploy/postgres/table.sql` holds, too. Rows are written over and over: there is room beside them."""
_EXISTS = "SELECT to_regclass('poller_rows') IS NOT NULL AS found"
_ONE_MAKER = "SELECT pg_advisory_xact_lock(hashtext('poller_rows'))"
_DURABLE = """
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') IN ('off', 'local')
"""
_CONNECT = 2.0
"""Seconds to connect, to log in and to find the table."""
_CLOSE = 1.0
_SILENCE = 30.0
"""Seconds of silence after which a connection that listens is asked whether it is still one."""
_PASSING = frozenset({"08", "25", "40", "53", "55", "57", "58", "XX"})
"""Classes of SQLSTATE that pass by themselves; 25 is a standby, which cannot be written to until it takes over."""


class Session:
    """A connection that serves one statement at a time."""

    def __init__(self, address: str, *, patience: float) -> None:
        """Nothing is opened yet.

        Args:
            address: of the database.
            patience: seconds a statement may take; after that the connection is given up, and its outcome is unknown.
        """
        self._address = address
        self._patience = patience
        self._driver = _driver()
        self._connection: Any = None
        self._one_at_a_time = anyio.Lock()
        self._channel = ""
        self._heard = 0
        self._answered = 0.0
        self._news = anyio.Event()

    async def fetch(self, statement: str, *arguments: object) -> Sequence[Mapping[str, Any]]:
        """Run one statement, a transaction of its own.

        Raises:
            Transient: it may have been made.
            Denied: it was not made.
        """
        async with self._one_at_a_time:
            connection = await self._connected()
            with self._given_up_unless_done(), anyio.fail_after(self._patience):
                rows: Sequence[Mapping[str, Any]] = await connection.fetch(statement, *arguments)
            return rows

    async def heard(self, channel: str, before: int) -> int:
        """Wait until more notices were heard than `before`, losses of the connection included. Answers how many."""
        async with self._one_at_a_time:
            await self._listen(await self._connected(), channel)
        while self._heard <= before:
            await self._news.wait()
        return self._heard

    async def _listen(self, connection: Any, channel: str) -> None:
        """Make sure that this connection hears of a channel."""
        if self._channel == channel and anyio.current_time() < self._answered + _SILENCE:
            return
        with self._given_up_unless_done(), anyio.fail_after(self._patience):
            if self._channel == channel:
                await connection.execute("SELECT")
            else:
                await connection.add_listener(channel, self._told)
                connection.add_termination_listener(self._told)
        self._channel, self._answered = channel, anyio.current_time()

    async def close(self) -> None:
        """Leave, politely if the server answers."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Transient, Denied), _translated(self._driver), anyio.move_on_after(_CLOSE):
                await connection.close()
            connection.terminate()

    def _told(self, *_: object) -> None:
        self._heard += 1
        self._news.set()
        self._news = anyio.Event()

    async def _connected(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            self._channel = ""
            with _translated(self._driver), anyio.fail_after(_CONNECT):
                chosen = None if "target_session_attrs=" in self._address else "read-write"  # a standby may lag behind
                connection = await self._driver.connect(self._address, timeout=_CONNECT, target_session_attrs=chosen)
                try:
                    await connection.execute(_DURABLE)
                    await self._make_table(connection)
                except BaseException:
                    connection.terminate()
                    raise
            self._connection = connection
        return self._connection

    async def _make_table(self, connection: Any) -> None:
        """Make the table unless it is there; who may not make one is given one."""
        if (await connection.fetchrow(_EXISTS))["found"]:
            return
        try:
            async with connection.transaction():
                await connection.execute(_ONE_MAKER)
                await connection.execute(TABLE)
        except self._driver.InsufficientPrivilegeError as error:
            raise Denied(
                f"store: postgresql: {_one_line(error)}: make the table with deploy/postgres/table.sql, or allow CREATE"
            ) from error

    @contextmanager
    def _given_up_unless_done(self) -> Iterator[None]:
        """A connection on which a statement did not come to a clear end is not used again."""
        try:
            with _translated(self._driver):
                yield
        except Denied:
            raise
        except BaseException:
            connection, self._connection = self._connection, None
            connection.terminate()
            raise


def _driver() -> Any:
    try:
        import asyncpg
    except ModuleNotFoundError:
        raise SettingsError(
            "store: postgresql:// needs a driver that is not installed, needed: pip install 'poller[postgres]'"
        ) from None
    return asyncpg


@contextmanager
def _translated(driver: Any) -> Iterator[None]:
    """Our errors in place of the driver's."""
    try:
        yield
    except driver.PostgresError as error:
        raise _of_answer(error.sqlstate or "", str(error)) from error
    except driver.ClientConfigurationError as error:
        raise Denied(f"store: postgresql: {_one_line(error)}") from error
    except (driver.InterfaceError, driver.InternalClientError, OSError) as error:  # TimeoutError is an OSError
        text = _one_line(error) or "no answer in time"
        raise Transient(f"store: postgresql: {text}") from error
    except ValueError as error:
        raise Denied(f"store: postgresql: {_one_line(error)}") from error


def _of_answer(code: str, message: str) -> PollerError:
    line = f"store: postgresql: {_one_line(message)}"
    return Transient(line) if code[:2] in _PASSING else Denied(line)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
