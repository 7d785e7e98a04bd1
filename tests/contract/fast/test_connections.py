"""The fast form on servers that are slow, torn, closed or garbled: over sockets, on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import pytest
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, HTTPClientError, ReadTimeoutError

from poller.aws.calls import UNKNOWN_LENGTH_BYTES
from poller.aws.fast.connection import SCRATCH_BYTES, Connection, Overdue
from poller.aws.fast.exchange import ANSWER_LIMIT_BYTES
from poller.aws.fast.pool import Origin
from tests.contract.fast.talking import FINE, Line, Talk, answering, exchange_over, exchange_with, pool_of, talking
from tests.contract.reading import Admissions, admitted

SHUT = FINE.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")


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


async def test_a_server_that_speaks_before_it_is_asked_is_not_spoken_to():
    async def talk(line: Line) -> None:
        await line.say(FINE)
        await line.reader.read()

    async with talking(talk) as seen:
        connection = Connection(seen.url, memoryview(bytearray(SCRATCH_BYTES)), 60.0)
        host, _, port = seen.url.removeprefix("http://").partition(":")
        await asyncio.get_running_loop().create_connection(lambda: connection, host, int(port))
        await connection.gone
        assert not connection.usable
        with pytest.raises(ConnectionClosedError):
            await connection.ask(b"", b"", limit=100, hold=False)


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


def soon(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_each_call_on_a_kept_connection_has_a_deadline_of_its_own():
    async def talk(line: Line) -> None:
        while True:
            _, body = await line.request()
            if body == b"never":
                await line.reader.read()
                return
            await asyncio.sleep(float(body))
            await line.say(FINE)

    async with talking(talk) as seen, exchange_with(seen.url, silence=0.6) as exchange:
        assert (await exchange.send(b"0", deadline=soon(0.2))).body == b"{}"
        assert (await exchange.send(b"0", deadline=soon(900))).body == b"{}"
        assert (await exchange.send(b"0.4", deadline=soon(0.5))).body == b"{}", "the first deadline is over by then"
        assert seen.connections == 1
        with pytest.raises(Overdue):
            await exchange.send(b"never", deadline=soon(0.1))
        assert (await exchange.send(b"0", deadline=soon(900))).body == b"{}"
        with pytest.raises(ReadTimeoutError):
            await exchange.send(b"never", deadline=soon(900))
        while seen.open:
            await asyncio.sleep(0.01)
        assert seen.connections == 2


async def test_a_slow_answer_is_overdue_though_it_is_never_silent():
    async def talk(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(1000):
            await line.say(b" ")
            await asyncio.sleep(0.01)

    async with talking(talk) as seen, exchange_with(seen.url, silence=0.2, repeatable=False) as exchange:
        with pytest.raises(Overdue):
            await exchange.send(b"1", deadline=soon(0.5))
        while seen.open:
            await asyncio.sleep(0.01)


async def test_a_call_that_is_overdue_before_its_turn_takes_no_turn_from_others():
    held = anyio.Event()

    async def talk(line: Line) -> None:
        while True:
            _, body = await line.request()
            if body == b"wait":
                await held.wait()
            await line.say(FINE)

    async with talking(talk) as seen, exchange_with(seen.url, at_most=1) as exchange, asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(exchange.send(b"wait"))
        while not seen.open:
            await asyncio.sleep(0.01)
        behind = tasks.create_task(exchange.send(b"behind"))
        with pytest.raises(Overdue):
            await exchange.send(b"late", deadline=soon(0.05))
        held.set()
        assert (await waiting).body == (await behind).body == b"{}"
        assert (await exchange.send(b"{}")).body == b"{}"


async def test_a_turn_that_was_handed_to_a_cancelled_call_goes_to_the_next():
    async with talking(answering) as seen, pool_of(at_most=1) as pool:
        origin = Origin.of(seen.url)
        first = await pool.take(origin)
        cancelled, second = asyncio.create_task(pool.take(origin)), asyncio.create_task(pool.take(origin))
        await asyncio.sleep(0)
        pool.give_back(origin, first)
        cancelled.cancel()
        pool.give_back(origin, await second)
        assert cancelled.cancelled()
        assert (await exchange_over(pool, seen.url).send(b"{}")).status == 200


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


class Deaf(asyncio.Transport):
    """Takes everything, and has closed or not."""

    closed = False

    def write(self, data: object) -> None:
        pass

    def writelines(self, list_of_data: object) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


async def test_a_connection_is_not_used_again_whose_call_was_answered_and_cancelled_before_all_was_sent():
    connection, transport = Connection("there", memoryview(bytearray(SCRATCH_BYTES)), 60.0), Deaf()
    connection.connection_made(transport)

    async def call() -> None:
        await connection.ask(b"", bytes(1_000_000), limit=100, hold=False)

    sending = asyncio.create_task(call())
    await asyncio.sleep(0)
    connection.get_buffer(-1)[: len(FINE)] = FINE
    connection.buffer_updated(len(FINE))
    sending.cancel()
    await asyncio.wait([sending])
    assert not connection.done()
    assert transport.closed
    connection.connection_lost(None)


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


async def test_an_idle_connection_makes_room_for_one_to_another_place():
    async with talking(answering) as one, talking(answering) as other, pool_of(at_most=1) as pool:
        for _ in range(3):
            for url in (one.url, one.url, other.url):
                assert (await exchange_over(pool, url).send(b"{}")).body == b"{}"
                assert one.open + other.open <= 2, "the server may not have seen the end of one yet"
        assert (one.connections, other.connections) == (3, 3)


async def test_connections_that_the_server_has_closed_are_no_longer_kept():
    lines: list[Line] = []

    async def talk(line: Line) -> None:
        lines.append(line)
        await answering(line)

    async with talking(talk) as seen, pool_of() as pool:
        exchange = exchange_over(pool, seen.url, repeatable=False)
        await asyncio.gather(*(exchange.send(b"{}") for _ in range(5)))
        assert seen.connections == 5
        for line in lines[1:]:
            line.writer.close()
        while seen.open > 1:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        for _ in range(5):
            assert (await exchange.send(b"{}")).body == b"{}"
        assert seen.connections == 5, "the one that is left is used"


async def test_a_connection_that_nobody_needs_is_closed_and_one_in_use_is_not():
    held = anyio.Event()

    async def talk(line: Line) -> None:
        while True:
            _, body = await line.request()
            if body == b"wait":
                await held.wait()
            await line.say(FINE)

    async with talking(talk) as seen, exchange_with(seen.url, idle=0.1) as exchange, asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(exchange.send(b"wait"))
        await asyncio.gather(*(exchange.send(b"{}") for _ in range(5)))
        while seen.open > 1:
            await asyncio.sleep(0.01)
        held.set()
        assert (await waiting).body == b"{}"
