"""The hot calls in both their forms, over a real socket: bodies raw and admitted, errors translated, nothing sent twice."""

from __future__ import annotations

import json
import socket
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TypeAlias

import anyio
import pytest

from poller.aws.calls import UNKNOWN_LENGTH_BYTES, HotCalls
from poller.aws.session import Client
from poller.model.errors import Denied, IteratorExpired, NotFound, ShardGone, Throttled, Transient, Trimmed
from tests.contract.reading import Admissions, admitted, aws_at
from tests.servers.scripted import Reply, Request, Script, ScriptedServer, answer, failure, in_turn, scripted

PAGE = b'{"Records": [ {"Data":"\\u00e9\\/","SequenceNumber":"1"} ],\n "NextShardIterator":"n"}'


CallsOn: TypeAlias = Callable[[Script], AbstractAsyncContextManager[tuple[HotCalls, ScriptedServer]]]


@pytest.fixture(params=["fast", "botocore"])
def client(request) -> Client:
    """Both forms of the port."""
    form: Client = request.param
    return form


@pytest.fixture
def calls_on(client) -> CallsOn:
    @asynccontextmanager
    async def calls_on(script: Script) -> AsyncIterator[tuple[HotCalls, ScriptedServer]]:
        async with scripted(script) as server, aws_at(server.url, client) as aws:
            yield await aws.calls(), server

    return calls_on


@pytest.mark.parametrize("service", ["kinesis", "dynamodbstreams"])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_page_comes_back_byte_for_byte(calls_on, service, framing):
    async with calls_on(in_turn(Reply(body=PAGE, framing=framing))) as (calls, server):
        assert await calls.get_records(service, "iterator", 7, admitted) == PAGE
        assert server.requests[0].parameters == {"ShardIterator": "iterator", "Limit": 7}


async def test_a_body_is_not_taken_before_it_is_admitted(calls_on):
    size = 64 * 1024 * 1024
    asked = anyio.Event()
    go = anyio.Event()
    sizes = []

    async def admit(length: int) -> None:
        sizes.append(length)
        asked.set()
        await go.wait()

    async with calls_on(in_turn(Reply(body=b" " * size))) as (calls, server), anyio.create_task_group() as tasks:
        bodies = []

        async def read() -> None:
            bodies.append(await calls.get_records("kinesis", "i", 1, admit))

        tasks.start_soon(read)
        await asked.wait()
        before = -1
        while before != server.sent:  # until the sockets between us are full
            before = server.sent
            await anyio.sleep(0.2)
        assert server.sent < size / 2
        assert bodies == []
        go.set()
    assert sizes == [size]
    assert len(bodies[0]) == size


async def test_nobody_but_the_caller_keeps_a_body(calls_on):
    async with calls_on(in_turn(Reply(body=PAGE))) as (calls, _):
        body = await calls.get_records("kinesis", "i", 1, admitted)
        assert body == PAGE
        assert sys.getrefcount(body) <= 2, "besides the name here and the argument of getrefcount"


@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_a_body_of_unknown_length_is_admitted_as_a_large_one(calls_on, framing):
    admissions = Admissions()
    async with calls_on(in_turn(Reply(body=PAGE, framing=framing))) as (calls, _):
        await calls.get_records("kinesis", "i", 1, admissions)
    assert admissions.sizes == [UNKNOWN_LENGTH_BYTES]


async def test_an_error_is_not_admitted(calls_on):
    admissions = Admissions()
    async with calls_on(in_turn(failure("ExpiredIteratorException"))) as (calls, _):
        with pytest.raises(IteratorExpired):
            await calls.get_records("kinesis", "i", 1, admissions)
    assert admissions.sizes == []


async def test_a_call_cancelled_while_it_waits_for_admission_closes_its_connection(calls_on):
    async with calls_on(in_turn(Reply(body=b" " * 64 * 1024 * 1024))) as (calls, server):
        waits = anyio.Event()

        async def admit(_: int) -> None:
            waits.set()
            await anyio.sleep_forever()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(calls.get_records, "kinesis", "i", 1, admit)
            with anyio.fail_after(20):
                await waits.wait()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(5):
            await server.closed.wait()


async def test_calls_under_way_together_are_admitted_each_by_its_own(calls_on):
    def script(request: Request) -> Reply:
        return Reply(body=b"{" + b" " * int(request.parameters["ShardIterator"]) + b"}")

    seen: dict[int, list[int]] = {}
    async with calls_on(script) as (calls, _), anyio.create_task_group() as tasks:
        for size in (10, 200, 3000):
            admissions = Admissions()
            seen[size + 2] = admissions.sizes
            tasks.start_soon(calls.get_records, "kinesis", str(size), 1, admissions)
    assert seen == {12: [12], 202: [202], 3002: [3002]}


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_body_cut_in_half_is_a_passing_error(calls_on, framing):
    async with calls_on(in_turn(Reply(body=PAGE, sent=40, framing=framing))) as (calls, server):
        with pytest.raises(Transient, match="kinesis GetRecords"):
            await calls.get_records("kinesis", "i", 1, admitted)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (failure("ExpiredIteratorException"), IteratorExpired),
        (failure("ProvisionedThroughputExceededException"), Throttled),
        (failure("LimitExceededException"), Throttled),
        (failure("TrimmedDataAccessException"), Trimmed),
        (failure("ResourceNotFoundException"), ShardGone),
        (failure("AccessDeniedException"), Denied),
        (failure("KMSAccessDeniedException"), Denied),
        (failure("InternalFailure", status=500), Transient),
        (Reply(status=503, body=b"<html>gateway</html>"), Transient),
        (Reply(status=502, body=b""), Transient),
        (Reply(hang_up=True), Transient),
    ],
    ids=lambda value: getattr(value, "__name__", None) or (value.body.decode() or str(value.status))[:40],
)
async def test_an_error_answer_is_our_error_and_is_not_sent_again(calls_on, reply, error):
    async with calls_on(in_turn(reply)) as (calls, server):
        with pytest.raises(error) as raised:
            await calls.get_records("kinesis", "i", 1, admitted)
        assert raised.type is error
        assert len(server.requests) == 1


async def test_a_throttle_says_how_long_to_wait(calls_on):
    async with calls_on(in_turn(failure("ThrottlingException", headers={"Retry-After": "7"}))) as (calls, _):
        with pytest.raises(Throttled) as raised:
            await calls.receive_message("http://q", count=1, wait=0, admit=admitted)
        assert raised.value.after == 7.0


async def test_a_server_that_is_not_there_is_a_passing_error(client):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    async with aws_at(url, client) as aws:
        calls = await aws.calls()
        with pytest.raises(Transient, match="Could not connect"):
            await calls.get_records("kinesis", "i", 1, admitted)


@pytest.mark.parametrize(
    ("service", "place"),
    [
        ("kinesis", "arn:aws:kinesis:eu-west-1:111122223333:stream/orders"),
        ("dynamodbstreams", ""),
        ("sqs", ""),
        ("lambda", "orders:live"),
    ],
)
async def test_how_a_service_is_reached_is_found_out_without_asking_it(calls_on, service, place):
    async with calls_on(in_turn(answer({}))) as (calls, server):
        await calls.ready(service, place)
        assert server.requests == []


async def test_a_queue_is_asked_for_all_attributes(calls_on):
    async with calls_on(in_turn(Reply(body=b'{"Messages":[]}'))) as (calls, server):
        assert await calls.receive_message("http://q/1/x", count=3, wait=2, admit=admitted) == b'{"Messages":[]}'
        assert server.requests[0].parameters == {
            "QueueUrl": "http://q/1/x",
            "MaxNumberOfMessages": 3,
            "WaitTimeSeconds": 2,
            "MessageSystemAttributeNames": ["All"],
            "MessageAttributeNames": ["All"],
        }


async def test_batches_carry_their_entries(calls_on):
    async with calls_on(in_turn(answer({"Successful": [], "Failed": []}))) as (calls, server):
        await calls.delete_message_batch("http://q", ["a", "b"])
        await calls.change_message_visibility_batch("http://q", ["a"], timeout=0)
    assert [(request.operation, request.parameters["Entries"]) for request in server.requests] == [
        ("DeleteMessageBatch", [{"Id": "0", "ReceiptHandle": "a"}, {"Id": "1", "ReceiptHandle": "b"}]),
        ("ChangeMessageVisibilityBatch", [{"Id": "0", "ReceiptHandle": "a", "VisibilityTimeout": 0}]),
    ]


async def test_a_queue_that_is_not_there_is_not_found(calls_on):
    reply = failure("com.amazonaws.sqs#QueueDoesNotExist")
    async with calls_on(in_turn(reply)) as (calls, _):
        with pytest.raises(NotFound):
            await calls.delete_message_batch("http://q", ["a"])


@pytest.mark.parametrize("status", [200, 400, 403, 404, 413, 429, 500, 502])
async def test_an_invocation_answers_whatever_the_status(calls_on, status):
    body = b'{"errorMessage": "\\u00e9"}'
    reply = Reply(status=status, body=body, headers={"X-Amz-Function-Error": "Unhandled", "x-amzn-errortype": "X"})
    async with calls_on(in_turn(reply)) as (calls, server):
        got = await calls.invoke("f", b'{"Records":[]}', timeout=5)
        assert (got.status, got.body, got.headers["x-amz-function-error"]) == (status, body, "Unhandled")
        assert len(server.requests) == 1
        assert server.requests[0].body == b'{"Records":[]}'
        assert server.requests[0].headers["x-amz-invocation-type"] == "RequestResponse"


async def test_an_invocation_asks_for_the_end_of_the_log_and_carries_its_own_trace(calls_on):
    async with calls_on(in_turn(answer({}))) as (calls, server):
        await calls.invoke("f", b"{}", timeout=5, trace="Root=1-a-b")
        await calls.invoke("f", b"{}", timeout=5)
    traced, bare = server.requests
    assert traced.headers["x-amz-log-type"] == bare.headers["x-amz-log-type"] == "Tail"
    assert traced.headers["x-amzn-trace-id"] == "Root=1-a-b"
    assert "x-amzn-trace-id" not in traced.headers["authorization"]
    assert "x-amzn-trace-id" not in bare.headers


@pytest.mark.parametrize(
    ("function", "path"),
    [
        ("orders", "orders"),
        ("orders:live", "orders%3Alive"),
        (
            "arn:aws:lambda:eu-west-1:111122223333:function:orders:$LATEST",
            "arn%3Aaws%3Alambda%3Aeu-west-1%3A111122223333%3Afunction%3Aorders%3A%24LATEST",
        ),
    ],
)
async def test_a_function_is_named_in_the_path(calls_on, function, path):
    async with calls_on(in_turn(answer({}))) as (calls, server):
        await calls.invoke(function, b"{}", timeout=5)
    assert server.requests[0].path == f"/2015-03-31/functions/{path}/invocations"


async def test_a_function_that_takes_too_long_is_a_timeout(calls_on):
    async def never(_: Request) -> Reply:
        await anyio.sleep_forever()
        raise AssertionError

    async with calls_on(never) as (calls, server):
        with pytest.raises(TimeoutError):
            await calls.invoke("f", b"{}", timeout=0.3)
        assert len(server.requests) == 1


async def test_an_invocation_that_is_cancelled_ends_at_once_and_is_no_timeout(calls_on):
    got = anyio.Event()

    async def never(_: Request) -> Reply:
        got.set()
        await anyio.sleep_forever()
        raise AssertionError

    async with calls_on(never) as (calls, server), anyio.create_task_group() as tasks:
        tasks.start_soon(partial(calls.invoke, "f", b"{}", timeout=900))
        await got.wait()
        tasks.cancel_scope.cancel()
    assert tasks.cancel_scope.cancelled_caught
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "reply", [Reply(hang_up=True), Reply(body=b"x" * 100, sent=50)], ids=["silence", "half a body"]
)
async def test_an_invocation_whose_connection_fails_is_never_sent_again(calls_on, reply):
    async with calls_on(in_turn(reply)) as (calls, server):
        with pytest.raises(Transient):
            await calls.invoke("f", b"{}", timeout=5)
        assert len(server.requests) == 1


async def test_a_large_event_travels_unharmed(calls_on):
    event = json.dumps({"Records": [{"body": "é" * 1_000_000}]}).encode()
    async with calls_on(lambda request: answer(zlib.crc32(request.body))) as (calls, _):
        assert json.loads((await calls.invoke("f", event, timeout=20)).body) == zlib.crc32(event)
