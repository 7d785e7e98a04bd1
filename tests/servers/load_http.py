"""The load double's HTTP: no more of a request is parsed than tells where it ends and what it asks for."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Coroutine, Iterator
from typing import Any, Protocol, cast

from tests.servers.load_records import PIECE_BYTES

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TARGET = re.compile(rb"\r\nx-amz-target: *(\w+)\.(\w+)", re.IGNORECASE)
_REPLY = b'{"batchItemFailures":[]}'
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: %d\r\n\r\n"


class Served(Protocol):
    """Who answers."""

    waiting: int
    """Calls whose answer is held back now."""

    def fill(self, records: int) -> None: ...

    def trickle(self, rate: int) -> None: ...

    def told(self) -> bytes: ...

    def call(self, service: bytes, operation: str, asked: Any) -> tuple[int, Iterator[bytes]]: ...

    def wait(self, operation: str, asked: Any) -> float: ...

    async def invoke(self, event: bytes, arrived: float) -> None: ...


class Connection(asyncio.Protocol):
    """One client; requests come one after the other."""

    def __init__(self, load: Served) -> None:
        self._load = load
        self._received = bytearray()
        self._wanted = 0
        """Bytes of the request under way, its head included; 0 while the head is not complete."""
        self._body_at = 0
        self._arrived = 0.0
        """When the request under way began to arrive, on the monotonic clock."""
        self._pieces: Iterator[bytes] = iter(())
        self._writable = True
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        if not self._received:
            self._arrived = time.monotonic()
        self._received += data
        if not self._wanted:
            head_end = self._received.find(b"\r\n\r\n")
            if head_end < 0:
                return
            length = _LENGTH.search(self._received, 0, head_end + 2)
            self._body_at = head_end + 4
            self._wanted = self._body_at + (int(length[1]) if length else 0)
        if len(self._received) >= self._wanted:
            received, self._received, self._wanted = self._received, bytearray(), 0
            self._request(bytes(received[: self._body_at]), bytes(memoryview(received)[self._body_at :]))

    def _request(self, head: bytes, body: bytes) -> None:
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        if method == "GET":
            name, _, value = path.partition("?records=")
            if name == "/fill":
                self._load.fill(int(value))
            elif name == "/trickle":
                self._load.trickle(int(value))
            answer = self._load.told()
            self._send(len(answer), iter([answer]))
        elif target := _TARGET.search(head):
            service, operation, asked = target[1], target[2].decode(), json.loads(body)
            if wait := self._load.wait(operation, asked):
                self._later(self._call(service, operation, asked, wait))
            else:
                self._send(*self._load.call(service, operation, asked))
        else:
            self._later(self._function(body, self._arrived))

    def _later(self, answer: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(answer)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call(self, service: bytes, operation: str, asked: Any, wait: float) -> None:
        self._load.waiting += 1
        await asyncio.sleep(wait)
        self._load.waiting -= 1
        self._send(*self._load.call(service, operation, asked))

    async def _function(self, event: bytes, arrived: float) -> None:
        await self._load.invoke(event, arrived)
        self._send(len(_REPLY), iter([_REPLY]))

    def _send(self, length: int, pieces: Iterator[bytes]) -> None:
        if self._transport.is_closing():
            return
        if length < PIECE_BYTES:
            self._transport.write(_ANSWER % length + b"".join(pieces))  # in one packet, as services answer
            return
        self._transport.write(_ANSWER % length)
        self._pieces = pieces
        self.resume_writing()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        for piece in self._pieces:
            self._transport.write(piece)
            if not self._writable:
                return
