"""A function that leaks, hangs, forks, prints without end or ends itself disturbs neither its host nor another function."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from poller.aws.session import AwsSettings, open_aws
from poller.model.facts import Fact, FunctionPrinted
from poller.model.outcome import Failed, Replied
from poller.model.trace import Trace
from poller.targets.local import LocalFunction
from tests.contract.targets import FUNCTIONS, RUNTIMES
from tests.contract.test_targets_local import (
    call,
    failure,
    gone,
    host_process,
    hosted,
    lives,
    python,
    read,
    told,
    until,
)


async def test_environment_without_work_is_ended_and_the_next_event_gets_a_new_one():
    async with hosted(python("sample.describe"), concurrency=2, idle_timeout=0.3) as target:
        first = (await call(target))["pid"]
        await gone(first)
        assert (await call(target))["pid"] != first


async def test_environment_that_is_used_again_in_time_is_kept():
    async with hosted(python("sample.describe"), idle_timeout=1.0) as target:
        pids = set()
        for _ in range(4):
            pids.add((await call(target))["pid"])
            await anyio.sleep(0.4)
        assert len(pids) == 1


async def test_of_many_idle_environments_the_longest_idle_are_ended_first():
    async with hosted(python("sample.overlap"), concurrency=3, idle_timeout=0.8) as target:
        pids: list[int] = []

        async def one() -> None:
            pids.append((await call(target, seconds=0.2))["pid"])

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(one)
        kept = (await call(target, seconds=0))["pid"]
        others = [pid for pid in pids if pid != kept]
        assert len(others) == 2
        for _ in range(4):
            await anyio.sleep(0.4)
            assert (await call(target, seconds=0))["pid"] == kept
        await gone(*others)


@pytest.mark.parametrize("runtime", ["python", "node"])
async def test_function_that_leaks_is_killed_at_its_memory_size_and_the_next_event_is_served(runtime: str):
    command = RUNTIMES["node"] if runtime == "node" else python("sample.eat")
    async with hosted(command, memory_size=192) as target:
        outcome = await failure(target, do="eat")
        assert outcome.reason.startswith("Runtime.OutOfMemory: Runtime exited with error: signal: killed: ")
        assert outcome.reason.endswith(" MiB used, memory_size is 192")
        assert not outcome.timeout
        assert await call(target, do="echo", value=1, mebibytes=1) == 1


async def test_what_the_function_starts_counts_as_its_memory():
    async with hosted(python("sample.eat_in_a_child"), memory_size=192) as target:
        began = time.monotonic()
        assert (await failure(target)).reason.startswith("Runtime.OutOfMemory")
        assert time.monotonic() - began < 15


async def test_function_is_killed_before_its_host_when_the_system_runs_out_of_memory():
    async with hosted(python("sample.read_file")) as target:
        assert (await call(target, file="/proc/self/oom_score_adj")).strip() == "1000"


async def test_function_without_memory_size_is_told_lambda_s_default_and_has_no_limit():
    async with hosted(python("sample.eat")) as target:
        assert await call(target, value=1, mebibytes=200) == 1
    async with hosted(python("sample.describe")) as target:
        assert (await call(target))["memory"] == "128"


async def test_what_a_busy_function_started_dies_with_a_host_that_is_killed(tmp_path: Path):
    async with host_process(tmp_path / "told") as host:
        pids = await told(tmp_path / "told")
        assert lives(pids["child"])
        host.send_signal(signal.SIGKILL)
        await gone(pids["pid"], pids["child"])


async def test_guard_that_somebody_killed_is_replaced(tmp_path: Path):
    file = tmp_path / "pids"
    async with hosted(python("sample.breed"), timeout=1.0) as target:
        await call(target, file=str(file), seconds=0)
        guards = children("guard.py")
        assert len(guards) == 1
        os.kill(guards[0], signal.SIGKILL)
        await until(lambda: not lives(guards[0]))
        assert (await failure(target, file=str(file), seconds=600)).timeout
        await call(target, file=str(file), seconds=0)
        (again,) = children("guard.py")
        assert again != guards[0]
    assert children("guard.py") == []


def children(script: str) -> list[int]:
    """Our own children that run a script."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        stat, words = read(folder / "stat"), read(folder / "cmdline")
        if script in words and int(stat.rpartition(")")[2].split()[1]) == os.getpid():
            found.append(int(folder.name))
    return found


@pytest.mark.parametrize(
    ("handler", "event"),
    [
        ("sample.sleep", {"seconds": 600}),
        ("sample.fork_without_end", {}),
        ("sample.print_without_end", {}),
        ("sample.close_output", {"seconds": 600}),
        ("sample.kill_group", {}),
        ("sample.stop_itself", {}),
        ("sample.daemonize", {"seconds": 600}),
    ],
    ids=["hangs", "forks", "prints megabytes", "closes its output", "kills its group", "stops itself", "daemonizes"],
)
async def test_handler_that_misbehaves_fails_and_its_neighbour_does_not_notice(handler: str, event: dict[str, Any]):
    facts: list[Fact] = []
    slowest = 0.0
    async with (
        hosted(python(handler), facts, timeout=1.0) as bad,
        hosted(python("sample.echo")) as good,
    ):
        await call(good, number=0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bad.invoke, json.dumps(event).encode(), "bad")
            deadline = anyio.current_time() + 1.5
            while anyio.current_time() < deadline:
                began = time.monotonic()
                assert await call(good, number=1) == {"number": 1}
                slowest = max(slowest, time.monotonic() - began)
                await anyio.sleep(0.01)
        assert slowest < 1.0
        assert isinstance(await bad.invoke(json.dumps(event).encode(), "bad"), Failed)
        assert await call(good, number=2) == {"number": 2}


async def test_function_that_closed_its_output_still_answers():
    async with hosted(python("sample.close_output")) as target:
        for _ in range(2):
            assert await call(target, seconds=0) == "closed"


async def test_megabytes_printed_are_told_whole_and_the_tail_is_kept():
    facts: list[Fact] = []
    async with hosted(python("sample.print_megabytes"), facts) as target:
        outcome = await failure(target, lines=40_000)
    lines = [fact.line for fact in facts if isinstance(fact, FunctionPrinted)]
    assert sum(line.startswith("x" * 100) for line in lines) == 40_000
    assert len(outcome.log_tail) <= 4096


async def test_trace_reaches_the_function_as_it_came():
    xray = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    async with hosted(python("sample.describe")) as target:
        outcome = await target.invoke(b"{}", "1", Trace(xray=xray))
        assert isinstance(outcome, Replied)
        assert json.loads(outcome.body)["trace"] == xray


async def test_trace_of_w3c_reaches_the_function_in_x_ray_s_spelling():
    parent = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"
    async with hosted(RUNTIMES["node"]) as target:
        outcome = await target.invoke(b'{"do": "trace"}', "1", Trace(parent=parent))
    text = b'"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"'
    assert outcome == Replied(body=text)


async def test_region_of_the_aws_section_reaches_the_function():
    function = LocalFunction(name="f", command=python("sample.describe"), directory=str(FUNCTIONS))
    async with open_aws(AwsSettings(region="eu-central-1")) as aws, function.open(aws, lambda fact: None) as target:
        assert (await call(target))["environment"]["AWS_REGION"] == "eu-central-1"
