"""What every target promises: one suite on all kinds, with real runtimes (Python, Node.js), a real HTTP server, a Lambda."""

import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import anyio
import pytest

from poller.model.errors import Denied
from poller.model.outcome import Failed, Outcome, Replied, Unavailable
from poller.model.ports import Target
from poller.model.record import EVENT_LIMIT_BYTES
from poller.targets import TargetSettings
from poller.targets.http import HttpFunction
from poller.targets.local import LocalFunction
from tests.contract.targets import FUNCTIONS, KINDS, NOBODY, a_target
from tests.servers.processes import Server

Opening: TypeAlias = Callable[..., AbstractAsyncContextManager[Target]]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def opening(kind: str, ministack: Server) -> Opening:
    return partial(a_target, kind, lambda_url=ministack.url)


async def ask(target: Target, do: str, **event: Any) -> Outcome:
    return await target.invoke(json.dumps({"do": do, **event}).encode(), "1")


async def reply(target: Target, do: str, **event: Any) -> Any:
    outcome = await ask(target, do, **event)
    assert isinstance(outcome, Replied), outcome
    return json.loads(outcome.body)


async def test_what_the_function_returns_comes_back(opening: Opening):
    async with opening() as target:
        assert await reply(target, "echo", value=[1, "ü", {"a": None}]) == [1, "ü", {"a": None}]


async def test_partial_answer_comes_back_for_the_mapping_to_read(opening: Opening):
    async with opening() as target:
        assert await reply(target, "partial") == {"batchItemFailures": [{"itemIdentifier": "2"}]}


async def test_failure_of_the_function_is_a_value_and_the_next_event_is_served(opening: Opening):
    async with opening() as target:
        outcome = await ask(target, "fail")
        assert isinstance(outcome, Failed), outcome
        assert outcome.reason.endswith("it is broken")
        assert not outcome.timeout
        assert await reply(target, "echo", value=1) == 1


async def test_function_that_hangs_runs_out_of_time_and_the_next_event_is_served(opening: Opening):
    async with opening(timeout=1.0) as target:
        outcome = await ask(target, "hang")
        assert isinstance(outcome, Failed), outcome
        assert outcome.timeout
        assert await reply(target, "echo", value=1) == 1


async def test_crash_is_told_and_the_next_event_is_served(opening: Opening, kind: str):
    async with opening() as target:
        outcome = await ask(target, "crash")
        # Behind HTTP nobody can know whether the function crashed or the network did.
        assert isinstance(outcome, Unavailable if kind == "http" else Failed), outcome
        assert await reply(target, "echo", value=1) == 1


async def test_garbage_is_told_and_the_next_event_is_served(opening: Opening, kind: str):
    async with opening() as target:
        outcome = await ask(target, "garbage")
        assert isinstance(outcome, Unavailable if kind == "http" else Failed), outcome
        assert "\n" not in outcome.reason
        assert await reply(target, "echo", value=1) == 1


async def test_largest_event_arrives_whole(opening: Opening):
    frame = len(json.dumps({"do": "count", "value": ""}))
    async with opening() as target:
        assert await reply(target, "count", value="z" * (EVENT_LIMIT_BYTES - frame)) == EVENT_LIMIT_BYTES - frame


async def test_largest_reply_comes_back_whole(opening: Opening):
    async with opening() as target:
        assert await reply(target, "large", size=EVENT_LIMIT_BYTES - 4) == ["x" * (EVENT_LIMIT_BYTES - 4)]


async def test_slow_start_is_waited_for(opening: Opening):
    async with opening(timeout=5.0, slow_start=1.0) as target:
        began = time.monotonic()
        assert await reply(target, "echo", value=["late"]) == ["late"]
        assert time.monotonic() - began > 0.9


async def test_fifty_invocations_at_once_get_each_its_own_answer(opening: Opening):
    answers: dict[int, Any] = {}

    async def one(target: Target, number: int) -> None:
        answers[number] = await reply(target, "slow", value=number)

    async with opening(concurrency=5) as target, anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(one, target, number)
    assert answers == {number: number for number in range(50)}


async def test_invocation_may_be_cancelled_and_the_target_goes_on(opening: Opening):
    async with opening(timeout=3.0) as target:
        for _ in range(2):
            with anyio.move_on_after(0.3) as scope:
                await ask(target, "hang")
            assert scope.cancelled_caught
        assert await reply(target, "echo", value=1) == 1


async def test_check_of_a_good_target_is_silent(opening: Opening):
    async with opening() as target:
        await target.check()


@asynccontextmanager
async def opened(settings: TargetSettings) -> AsyncIterator[Target]:
    async with settings.open(NOBODY, lambda fact: None) as target:
        yield target


@pytest.mark.parametrize("event", [b'{"Records":[]}', b' {"a" : "\xc3\xa9\\u00e9"}\n', b"", b"\x00\xff"])
async def test_event_and_reply_of_a_runtime_travel_byte_for_byte(event: bytes):
    command = (sys.executable, "custom_runtime.py", "echo")
    async with opened(LocalFunction(name="f", command=command, directory=str(FUNCTIONS))) as target:
        assert await target.invoke(event, "1") == Replied(body=event)


@pytest.mark.parametrize(
    "settings",
    [LocalFunction(name="f", command=("no-such-command",)), HttpFunction(name="f", url="http://127.0.0.1:1/")],
    ids=["local", "http"],
)
async def test_target_that_is_not_there_is_unavailable_and_its_check_says_why(settings: TargetSettings):
    async with opened(settings) as target:
        assert isinstance(await target.invoke(b"{}", "1"), Unavailable)
        with pytest.raises(Denied, match=r'^function "f": .+$'):
            await target.check()
