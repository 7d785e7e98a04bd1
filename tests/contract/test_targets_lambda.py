"""Functions at AWS Lambda, on a double of the hot calls (their own suite covers the wire)."""

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal

import pytest
from botocore.exceptions import ClientError

from poller.aws.calls import Answer, HotCalls, HotService
from poller.aws.session import Aws, AwsSettings, Service
from poller.model.errors import Denied, NotFound, PollerError, Throttled, Transient
from poller.model.facts import Fact, FunctionPrinted
from poller.model.outcome import Failed, Outcome, Refused, Replied, Unavailable
from poller.model.ports import Admit, Target
from poller.model.trace import Trace
from poller.targets.aws_lambda import LambdaFunction

ARN = "arn:aws:lambda:eu-west-1:111122223333:function:billing:live"
ROLE = "arn:aws:iam::111122223333:role/invoke"


class ScriptedCalls:
    """Hot calls that answer to Invoke what they are told, and keep what they were asked."""

    def __init__(self, answer: Answer | Exception) -> None:
        self.answer = answer
        self.invoked: list[tuple[str, bytes, float]] = []
        self.traces: list[str] = []
        self.readied: list[tuple[HotService, str]] = []

    async def invoke(self, function: str, event: bytes, *, timeout: float, trace: str = "") -> Answer:
        self.invoked.append((function, event, timeout))
        self.traces.append(trace)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def ready(self, service: HotService, place: str = "") -> None:
        self.readied.append((service, place))

    async def get_records(
        self,
        service: Literal["kinesis", "dynamodbstreams"],
        iterator: str,
        limit: int,
        admit: Admit,
        *,
        stream_arn: str | None = None,
    ) -> bytes:
        raise NotImplementedError

    async def receive_message(
        self, queue_url: str, *, count: int, wait: int, admit: Admit, visibility: int | None = None
    ) -> bytes:
        raise NotImplementedError

    async def delete_message_batch(self, queue_url: str, receipts: Sequence[str]) -> bytes:
        raise NotImplementedError

    async def change_message_visibility_batch(self, queue_url: str, receipts: Sequence[str], *, timeout: int) -> bytes:
        raise NotImplementedError


class ScriptedClient:
    """The part of an SDK client that a check needs."""

    def __init__(self, error: ClientError | None = None, unreadable: ClientError | None = None) -> None:
        self.error = error
        self.unreadable = unreadable
        self.asked: list[dict[str, str]] = []

    async def invoke(self, **parameters: str) -> None:
        self.asked.append(parameters)
        if self.error:
            raise self.error

    async def get_function_configuration(self, **parameters: str) -> dict[str, int]:
        if self.unreadable:
            raise self.unreadable
        return {"Timeout": 42}


class ScriptedAws(Aws):
    """AWS that consists of two doubles, or cannot be reached at all."""

    def __init__(
        self, calls: HotCalls, *, client: ScriptedClient | None = None, error: PollerError | None = None
    ) -> None:
        super().__init__(AwsSettings(), AsyncExitStack())
        self.scripted = calls
        self.sdk = client
        self.error = error
        self.asked: list[tuple[str | None, str | None]] = []

    async def calls(self, *, region: str | None = None, role_arn: str | None = None) -> HotCalls:
        self.asked.append((region, role_arn))
        if self.error:
            raise self.error
        return self.scripted

    async def client(self, service: Service, *, region: str | None = None, role_arn: str | None = None) -> Any:
        self.asked.append((region, role_arn))
        return self.sdk


@asynccontextmanager
async def reaching(aws: Aws, facts: list[Fact] | None = None) -> AsyncIterator[Target]:
    function = LambdaFunction(name="billing", function=ARN, region="eu-west-1", role_arn=ROLE, timeout=20.0)
    async with function.open(aws, ([] if facts is None else facts).append) as target:
        yield target


async def outcome_of(answer: Answer | Exception) -> Outcome:
    async with reaching(ScriptedAws(ScriptedCalls(answer))) as target:
        return await target.invoke(b"{}", "1")


async def test_event_goes_to_the_function_as_it_is_in_its_region_and_as_its_role():
    calls = ScriptedCalls(Answer(status=200, headers={}, body=b'"ok"'))
    aws = ScriptedAws(calls)
    async with reaching(aws) as target:
        assert await target.invoke(b'{"Records":[]}', "1") == Replied(body=b'"ok"')
    assert calls.invoked == [(ARN, b'{"Records":[]}', 20.0)]
    assert aws.asked == [("eu-west-1", ROLE)]


async def test_answer_is_classified():
    headers = {"x-amz-function-error": "Unhandled"}
    answer = Answer(status=200, headers=headers, body=b'{"errorType": "T", "errorMessage": "m"}')
    assert await outcome_of(answer) == Failed(reason="T: m")


async def test_log_of_a_failure_is_told_line_by_line_with_the_request_it_belongs_to():
    log = base64.b64encode(b"START\nTraceback: no\n").decode()
    headers = {"x-amz-function-error": "Unhandled", "x-amz-log-result": log}
    facts: list[Fact] = []
    async with reaching(ScriptedAws(ScriptedCalls(Answer(status=200, headers=headers, body=b""))), facts) as target:
        await target.invoke(b"{}", "r-1")
    lines = ["START", "Traceback: no"]
    assert facts == [FunctionPrinted(function="billing", request_id="r-1", line=line) for line in lines]


async def test_log_of_a_success_is_not_told():
    headers = {"x-amz-log-result": base64.b64encode(b"START\n").decode()}
    facts: list[Fact] = []
    async with reaching(ScriptedAws(ScriptedCalls(Answer(status=200, headers=headers, body=b""))), facts) as target:
        await target.invoke(b"{}", "r-1")
    assert facts == []


async def test_trace_is_sent_along_in_x_ray_s_spelling():
    calls = ScriptedCalls(Answer(status=200, headers={}, body=b""))
    async with reaching(ScriptedAws(calls)) as target:
        await target.invoke(b"{}", "1", Trace(xray="Root=1-a-b"))
        await target.invoke(b"{}", "1")
    assert calls.traces == ["Root=1-a-b", ""]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            TimeoutError(),
            Unavailable(reason=f'function "{ARN}": no answer within 20 seconds; it may still be running'),
        ),
        (Throttled("slow down", after=3.0), Refused(reason="slow down", after=3.0)),
        (Transient("connection reset"), Unavailable(reason=f'function "{ARN}": connection reset')),
        (Denied("no credentials"), Unavailable(reason=f'function "{ARN}": no credentials', lasting=True)),
    ],
    ids=["no answer", "throttled", "connection lost", "denied"],
)
async def test_call_that_fails_is_an_outcome(error, expected):
    assert await outcome_of(error) == expected


async def test_aws_that_cannot_be_reached_is_an_outcome():
    calls = ScriptedCalls(Answer(status=200, headers={}, body=b""))
    async with reaching(ScriptedAws(calls, error=Denied("no region"))) as target:
        assert await target.invoke(b"{}", "1") == Unavailable(reason=f'function "{ARN}": no region', lasting=True)
    assert calls.invoked == []


async def test_check_asks_without_invoking():
    calls = ScriptedCalls(Answer(status=200, headers={}, body=b""))
    client = ScriptedClient()
    async with reaching(ScriptedAws(calls, client=client)) as target:
        assert await target.check() == 42.0
    assert calls.readied == [("lambda", ARN)]
    assert client.asked == [{"FunctionName": ARN, "InvocationType": "DryRun"}]
    assert calls.invoked == []


async def test_check_does_without_the_timeout_of_a_function_that_may_only_be_invoked():
    denied = ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetFunctionConfiguration")
    calls = ScriptedCalls(Answer(status=200, headers={}, body=b""))
    async with reaching(ScriptedAws(calls, client=ScriptedClient(unreadable=denied))) as target:
        assert await target.check() is None


async def test_check_finds_that_the_function_is_not_there():
    missing = ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": "Function not found"}}, "Invoke")
    calls = ScriptedCalls(Answer(status=200, headers={}, body=b""))
    async with reaching(ScriptedAws(calls, client=ScriptedClient(missing))) as target:
        with pytest.raises(NotFound, match="Function not found"):
            await target.check()
