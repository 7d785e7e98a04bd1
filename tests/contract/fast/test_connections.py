"""The fast form on servers that are slow, torn, closed, garbled or behind TLS: over sockets, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import anyio
import pytest
from aiobotocore.credentials import AioCredentials
from botocore.exceptions import (
    ConnectionClosedError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
    SSLError,
)

from poller.aws.calls import UNKNOWN_LENGTH_BYTES
from poller.aws.fast.exchange import ANSWER_LIMIT_BYTES, Exchange, ServersTime
from poller.aws.fast.pool import Pool
from poller.aws.fast.signing import Form
from poller.aws.fast.trust import trusting
from poller.model.errors import Denied
from tests.contract.reading import Admissions, admitted
from tests.servers.authority import certified

FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
SHUT = FINE.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")


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
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)


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
async def exchange_with(
    url: str, *, repeatable: bool = True, at_most: int = 500, silence: float = 60.0, ca: Path | None = None
) -> AsyncIterator[Exchange]:
    async def trust() -> ssl.SSLContext:
        return trusting(str(ca) if ca else None)

    form = Form(method="POST", url=url + "/", headers={"X-Amz-Target": "T.Op"}, region="eu-west-1", service="kinesis")
    pool = Pool(trust, silence=silence, at_most=at_most)
    try:
        yield Exchange(form, pool, AioCredentials("key", "secret"), ServersTime(), repeatable=repeatable)
    finally:
        await pool.aclose()


async def answering(line: Line) -> None:
    """Every request with an empty object."""
    while True:
        await line.request()
        await line.say(FINE)


async def test_connections_are_kept_and_the_last_one_used_is_used_next():
    async with talking(answering) as seen, exchange_with(seen.url) as exchange:
        for _ in range(20):
            assert (await exchange.send(b"{}")).body == b"{}"
        assert seen.connections == 1


@pytest.mark.parametrize(
    "last", [SHUT, b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"HTTP/1.1 200 OK\r\n\r\n{}"],
    ids=["close", "1.0", "no length"],
)  # fmt: skip
async def test_a_connection_that_the_server_ends_is_not_used_again(last):
    async def talk(line: Line) -> None:
        await line.request()
        await line.say(last)

    async with talking(talk) as seen, exchange_with(seen.url, repeatable=False) as exchange:
        for _ in range(3):
            assert (await exchange.send(b"{}")).body == b"{}"
        assert seen.connections == 3


async def test_interim_answers_are_passed_over_and_a_head_may_come_byte_by_byte():
    async def talk(line: Line) -> None:
        await line.request()
        for byte in b"HTTP/1.1 100 Continue\r\n\r\n" + FINE:
            await line.say(bytes([byte]))
            await asyncio.sleep(0)

    async with talking(talk) as seen, exchange_with(seen.url) as exchange:
        assert (await exchange.send(b"{}", admit=admitted)).body == b"{}"


def closing_after(first: int, how: Callable[[Line], None], then: Talk) -> tuple[Talk, anyio.Event]:
    """The first connection answers so many requests, and is closed when the next has come; others do as `then`."""
    got = anyio.Event()

    async def talk(line: Line) -> None:
        if line.number > 1:
            await then(line)
            return
        for _ in range(first):
            await line.request()
            await line.say(FINE)
        await line.request()
        got.set()
        how(line)

    return talk, got


@pytest.mark.parametrize("how", [lambda line: line.writer.close(), Line.reset], ids=["closed", "reset"])
async def test_a_repeatable_call_on_a_stale_connection_is_sent_again_on_a_new_one(how):
    talk, got = closing_after(1, how, answering)
    async with talking(talk) as seen, exchange_with(seen.url) as exchange:
        await exchange.send(b"1")
        assert (await exchange.send(b"2")).body == b"{}"
        assert got.is_set()
        assert seen.connections == 2


@pytest.mark.parametrize("how", [lambda line: line.writer.close(), Line.reset], ids=["closed", "reset"])
async def test_a_call_that_may_not_be_repeated_is_not_sent_again_once_it_was_on_its_way(how):
    talk, got = closing_after(1, how, answering)
    async with talking(talk) as seen, exchange_with(seen.url, repeatable=False) as exchange:
        await exchange.send(b"1")
        with pytest.raises(ConnectionClosedError):
            await exchange.send(b"2")
        assert got.is_set()
        assert seen.connections == 1


async def test_no_call_is_lost_on_a_connection_that_was_seen_to_close():
    async def talk(line: Line) -> None:
        await line.request()
        await line.say(FINE)

    async with talking(talk) as seen, exchange_with(seen.url, repeatable=False) as exchange:
        for number in range(1, 4):
            await exchange.send(b"{}")
            while seen.open:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.01)
            assert seen.connections == number


async def test_a_call_is_sent_again_only_once():
    talk, _ = closing_after(1, lambda line: line.writer.close(), closed_at_once)
    async with talking(talk) as seen, exchange_with(seen.url) as exchange:
        await exchange.send(b"1")
        with pytest.raises(ConnectionClosedError):
            await exchange.send(b"2")
        assert seen.connections == 2


async def closed_at_once(line: Line) -> None:
    await line.request()


async def test_a_call_whose_answer_had_begun_is_not_sent_again():
    async def begun(line: Line) -> None:
        await line.request()
        await line.say(FINE)
        await line.request()
        await line.say(b"HTTP/1.1 2")

    async with talking(begun) as seen, exchange_with(seen.url) as exchange:
        await exchange.send(b"1")
        with pytest.raises(ConnectionClosedError):
            await exchange.send(b"2")
        assert seen.connections == 1


@pytest.mark.parametrize(
    "said",
    [b"SSH-2.0-OpenSSH\r\n", FINE + FINE, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (ANSWER_LIMIT_BYTES + 1)],
    ids=["another protocol", "two answers", "too large"],
)
async def test_what_is_no_answer_is_an_error_and_closes_the_connection(said):
    async def talk(line: Line) -> None:
        await line.request()
        await line.say(said)
        await line.reader.read()

    async with talking(talk) as seen, exchange_with(seen.url) as exchange:
        with pytest.raises(HTTPClientError):
            await exchange.send(b"{}")
        while seen.open:
            await asyncio.sleep(0.01)
        assert seen.connections == 1


async def test_an_answer_that_comes_before_its_request_is_never_taken():
    said = anyio.Event()

    async def talk(line: Line) -> None:
        await line.request()
        await line.say(FINE)
        if line.number == 1:
            await asyncio.sleep(0.02)
            await line.say(FINE.replace(b"{}", b"[]"))
            said.set()
        await answering(line)

    async with talking(talk) as seen, exchange_with(seen.url, repeatable=False) as exchange:
        assert (await exchange.send(b"1")).body == b"{}"
        await said.wait()
        while seen.open:
            await asyncio.sleep(0.01)
        assert (await exchange.send(b"2")).body == b"{}"
        assert seen.connections == 2


async def test_silence_ends_a_call_and_a_slow_answer_does_not():
    async def talk(line: Line) -> None:
        await line.request()
        for byte in FINE:
            await line.say(bytes([byte]))
            await asyncio.sleep(0.01)
        await line.request()
        await line.reader.read()

    async with talking(talk) as seen, exchange_with(seen.url, silence=0.3) as exchange:
        assert (await exchange.send(b"1")).body == b"{}"
        with pytest.raises(ReadTimeoutError):
            await exchange.send(b"2")
        assert seen.connections == 1


async def test_waiting_for_admission_is_no_silence():
    size = 4_000_000

    async def talk(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b" " * size)
        await line.reader.read()

    async def slowly(_: int) -> None:
        await asyncio.sleep(0.4)

    async with talking(talk) as seen, exchange_with(seen.url, silence=0.2) as exchange:
        assert len((await exchange.send(b"1", admit=slowly)).body) == size


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_megabytes_travel_both_ways_while_others_have_their_turn(chunked):
    body = bytes(range(256)) * 24_576  # 6 MiB
    others = anyio.Event()

    async def talk(line: Line) -> None:
        while True:
            head = await line.reader.readuntil(b"\r\n\r\n")
            if b"Content-Length: 2\r\n" in head:
                await line.reader.readexactly(2)
                await line.say(FINE)
                continue
            await others.wait()
            got = await line.reader.readexactly(len(body))
            if chunked:
                pieces = (got[start : start + 100_000] for start in range(0, len(got), 100_000))
                said = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
                await line.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + said + b"0\r\n\r\n")
            else:
                await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(got) + got)

    async with talking(talk) as seen, exchange_with(seen.url) as exchange, asyncio.TaskGroup() as tasks:
        admissions = Admissions()
        large = [tasks.create_task(exchange.send(body, admit=admissions)) for _ in range(2)]
        while seen.open < 2:
            await asyncio.sleep(0.01)
        assert [(await exchange.send(b"{}")).body for _ in range(5)] == [b"{}"] * 5
        others.set()
        assert [(await each).body == body for each in large] == [True, True]
        assert (await exchange.send(b"{}")).body == b"{}"
    assert admissions.sizes == [UNKNOWN_LENGTH_BYTES if chunked else len(body)] * 2
    assert seen.connections == 3


async def test_an_answer_before_all_was_sent_is_the_answer_and_ends_the_connection():
    async def talk(line: Line) -> None:
        await line.reader.readuntil(b"\r\n\r\n")
        await line.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}")
        await line.reader.read(1000)
        await asyncio.sleep(0.2)

    async with talking(talk) as seen, exchange_with(seen.url, repeatable=False) as exchange:
        for number in (1, 2):
            assert (await exchange.send(b" " * 6_291_456)).status == 413
            assert seen.connections == number


async def test_a_call_that_is_cancelled_closes_its_connection_and_no_other():
    waits = anyio.Event()

    async def talk(line: Line) -> None:
        while True:
            _, body = await line.request()
            if body == b"wait":
                waits.set()
                await line.reader.read()
                return
            await line.say(FINE)

    async with talking(talk) as seen, exchange_with(seen.url) as exchange:
        await exchange.send(b"1")
        async with asyncio.TaskGroup() as tasks:
            cancelled = tasks.create_task(exchange.send(b"wait"))
            await waits.wait()
            await exchange.send(b"2")
            assert seen.open == 2
            cancelled.cancel()
        while seen.open > 1:
            await asyncio.sleep(0.01)
        await exchange.send(b"3")
        assert seen.connections == 2


async def test_fifty_calls_at_once_get_each_its_own_answer():
    async def talk(line: Line) -> None:
        while True:
            _, body = await line.request()
            await asyncio.sleep(0.001 * (body[0] % 7))
            await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with talking(talk) as seen, exchange_with(seen.url) as exchange:
        for _ in range(3):
            bodies = [str(number).encode() for number in range(50)]
            answers = await asyncio.gather(*(exchange.send(body) for body in bodies))
            assert [answer.body for answer in answers] == bodies
        assert seen.connections <= 60


async def test_no_more_connections_are_open_than_allowed_and_whoever_waits_is_served_in_turn():
    served = []

    async def talk(line: Line) -> None:
        while True:
            _, body = await line.request()
            served.append(int(body))
            await asyncio.sleep(0.005)
            await line.say(FINE)

    async with talking(talk) as seen, exchange_with(seen.url, at_most=3) as exchange, asyncio.TaskGroup() as tasks:
        for number in range(30):
            tasks.create_task(exchange.send(str(number).encode()))
            await asyncio.sleep(0)
    assert seen.most <= 3
    assert sorted(served) == list(range(30))
    assert all(abs(number - place) <= 3 for place, number in enumerate(served))


async def test_connections_that_fail_do_not_use_up_the_allowance():
    async with talking(closed_at_once) as seen, exchange_with(seen.url, at_most=2) as exchange:
        for _ in range(5):
            with pytest.raises(ConnectionClosedError):
                await exchange.send(b"{}")
    async with exchange_with(seen.url, at_most=2) as exchange:
        for _ in range(5):
            with pytest.raises(EndpointConnectionError):
                await exchange.send(b"{}")


async def test_everything_is_closed_at_the_end():
    async with talking(answering) as seen:
        async with exchange_with(seen.url) as exchange:
            await asyncio.gather(*(exchange.send(b"{}") for _ in range(5)))
            assert seen.open > 0
        while seen.open:
            await asyncio.sleep(0.01)


@pytest.fixture
def tls(tmp_path) -> ssl.SSLContext:
    """A server that a private authority vouches for, whose certificate is in `ca.pem`."""
    certified(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.pem")
    return context


async def test_a_server_of_the_private_authority_is_spoken_to(tls, tmp_path):
    body = b"{" + b" " * 3_000_000 + b"}"

    async def talk(line: Line) -> None:
        while True:
            _, got = await line.request()
            await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(got) + got)

    async with talking(talk, tls) as seen, exchange_with(seen.url, ca=tmp_path / "ca.pem") as exchange:
        for sent in (b"{}", body, b"{}"):
            assert (await exchange.send(sent, admit=admitted)).body == sent
        assert seen.connections == 1


async def test_a_server_that_nobody_vouches_for_is_sent_nothing(tls):
    async with talking(answering, tls) as seen, exchange_with(seen.url) as exchange:
        with pytest.raises(SSLError, match="certificate verify failed"):
            await exchange.send(b"{}")


async def test_a_certificate_for_another_name_is_not_accepted(tls, tmp_path):
    async with talking(answering, tls) as seen:
        other = seen.url.replace("127.0.0.1", "localhost")
        async with exchange_with(other, ca=tmp_path / "ca.pem") as exchange:
            with pytest.raises(SSLError, match="certificate is not valid for 'localhost'"):
                await exchange.send(b"{}")


async def test_a_server_that_speaks_no_tls_is_an_error(tmp_path):
    certified(tmp_path)

    async def talk(line: Line) -> None:
        await line.say(FINE)
        await line.reader.read()

    async with talking(talk) as seen:
        secure = seen.url.replace("http:", "https:")
        async with exchange_with(secure, ca=tmp_path / "ca.pem") as exchange:
            with pytest.raises((SSLError, EndpointConnectionError)):
                await exchange.send(b"{}")


async def test_certificates_that_cannot_be_used_are_told_in_one_line(tmp_path):
    (tmp_path / "ca.pem").write_text("nonsense")
    for name, why in (("ca.pem", "it holds no certificate in PEM form"), ("none.pem", "No such file or directory")):
        async with exchange_with("https://127.0.0.1:1", ca=tmp_path / name) as exchange:
            with pytest.raises(Denied, match=rf"^aws: the certificates of [^\n]*{name} [^\n]*: {why}$"):
                await exchange.send(b"{}")
