"""Servers that say what a test makes them say, byte by byte, and the fast form's requests to them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from aiobotocore.credentials import AioCredentials

from poller.aws.fast.exchange import Exchange, ServersTime
from poller.aws.fast.pool import IDLE, Pool
from poller.aws.fast.signing import Form
from poller.aws.fast.trust import trusting

FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Line:
    """A connection as the server has it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    """1 of the first connection."""

    async def request(self) -> tuple[bytes, bytes]:
        """The head and body of the next request. Raises IncompleteReadError when there is none."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head, await self.reader.readexactly(length)

    async def say(self, text: bytes) -> None:
        self.writer.write(text)
        await self.writer.drain()

    def reset(self) -> None:
        """Close with RST."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Talk: TypeAlias = Callable[[Line], Awaitable[None]]


@dataclass
class Talks:
    url: str = ""
    connections: int = 0
    open: int = 0
    most: int = 0


@asynccontextmanager
async def talking(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[Talks]:
    """Serve on loopback: each connection is handed to `talk`, and closed when that returns."""
    seen = Talks()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        seen.open += 1
        seen.most = max(seen.most, seen.open)
        line = Line(reader, writer, seen.connections)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await talk(line)
        finally:
            seen.open -= 1
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    seen.url = f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield seen
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def pool_of(
    *, at_most: int = 500, silence: float = 60.0, idle: float = IDLE, ca: Path | None = None
) -> AsyncIterator[Pool]:
    async def trust() -> ssl.SSLContext:
        return trusting(str(ca) if ca else None)

    pool = Pool(trust, silence=silence, at_most=at_most, idle=idle)
    try:
        yield pool
    finally:
        await pool.aclose()


def exchange_over(pool: Pool, url: str, *, repeatable: bool = True, credentials: Any = None) -> Exchange:
    form = Form(method="POST", url=url + "/", headers={"X-Amz-Target": "T.Op"}, region="eu-west-1", service="kinesis")
    return Exchange(form, pool, credentials or AioCredentials("key", "secret"), ServersTime(), repeatable=repeatable)


@asynccontextmanager
async def exchange_with(url: str, *, repeatable: bool = True, **more: Any) -> AsyncIterator[Exchange]:
    """With a pool of its own, see `pool_of`."""
    async with pool_of(**more) as pool:
        yield exchange_over(pool, url, repeatable=repeatable)


async def answering(line: Line) -> None:
    """Every request with an empty object."""
    while True:
        await line.request()
        await line.say(FINE)
