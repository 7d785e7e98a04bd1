"""A loopback HTTP server that answers as its script says: errors, torn bodies, silence, over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def operation(self) -> str:
        """The API call: "GetRecords"."""
        return self.headers.get("x-amz-target", "").rpartition(".")[2]

    @property
    def parameters(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the server says."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: int | None = None
    """Bytes of the body that are sent before the connection is cut; None sends all of them."""
    framing: str = "length"
    """"length", "chunked", or "close": without either, the end of the connection ends the body."""
    hang_up: bool = False
    """Close the connection without a word."""


Script: TypeAlias = Callable[[Request], Reply | Awaitable[Reply]]


def answer(document: object, **more: Any) -> Reply:
    """A JSON answer."""
    return Reply(body=json.dumps(document).encode(), **more)


def failure(
    code: str, *, status: int = 400, message: str = "as scripted", headers: Mapping[str, str] | None = None
) -> Reply:
    """An error as AWS's JSON protocols write it."""
    return Reply(status=status, body=json.dumps({"__type": code, "message": message}).encode(), headers=headers or {})


def in_turn(*replies: Reply) -> Script:
    """Each reply once, the last one for ever."""
    left = list(replies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def by_operation(**scripts: Reply | Script) -> Script:
    """A reply or script for each API call; others are internal failures."""

    def reply(request: Request) -> Reply | Awaitable[Reply]:
        script = scripts.get(request.operation, failure("InternalFailure", status=500, message=request.operation))
        return script if isinstance(script, Reply) else script(request)

    return reply


class ScriptedServer:
    """A server under way; it keeps what it was sent."""

    def __init__(self, script: Script) -> None:
        self.url = ""
        self.requests: list[Request] = []
        self.sent = 0
        """Bytes of bodies that the socket has taken."""
        self.connections = 0
        self.closed = asyncio.Event()
        """A connection has ended."""
        self._script = script

    def operations(self) -> Sequence[str]:
        """The API calls, in order."""
        return [request.operation for request in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                reply = self._script(request)
                if not isinstance(reply, Reply):
                    reply = await reply
                if not await self._send(writer, reply):
                    break
        except ConnectionError:
            pass  # the client has left
        finally:
            self.closed.set()
            writer.transport.abort()

    async def _send(self, writer: asyncio.StreamWriter, reply: Reply) -> bool:
        """Whether the connection is good for another request."""
        if reply.hang_up:
            return False
        headers = {"Content-Type": "application/x-amz-json-1.1", "x-amzn-RequestId": "scripted", **reply.headers}
        if reply.framing == "length":
            headers["Content-Length"] = str(len(reply.body))
        elif reply.framing == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {reply.status} Scripted\r\n{head}\r\n".encode())
        body = reply.body[: reply.sent]
        for start in range(0, len(body), 65_536):
            piece = body[start : start + 65_536]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if reply.framing == "chunked" else piece)
            await writer.drain()
            self.sent += len(piece)
        whole = reply.sent is None
        if whole and reply.framing == "chunked":
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        if whole and reply.framing != "close":
            return True
        writer.close()
        await writer.wait_closed()
        return False


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method=method, path=path, headers=headers, body=body)


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[ScriptedServer]:
    """Serve on a free loopback port."""
    state = ScriptedServer(script)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(state.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    state.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield state
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
