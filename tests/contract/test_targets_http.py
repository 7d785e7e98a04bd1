"""HTTP functions: real sockets, with servers that answer, stall, hang up and lie."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

import pytest
from aiohttp import web

from poller.aws.session import Aws, AwsSettings
from poller.model.errors import Denied
from poller.model.outcome import Failed, Outcome, Refused, Replied, Unavailable
from poller.model.ports import Target
from poller.targets.http import HttpFunction

NOBODY = Aws(AwsSettings(), AsyncExitStack())
Handle: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Talk: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handle: Handle) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[str]:
    """A server that says what `talk` says, which need not be HTTP."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    async with await asyncio.start_server(one, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def take(reader: asyncio.StreamReader) -> bytes:
    """One whole request."""
    head = await reader.readuntil(b"\r\n\r\n")
    size = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    return head + await reader.readexactly(size)


@asynccontextmanager
async def asking(url: str, **more: Any) -> AsyncIterator[Target]:
    function = HttpFunction(name="f", url=url, **{"timeout": 5.0, **more})
    async with function.open(NOBODY, lambda fact: None) as target:
        yield target


def answering(status: int, body: bytes = b"", **headers: str) -> Handle:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.Response(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return handle


async def outcome_of(handle: Handle, path: str = "", **more: Any) -> Outcome:
    async with serving(handle) as url, asking(url + path, **more) as target:
        return await target.invoke(b"{}", "1")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, Replied(body=b"said")),
        (202, Replied(body=b"said")),
        (302, Unavailable(reason="status 302: redirects to /elsewhere are not followed", lasting=True)),
        (400, Failed(reason="status 400: said")),
        (401, Unavailable(reason="status 401: said", lasting=True)),
        (404, Unavailable(reason="status 404: said", lasting=True)),
        (413, Failed(reason="status 413: said", error=None, ran=False)),
        (429, Refused(reason="status 429: said", after=3.0)),
        (500, Failed(reason="status 500: said")),
        (502, Unavailable(reason="status 502: said")),
        (503, Refused(reason="status 503: said", after=3.0)),
        (504, Unavailable(reason="status 504: said")),
    ],
    ids=str,
)
async def test_status_decides(status, expected):
    assert await outcome_of(answering(status, b"said", Retry_After="3", Location="/elsewhere")) == expected


async def test_reply_without_body_is_a_reply():
    assert await outcome_of(answering(204)) == Replied(body=b"")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"errorMessage": "m", "errorType": "T"}', Failed(reason="T: m")),
        (200, b'{"errorMessage": "m"}', Replied(body=b'{"errorMessage": "m"}')),
        (200, b"Task timed out after 3.00 seconds", Failed(reason="Task timed out after 3.00 seconds", timeout=True)),
        (502, b'{"errorMessage": "m", "errorType": "Runtime.ExitError"}', Failed(reason="Runtime.ExitError: m")),
        (502, b"", Unavailable(reason="status 502")),
        (400, b"", Refused(reason="the emulator is busy: it takes one event at a time")),
    ],
    ids=["error object", "half an error object", "timeout in plain text", "exit", "gateway", "busy"],
)
async def test_emulator_s_ways_are_known(status, body, expected):
    path = "2015-03-31/functions/function/invocations"
    assert await outcome_of(answering(status, body), path) == expected


async def test_request_carries_event_id_and_deadline():
    seen: list[tuple[str, dict[str, str], bytes]] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        seen.append((request.method, {k.lower(): v for k, v in request.headers.items()}, await request.read()))
        return web.Response()

    before = time.time()
    async with serving(handle) as url, asking(url, timeout=30.0) as target:
        await target.invoke(b'{"Records":[]}', "id-1")
    method, headers, body = seen[0]
    assert (method, body, headers["content-length"]) == ("POST", b'{"Records":[]}', "14")
    assert headers["content-type"] == "application/json"
    assert headers["x-amzn-requestid"] == headers["lambda-runtime-aws-request-id"] == "id-1"
    assert 29.9 < int(headers["lambda-runtime-deadline-ms"]) / 1000 - before < 35
    assert "transfer-encoding" not in headers


async def test_headers_of_the_configuration_win():
    seen: list[dict[str, str]] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        seen.append({k.lower(): v for k, v in request.headers.items()})
        return web.Response()

    ours = (("Authorization", "Bearer x"), ("content-type", "application/cloudevents+json"), ("USER-AGENT", "me"))
    async with serving(handle) as url, asking(url, headers=ours) as target:
        await target.invoke(b"{}", "1")
    wanted = {"authorization": "Bearer x", "content-type": "application/cloudevents+json", "user-agent": "me"}
    assert wanted.items() <= seen[0].items()


async def test_slow_function_has_run_out_of_time_and_is_let_go():
    gone = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take(reader)
        assert await reader.read() == b""
        gone.set()

    async with talking(talk) as url, asking(url, timeout=0.2) as target:
        outcome = await target.invoke(b"{}", "1")
        assert outcome == Failed(reason="Task timed out after 0.20 seconds", timeout=True)
        await asyncio.wait_for(gone.wait(), 5)


async def test_reply_that_dribbles_runs_out_of_time_as_a_whole():
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(20):
            writer.write(b"x")
            await asyncio.sleep(0.05)

    async with talking(talk) as url, asking(url, timeout=0.3) as target:
        assert await target.invoke(b"{}", "1") == Failed(reason="Task timed out after 0.30 seconds", timeout=True)


async def unavailable(url: str, **more: Any) -> str:
    """The reason of an outcome that must be that the function could not be reached, for now."""
    async with asking(url, **more) as target:
        outcome = await target.invoke(b"{}", "1")
    assert isinstance(outcome, Unavailable), outcome
    assert not outcome.lasting
    assert outcome.reason.startswith('function "f": ')
    assert "\n" not in outcome.reason
    return outcome.reason


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x15\x03\x01\x00\x02\x02\x50 this is not HTTP\r\n\r\n",
        b"HTTP/1.1 banana\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
    ids=["nothing", "not HTTP", "no status", "half a body", "a broken chunk", "not gzip", "an endless header"],
)
async def test_garbage_is_unavailable_in_one_line(answer):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take(reader)
        writer.write(answer)
        await writer.drain()

    async with talking(talk) as url:
        assert len(await unavailable(url)) < 300


async def test_reset_is_unavailable():
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take(reader)
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # close with a reset
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async with talking(talk) as url:
        await unavailable(url)


async def test_nobody_listening_is_unavailable(unused_tcp_port):
    assert f"127.0.0.1:{unused_tcp_port}" in await unavailable(f"http://127.0.0.1:{unused_tcp_port}/")


async def test_unknown_host_is_unavailable():
    assert "nowhere.invalid" in await unavailable("http://nowhere.invalid/")


async def test_no_tls_where_tls_is_expected_is_unavailable():
    async with serving(answering(200)) as url:
        assert "ssl" in (await unavailable(url.replace("http:", "https:"))).lower()


async def test_host_that_does_not_accept_is_unavailable_and_no_failure_of_the_function():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fill = [socket.socket() for _ in range(4)]
        for one in fill:  # the queue of connections is full now: the next one gets no answer
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        try:
            reason = await unavailable(f"http://127.0.0.1:{listener.getsockname()[1]}/?code=secret", timeout=0.6)
            assert "secret" not in reason, "it is logged"
        finally:
            for one in fill:
                one.close()


@pytest.mark.parametrize(
    "more",
    [{"url": "http://"}, {"url": "ftp://host/"}, {"url": "http://[1"}, {"headers": (("X", "two\r\nlines"),)}],
    ids=["no host", "no HTTP", "no address", "no header"],
)
async def test_what_cannot_be_sent_is_a_lasting_fault(more):
    async with serving(answering(200)) as url, asking(**{"url": url, **more}) as target:
        outcome = await target.invoke(b"{}", "1")
    assert isinstance(outcome, Unavailable)
    assert outcome.lasting


async def test_connection_is_used_again():
    peers: set[Any] = set()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        await request.read()
        return web.Response(body=b"{}")

    async with serving(handle) as url, asking(url) as target:
        for _ in range(5):
            assert await target.invoke(b"{}", "1") == Replied(body=b"{}")
    assert len(peers) == 1


async def test_event_lost_on_a_stale_connection_is_not_sent_again():
    requests = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await take(reader)
        requests += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await take(reader)  # the second event on this connection: taken, and never answered
        requests += 1

    async with talking(talk) as url, asking(url) as target:
        assert await target.invoke(b"{}", "1") == Replied(body=b"{}")
        assert isinstance(await target.invoke(b"{}", "2"), Unavailable)
        assert requests == 2
        assert await target.invoke(b"{}", "2") == Replied(body=b"{}")
        assert requests == 3


async def test_many_invocations_run_at_once():
    waiting = 0
    everybody = asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal waiting
        await request.read()
        waiting += 1
        if waiting == 150:
            everybody.set()
        await everybody.wait()
        return web.Response()

    async with serving(handle) as url, asking(url, timeout=30.0) as target:
        outcomes = await asyncio.gather(*(target.invoke(b"{}", str(number)) for number in range(150)))
    assert set(outcomes) == {Replied()}


async def test_reply_larger_than_lambda_allows_is_a_failure():
    outcome = await outcome_of(answering(200, b"x" * 6_300_000))
    assert outcome == Failed(reason="the reply is larger than 6291556 bytes")


async def test_largest_reply_is_a_reply():
    assert await outcome_of(answering(200, b"x" * 6_291_556)) == Replied(body=b"x" * 6_291_556)


async def test_refusal_of_a_large_event_is_heard_although_the_server_hangs_up():
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.2)

    async with talking(talk) as url, asking(url) as target:
        assert await target.invoke(b"x" * 6_000_000, "1") == Failed(reason="status 413", error=None, ran=False)


async def test_check_connects_and_sends_nothing():
    said = asyncio.get_running_loop().create_future()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said.set_result(await reader.read())

    async with talking(talk) as url, asking(url) as target:
        await target.check()
        assert await asyncio.wait_for(said, 5) == b""


async def test_check_says_in_one_line_what_cannot_be_reached(unused_tcp_port):
    async with asking(f"http://user:secret@127.0.0.1:{unused_tcp_port}/?key=secret") as target:
        with pytest.raises(Denied) as raised:
            await target.check()
    assert str(raised.value).startswith(f'function "f": 127.0.0.1:{unused_tcp_port} cannot be reached: ')
    assert "secret" not in str(raised.value)


async def test_check_finds_that_there_is_no_tls():
    async with serving(answering(200)) as url, asking(url.replace("http:", "https:")) as target:
        with pytest.raises(Denied):
            await target.check()
