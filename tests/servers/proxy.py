"""A TCP proxy on loopback that loses answers, falls silent or is down: what a network does to a request that arrived."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from math import inf

_TARGET = re.compile(rb"x-amz-target: *\w+\.(\w+)", re.IGNORECASE)


class Proxy:
    """Bytes go through unless it is told otherwise."""

    def __init__(self, upstream: int) -> None:
        self.port = 0
        self.answers_to_lose = 0
        """The next answers arrive here, so that what was asked is done, and are lost with their connections."""
        self.silent = False
        """Nothing goes through, and nobody is told."""
        self.most: float = inf
        """Calls of AWS that go through; the next ones wait until this is raised."""
        self.operations: list[str] = []
        """The calls of AWS that were sent through."""
        self._upstream = upstream
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def up(self) -> None:
        """Listen, on the same port as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Refuse connections and reset those that are open."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if server is not None:
            await server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind: asyncio.StreamWriter | None = None
        try:
            with suppress(OSError):
                answers, behind = await asyncio.open_connection("127.0.0.1", self._upstream)
                halves = [
                    asyncio.ensure_future(self._forward(reader, behind, is_answer=False)),
                    asyncio.ensure_future(self._forward(answers, writer, is_answer=True)),
                ]
                try:
                    await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for half in halves:
                        half.cancel()
                    await asyncio.gather(*halves, return_exceptions=True)
        finally:
            _reset(writer)
            if behind is not None:
                behind.transport.abort()

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool) -> None:
        while data := await source.read(262_144):
            while self.silent:
                await asyncio.sleep(0.01)
            if is_answer and self.answers_to_lose:
                self.answers_to_lose -= 1
                return
            calls = [name.decode() for name in _TARGET.findall(data)]
            while calls and len(self.operations) >= self.most:
                await asyncio.sleep(0.01)
            self.operations += calls
            sink.write(data)
            await sink.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset, as a machine does that lost its memory."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()


@asynccontextmanager
async def proxy(upstream: int) -> AsyncIterator[Proxy]:
    """Stand in front of a loopback port."""
    state = Proxy(upstream)
    await state.up()
    try:
        yield state
    finally:
        await state.down()
