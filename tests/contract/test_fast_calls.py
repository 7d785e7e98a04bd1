"""The fast form beside botocore: the same requests, the same errors; clocks, credentials, proxies, private CAs."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TypeAlias

import anyio
import pytest
from aiobotocore.credentials import AioRefreshableCredentials

from poller.aws.calls import HotCalls
from poller.aws.fast.forms import form_of, rehearse
from poller.aws.session import AwsSettings, Client, open_aws
from poller.model.errors import Denied, PollerError, Transient
from tests.contract.fast.talking import Line, exchange_over, pool_of, talking
from tests.contract.reading import admitted, aws_at
from tests.contract.test_aws_session import ROLE, assumed, signed_by
from tests.servers.authority import certified
from tests.servers.scripted import Reply, Request, answer, failure, in_turn, scripted

Call: TypeAlias = Callable[[HotCalls], Awaitable[object]]
ARN = "arn:aws:lambda:eu-west-1:111122223333:function:a b/ü~:$LATEST"
STREAM = "arn:aws:kinesis:eu-west-1:111122223333:stream/orders"
CALLS: Mapping[str, Call] = {
    "kinesis": lambda calls: calls.get_records("kinesis", 'i"\u00e9\\/', 7, admitted),
    "kinesis with a stream": lambda calls: calls.get_records("kinesis", "i", 7, admitted, stream_arn=STREAM),
    "dynamodbstreams": lambda calls: calls.get_records("dynamodbstreams", "i|x", 7, admitted),
    "receive": lambda calls: calls.receive_message("http://q/ü", count=3, wait=0, admit=admitted, visibility=9),
    "delete": lambda calls: calls.delete_message_batch("http://q", ['a"b', "é", "c\\n\x7f/"]),
    "delete what is plain": lambda calls: calls.delete_message_batch("http://q", ["AQEB+/=", "b"]),
    "visibility": lambda calls: calls.change_message_visibility_batch("http://q", ["a", "b"], timeout=0),
    "invoke": lambda calls: calls.invoke("orders:live", b'{"Records":[]}', timeout=9, trace="Root=1-a-b;Sampled=1"),
    "invoke an ARN": lambda calls: calls.invoke(ARN, b"\xff\0", timeout=9),
}
FORMS: tuple[Client, ...] = ("fast", "botocore")
OF_THE_CLIENT = frozenset(
    {
        "accept",
        "amz-sdk-invocation-id",
        "amz-sdk-request",
        "authorization",
        "connection",
        "content-length",  # by the spaces between the words of JSON
        "host",
        "x-amz-date",
    }
)


async def test_both_forms_send_the_same():
    seen: list[list[Request]] = []
    for client in FORMS:
        async with scripted(in_turn(answer({}))) as server, aws_at(server.url, client) as aws:
            calls = await aws.calls()
            for call in CALLS.values():
                await call(calls)
            seen.append(server.requests)
    for ours, theirs in zip(*seen, strict=True):
        headers, wanted = (
            {name: value for name, value in each.headers.items() if name not in OF_THE_CLIENT}
            for each in (ours, theirs)
        )
        assert headers == wanted
        assert (ours.method, ours.path) == (theirs.method, theirs.path)
        if "functions" in ours.path:
            assert ours.body == theirs.body
        else:
            assert ours.parameters == theirs.parameters


ERRORS = [
    failure("com.amazonaws.dynamodb.v20120810#TrimmedDataAccessException"),
    failure("LimitExceededException:http://internal.amazon.com/coral/", headers={"Retry-After": "3"}),
    failure("AWS.SimpleQueueService.NonExistentQueue"),
    failure("QueueDoesNotExist", headers={"x-amzn-query-error": "AWS.SimpleQueueService.NonExistentQueue;Sender"}),
    failure("InternalFailure", status=500),
    failure("UnrecognizedClientException", message="The security token\nis invalid"),
    Reply(status=400, body=b'{"Message":"upper","__type":"ValidationException"}'),
    Reply(status=400, body=b""),
    Reply(status=400, body=b'{"message":"no code"}'),
    Reply(status=403, body=b"<html>forbidden</html>"),
    Reply(status=429, body=b"slow down"),
    Reply(status=500, body=b"{broken"),
    Reply(status=503, body=b"<html>gateway</html>"),
    Reply(status=504, body=b""),
]


@pytest.mark.parametrize("name", ["kinesis", "receive", "delete"])
async def test_both_forms_raise_the_same_in_the_same_words(name):
    raised: list[list[PollerError]] = []
    for client in FORMS:
        caught: list[PollerError] = []
        async with scripted(in_turn(*ERRORS)) as server, aws_at(server.url, client) as aws:
            calls = await aws.calls()
            for _ in ERRORS:
                with pytest.raises(PollerError) as error:
                    await CALLS[name](calls)
                caught.append(error.value)
        raised.append(caught)
    for ours, theirs in zip(*raised, strict=True):
        assert (type(ours), str(ours)) == (type(theirs), str(theirs))
        assert getattr(ours, "after", None) == getattr(theirs, "after", None)


async def test_an_error_whose_json_is_no_account_of_one_is_an_error_all_the_same():
    bodies = [b"[1]", b'"text"', b"null", b'{"__type": 5}', b"[" * 100_000]
    replies = in_turn(*(Reply(status=400, body=body) for body in bodies))
    async with scripted(replies) as server, aws_at(server.url) as aws:
        calls = await aws.calls()
        for _ in bodies:
            with pytest.raises(Denied, match="kinesis GetRecords: 400"):
                await CALLS["kinesis"](calls)


def skewed(ahead: timedelta, *, code: str = "InvalidSignatureException") -> Callable[[Request], Reply]:
    """A service whose clock is ahead of ours, and which refuses signatures that are five minutes off."""

    def script(request: Request) -> Reply:
        there = datetime.now(UTC) + ahead
        signed = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        date = {"Date": format_datetime(there, usegmt=True), "x-amzn-errortype": code}
        return failure(code, status=403, headers=date) if abs(there - signed) > timedelta(minutes=5) else answer({})

    return script


@pytest.mark.parametrize(
    ("name", "ahead"),
    [("kinesis", timedelta(hours=7)), ("receive", timedelta(days=-40)), ("invoke", timedelta(hours=-1))],
)
async def test_a_signature_refused_for_our_clock_is_made_by_the_servers_from_then_on(name, ahead):
    async with scripted(skewed(ahead)) as server, aws_at(server.url) as aws:
        calls = await aws.calls()
        await CALLS[name](calls)
        assert len(server.requests) == 2
        await asyncio.gather(*(CALLS[name](calls) for _ in range(3)))
        assert len(server.requests) == 5


async def test_many_signatures_refused_at_once_correct_the_clock_once():
    refuse = skewed(timedelta(hours=7))
    all_there = asyncio.Event()

    async def script(request: Request) -> Reply:
        if len(server.requests) == 10:
            all_there.set()
        await all_there.wait()
        return refuse(request)

    async with scripted(script) as server, aws_at(server.url) as aws:
        calls = await aws.calls()
        await asyncio.gather(*(CALLS["kinesis"](calls) for _ in range(10)))
        await CALLS["kinesis"](calls)
        assert len(server.requests) == 21


async def test_a_signature_that_is_refused_for_anything_else_is_not_sent_again():
    refusals = in_turn(
        failure("InvalidSignatureException", headers={"Date": format_datetime(datetime.now(UTC), usegmt=True)}),
        failure("InvalidSignatureException", headers={"Date": "yesterday"}),
        failure("InvalidSignatureException", headers={"Date": "Sat, 01 Jan 99999999999 00:00:00 GMT"}),
        failure("InvalidSignatureException"),
        failure("ValidationException", headers={"Date": "Sat, 01 Jan 2000 00:00:00 GMT"}),
        failure("InternalFailure", status=500, headers={"Date": "Sat, 01 Jan 2000 00:00:00 GMT"}),
    )
    async with scripted(refusals) as server, aws_at(server.url) as aws:
        calls = await aws.calls()
        for number in range(1, 7):
            with pytest.raises(PollerError):
                await CALLS["receive"](calls)
            assert len(server.requests) == number


async def test_a_server_that_refuses_its_own_time_is_asked_no_third_time():
    refusal = failure("RequestTimeTooSkewed", headers={"Date": "Sat, 01 Jan 2000 00:00:00 GMT"})
    async with scripted(in_turn(refusal)) as server, aws_at(server.url) as aws:
        with pytest.raises(Denied, match="this machine's clock is wrong"):
            await CALLS["kinesis"](await aws.calls())
        assert len(server.requests) == 2


async def test_credentials_that_end_while_calls_run_are_renewed_once_for_all():
    soon = (datetime.now(UTC) + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    renewed = assumed("2999-01-01T00:00:00Z")
    roles = in_turn(
        assumed(soon), assumed(soon), replace(renewed, body=renewed.body.replace(b">ASSUMED<", b">RENEWED<"))
    )

    async def script(request: Request) -> Reply:
        if b"AssumeRole" in request.body:
            await asyncio.sleep(0.05)
            made = roles(request)
            assert isinstance(made, Reply)
            return made
        return answer({})

    async with scripted(script) as server, aws_at(server.url) as aws:
        calls = await aws.calls(role_arn=ROLE)
        await CALLS["kinesis"](calls)
        await asyncio.gather(*(CALLS["kinesis"](calls) for _ in range(30)))
        hot = [signed_by(request) for request in server.requests if b"AssumeRole" not in request.body]
        assert len(server.requests) - len(hot) == 3, "for the endpoint, the first call and all others"
        assert hot[0] == "ASSUMED"
        assert set(hot[1:]) == {"RENEWED"}


async def test_credentials_are_asked_for_once_a_second_and_for_each_request_when_they_are_about_to_end():
    ends = datetime.now(UTC) + timedelta(hours=1)
    asked = 0

    class Counted(AioRefreshableCredentials):  # type: ignore[misc]  # aiobotocore carries no types
        async def get_frozen_credentials(self) -> object:
            nonlocal asked
            asked += 1
            return await super().get_frozen_credentials()

    async def renewed() -> dict[str, str]:
        return {"access_key": "K", "secret_key": "S", "token": "T", "expiry_time": ends.isoformat()}

    credentials = Counted.create_from_metadata(await renewed(), renewed, "test")
    async with scripted(in_turn(answer({}))) as server, pool_of() as pool:
        began = int(time.time())
        exchange = exchange_over(pool, server.url, credentials=credentials)
        for _ in range(50):
            await exchange.send(b"{}")
        assert asked <= int(time.time()) - began + 1
        ends = datetime.now(UTC) + timedelta(minutes=14)
        exchange = exchange_over(
            pool, server.url, credentials=Counted.create_from_metadata(await renewed(), renewed, "test")
        )
        asked = 0
        for _ in range(50):
            await exchange.send(b"{}")
        assert asked == 50, "they may be others any moment"


async def test_an_invocation_has_its_time_for_everything_before_it_too():
    async def never(_: Request) -> Reply:
        await asyncio.sleep(60)
        raise AssertionError

    async with scripted(never) as server, aws_at(server.url) as aws:
        calls = await aws.calls(role_arn=ROLE)
        with pytest.raises(TimeoutError):
            await calls.invoke("f", b"{}", timeout=0.3)
        assert all(b"AssumeRole" in request.body for request in server.requests)


async def test_deletions_do_not_wait_for_long_polls():
    held = asyncio.Event()

    async def script(request: Request) -> Reply:
        if request.operation == "ReceiveMessage":
            await held.wait()
        return answer({})

    async with scripted(script) as server, aws_at(server.url) as aws, asyncio.TaskGroup() as tasks:
        calls = await aws.calls()
        for _ in range(520):
            tasks.create_task(calls.receive_message("http://q", count=1, wait=20, admit=admitted))
        while server.operations().count("ReceiveMessage") < 500:
            await asyncio.sleep(0.01)
        await CALLS["delete"](calls)
        assert server.operations().count("ReceiveMessage") == 500, "the others wait for a connection"
        held.set()
    assert server.operations().count("ReceiveMessage") == 520


@pytest.mark.parametrize("client", FORMS)
async def test_a_function_does_not_wait_for_the_calls_of_another_however_many_these_are(client):
    held = asyncio.Event()

    async def script(request: Request) -> Reply:
        if "slow" in request.path:
            await held.wait()
        return answer({})

    async with scripted(script) as server, aws_at(server.url, client) as aws, asyncio.TaskGroup() as tasks:
        calls = await aws.calls()
        for _ in range(510):
            tasks.create_task(calls.invoke("slow", b"{}", timeout=60))
        while len(server.requests) < 500:
            await asyncio.sleep(0.01)
        assert (await calls.invoke("quick", b"{}", timeout=5)).status == 200
        held.set()


async def test_a_trace_that_no_header_may_hold_is_not_sent():
    async with scripted(in_turn(answer({}))) as server, aws_at(server.url) as aws:
        with pytest.raises(Denied, match="the trace holds what no header may"):
            await (await aws.calls()).invoke("f", b"{}", timeout=5, trace="Root=1\r\nX-Amz-Target: x")
        assert server.requests == []


@pytest.mark.parametrize(
    ("service", "method", "parameters", "url"),
    [
        ("kinesis", "get_records", {}, "https://kinesis-fips.us-east-1.api.aws/"),
        ("kinesis", "get_records", {"StreamARN": STREAM.replace("eu-west", "us-east")}, "https://111122223333.data-kinesis-fips.us-east-1.api.aws/"),
        ("sqs", "receive_message", {"QueueUrl": "https://sqs.us-east-1.amazonaws.com/1/q"}, "https://sqs-fips.us-east-1.api.aws/"),
        ("lambda", "invoke", {"FunctionName": "f:live"}, "https://lambda-fips.us-east-1.api.aws/2015-03-31/functions/f%3Alive/invocations"),
    ],
    ids=["kinesis", "kinesis of an account", "sqs", "lambda"],
)  # fmt: skip
async def test_endpoints_are_those_that_botocore_finds(service, method, parameters, url):
    async with open_aws(AwsSettings(region="us-east-1", profile="fips")) as aws:
        client = await aws.client(service)
        rehearse(client)
        form = await form_of(client, method, parameters)
    assert (form.url, form.region, form.service) == (url, "us-east-1", service)


async def invoked(config: Path, url: str, **environment: str) -> tuple[int, str]:
    """Exit code and standard error of `poller invoke` in an environment of its own."""
    aws = {"region": "eu-west-1", "endpoint_url": url}
    settings = {"aws": aws, "functions": {"f": {"lambda": "f"}}, "mappings": {}}
    await anyio.Path(config).write_text(json.dumps(settings))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "poller", "invoke", str(config), "f", "-"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | environment,
    )
    _, told = await process.communicate(b"{}")
    return process.returncode or 0, told.decode()


async def test_the_certificates_that_the_environment_names_are_trusted_and_a_proxy_is_refused(tmp_path):
    certified(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "server.pem")

    async def talk(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async with talking(talk, tls) as seen:
        around = {"AWS_CA_BUNDLE": str(tmp_path / "ca.pem"), "https_proxy": "http://127.0.0.1:1"}
        (passed_by, _), (refused, line) = await asyncio.gather(
            invoked(tmp_path / "a.yaml", seen.url, **around, no_proxy="127.0.0.1"),
            invoked(tmp_path / "b.yaml", seen.url, **around, no_proxy=""),
        )
        assert (passed_by, refused, seen.connections) == (0, 2, 1)
    assert "is reached through a proxy" in line
    assert "set aws.client: botocore, or NO_PROXY=127.0.0.1" in line
    assert "Traceback" not in line


async def test_a_server_that_is_closed_says_so_as_botocore_does():
    async with scripted(in_turn(Reply(hang_up=True))) as server, aws_at(server.url) as aws:
        with pytest.raises(Transient, match="Connection was closed before we received a valid response"):
            await CALLS["kinesis"](await aws.calls())
