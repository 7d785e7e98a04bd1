"""Connections that are kept: the one used last is used next, so that those that are not needed grow old and close."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import aiohappyeyeballs
import anyio
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, SSLError

from poller.aws.botocore_calls import keepalive_socket
from poller.aws.fast.connection import SCRATCH_BYTES, Connection

OPEN_AT_MOST = 500
IDLE = 12.0
"""Seconds that a connection is kept for; AWS's servers keep theirs for 20 and more."""
_CONNECT = 5.0
"""Seconds to connect, TLS included."""
_NEXT_ADDRESS = 0.25
"""Seconds after which a second address of a host is tried beside the first. Source: RFC 8305."""


class Origin(NamedTuple):
    """Who is spoken to."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """The origin of a URL of HTTP."""
        parts = urlsplit(url)
        return cls(parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class Pool:
    """Connections of one kind of call. No more than `at_most` are open, idle ones included; whoever waits is served in turn."""

    def __init__(
        self,
        trust: Callable[[], Awaitable[ssl.SSLContext]],
        *,
        silence: float,
        at_most: float = OPEN_AT_MOST,
        idle: float = IDLE,
    ) -> None:
        """Open nothing yet.

        Args:
            trust: whom TLS trusts; asked for where an origin speaks TLS.
            silence: seconds without a byte after which an answer is given up.
            at_most: connections.
            idle: seconds that one is kept for that nobody needs; half as long again may pass until somebody looks.
        """
        self._trust = trust
        self._silence = silence
        self._at_most = at_most
        self._keep = idle
        self._left = at_most
        """So many more calls may be under way."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        """Calls that wait for another to be over; each is handed the turn of one."""
        self._idle: defaultdict[Origin, list[Connection]] = defaultdict(list)
        self._open: set[Connection] = set()
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._sweeping: asyncio.TimerHandle | None = None

    def idle(self, origin: Origin) -> Connection | None:
        """A connection that was used before, to be given back in any case; None where `take` has to be awaited.

        It may have ended just now, as it may while it is asked: asking it tells.
        """
        idle = self._idle.get(origin)
        if idle and self._left:
            self._left -= 1
            return idle.pop()
        return None

    async def take(self, origin: Origin, *, new: bool = False) -> Connection:
        """A connection, to be given back in any case.

        Args:
            origin: to whom.
            new: not one that was used before.

        Raises:
            ConnectTimeoutError, EndpointConnectionError, SSLError: it cannot be reached.
        """
        await self._turn()
        try:
            idle = self._idle.get(origin)
            return idle.pop() if idle and not new else await self._connected(origin)
        except BaseException:
            self._over()
            raise

    def give_back(self, origin: Origin, connection: Connection) -> None:
        """The call is over, well or not: a connection with a whole answer behind it is kept."""
        if connection.done():
            self._idle[origin].append(connection)
            if self._sweeping is None:
                self._sweep()
        if self._waiting:
            self._over()
        else:
            self._left += 1

    async def _turn(self) -> None:
        if self._left:
            self._left -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was handed over, and nobody takes it
                self._over()
            raise

    def _over(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._left += 1

    async def aclose(self) -> None:
        """Close all connections, and wait until they are."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in tuple(self._open):
            connection.abort()
        for connection in tuple(self._open):
            await connection.gone

    async def _connected(self, origin: Origin) -> Connection:
        if len(self._open) >= self._at_most:
            self._close_eldest()
        loop = asyncio.get_running_loop()
        where = str(origin)
        try:
            tls = await self._trust() if origin.scheme == "https" else None
            addresses = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            connection = Connection(where, self._scratch, self._silence)
            with anyio.fail_after(_CONNECT):
                reached = await aiohappyeyeballs.start_connection(
                    addresses, happy_eyeballs_delay=_NEXT_ADDRESS, socket_factory=keepalive_socket
                )
                await loop.create_connection(  # the socket is the loop's from here on, whatever happens
                    lambda: connection, sock=reached, ssl=tls, server_hostname=origin.host if tls else None
                )
        except TimeoutError as error:
            raise ConnectTimeoutError(endpoint_url=where, error=error) from error
        except ssl.SSLError as error:
            raise SSLError(endpoint_url=where, error=error) from error
        except OSError as error:
            raise EndpointConnectionError(endpoint_url=where, error=error) from error
        self._open.add(connection)
        connection.gone.add_done_callback(lambda _: self._forget(origin, connection))
        return connection

    def _forget(self, origin: Origin, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle[origin]:
            self._idle[origin].remove(connection)

    def _close_eldest(self) -> None:
        """Make room for a connection to another origin."""
        waiting = [idle for idle in self._idle.values() if idle]
        if waiting:
            min(waiting, key=lambda idle: idle[0].alive).pop(0).abort()

    def _sweep(self) -> None:
        """Close what has been idle for long, and look again while something is."""
        self._sweeping = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for origin, idle in tuple(self._idle.items()):
            kept = [connection for connection in idle if connection.usable and now - connection.alive < self._keep]
            for connection in idle:
                if connection not in kept:
                    connection.abort()
            if kept:
                self._idle[origin] = kept
            else:
                del self._idle[origin]
        if self._idle:
            self._sweeping = loop.call_later(self._keep / 2, self._sweep)
