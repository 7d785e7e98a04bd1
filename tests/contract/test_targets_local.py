"""Local functions: real processes with AWS's own runtime client, a shell script, and a runtime of our own."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
import uvloop

import poller
from poller.aws.session import Aws, AwsSettings
from poller.model.errors import Denied
from poller.model.facts import Fact, FunctionPrinted
from poller.model.outcome import Failed, Outcome, Replied, Unavailable
from poller.model.ports import Target
from poller.targets.command import command_of
from poller.targets.environment import GRACE, Environment
from poller.targets.local import LocalFunction
from poller.targets.output import LINE_LIMIT_BYTES
from poller.targets.watch import Watch

FUNCTIONS = Path(__file__).parents[1] / "functions"
NOBODY = Aws(AwsSettings(), AsyncExitStack())


def python(handler: str) -> tuple[str, ...]:
    return sys.executable, "-m", "awslambdaric", handler


def custom(behaviour: str) -> tuple[str, ...]:
    return sys.executable, "custom_runtime.py", behaviour


@asynccontextmanager
async def hosted(
    command: tuple[str, ...], facts: list[Fact] | None = None, *, timeout: float = 20.0, **more: Any
) -> AsyncIterator[Target]:
    function = LocalFunction(name="sample", command=command, timeout=timeout, **{"directory": str(FUNCTIONS), **more})
    async with function.open(NOBODY, ([] if facts is None else facts).append) as target:
        yield target


async def call(target: Target, request_id: str = "1", **event: Any) -> Any:
    """The decoded reply of an invocation that must succeed."""
    outcome = await target.invoke(json.dumps(event).encode(), request_id)
    assert isinstance(outcome, Replied), outcome
    return json.loads(outcome.body)


async def failure(target: Target, request_id: str = "1", **event: Any) -> Failed:
    outcome = await target.invoke(json.dumps(event).encode(), request_id)
    assert isinstance(outcome, Failed), outcome
    return outcome


def lives(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped by its parent does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while True:
            if condition():
                return
            await anyio.sleep(0.01)


async def gone(*pids: int) -> None:
    await until(lambda: not any(lives(pid) for pid in pids))


def read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


async def told(file: Path) -> Any:
    """What `sample.breed` wrote into its file, once it did."""
    await until(lambda: read(file).endswith("}"))
    return json.loads(read(file))


def reaped(pid: int) -> bool:
    """Whether nothing is left of a process, not even a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def printed(facts: list[Fact]) -> list[tuple[str, str]]:
    return [(fact.request_id, fact.line) for fact in facts if isinstance(fact, FunctionPrinted)]


async def test_handler_written_for_lambda_runs_unchanged():
    async with hosted(python("sample.echo")) as target:
        assert await call(target, a=[1, "ü", None]) == {"a": [1, "ü", None]}


async def test_exception_is_a_failure_with_type_message_and_log():
    async with hosted(python("sample.fail")) as target:
        outcome = await failure(target, message="not today")
        assert (outcome.reason, outcome.timeout) == ("ValueError: not today", False)
        assert "Traceback" in outcome.log_tail
        assert (await failure(target, message="nor tomorrow")).reason == "ValueError: nor tomorrow"


async def test_long_message_and_deep_stack_are_a_failure_like_any_other():
    async with hosted(python("sample.recurse")) as target:
        assert (await failure(target)).reason.startswith("RuntimeError: xxx")


async def test_context_is_filled_as_at_lambda():
    async with hosted(python("sample.describe"), timeout=7.5, memory_size=512) as target:
        seen = await call(target, "0d3e9b0c-7c0f-4a57-9b7d-000000000001")
    assert seen["request_id"] == "0d3e9b0c-7c0f-4a57-9b7d-000000000001"
    assert 7000 < seen["remaining"] <= 7500
    assert (seen["function"], seen["version"], seen["memory"]) == ("sample", "$LATEST", "512")
    assert seen["arn"].endswith(":000000000000:function:sample")
    assert seen["log_group"] == "/aws/lambda/sample"
    assert "/[$LATEST]" in seen["log_stream"]
    assert seen["trace"].startswith("Root=1-")
    assert seen["directory"] == str(FUNCTIONS)
    assert seen["environment"]["_HANDLER"] == "sample.describe"


async def test_request_id_used_again_reaches_the_function_again():
    async with hosted(python("sample.describe")) as target:
        assert [(await call(target, "same"))["request_id"] for _ in range(2)] == ["same", "same"]


async def test_child_has_the_credential_that_the_configuration_names():
    async with hosted(python("sample.describe"), environment=(("AWS_SESSION_TOKEN", "theirs"),)) as target:
        assert (await call(target))["environment"]["AWS_SESSION_TOKEN"] == "theirs"


async def test_environment_is_exactly_what_was_built():
    command = command_of(
        "sample", python("sample.describe"), directory=None, memory_size=128, added={}, ours=os.environ
    )
    async with hosted(python("sample.describe")) as target:
        seen = (await call(target))["environment"]
    ours = {"AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_LOG_STREAM_NAME", "_X_AMZN_TRACE_ID"}
    assert seen.keys() == command.variables.keys() | ours


async def test_printed_lines_are_told_with_their_request():
    facts: list[Fact] = []
    async with hosted(python("sample.speak"), facts) as target:
        await call(target, "first", bytes=list(b"one\nt\xc3\xbcwo\n"))
        await call(target, "second", bytes=list(b"bad \xff\n"))
        await call(target, "third", bytes=list(b"x" * (LINE_LIMIT_BYTES + 3) + b"\n"))
    lines = printed(facts)
    assert lines[:5] == [
        ("first", "one"),
        ("first", "tüwo"),
        ("first", "to stderr"),
        ("second", "bad \ufffd"),
        ("second", "to stderr"),
    ]
    assert [(request_id, len(line)) for request_id, line in lines[5:7]] == [("third", LINE_LIMIT_BYTES), ("third", 3)]


async def test_exit_is_a_failure_and_the_next_event_gets_a_new_process():
    facts: list[Fact] = []
    async with hosted(python("sample.leave"), facts) as target:
        for _ in range(2):
            outcome = await failure(target, code=3)
            assert outcome.reason == "Runtime.ExitError: Runtime exited with error: exit status 3"
            assert outcome.log_tail == "last words\n"
    assert printed(facts) == [("1", "last words")] * 2


async def test_sys_exit_is_a_failure():
    async with hosted(python("sample.exit_politely")) as target:
        assert (await failure(target, code=0)).reason.startswith("Runtime.ExitError")


async def test_import_error_is_a_failure_with_its_text():
    async with hosted(python("broken_import.handler")) as target:
        for _ in range(2):
            outcome = await failure(target)
            assert outcome.reason.startswith("Runtime.ImportModuleError: Unable to import module 'broken_import'")
            assert "a_module_that_nobody_installed" in outcome.reason


async def test_function_that_runs_out_of_time_is_killed_with_all_that_it_started(tmp_path):
    async with hosted(python("sample.breed"), timeout=1.0) as target:
        await call(target, file=str(tmp_path / "warm"), seconds=0)
        start = time.monotonic()
        outcome = await failure(target, file=str(tmp_path / "pids"), seconds=600)
        took = time.monotonic() - start
        pids = json.loads((tmp_path / "pids").read_text())
        assert (outcome.reason, outcome.timeout) == ("Task timed out after 1.00 seconds", True)
        assert 1.0 <= took < 3.0
        assert reaped(pids["pid"])
        await gone(pids["child"])
        assert (await call(target, file=str(tmp_path / "again"), seconds=0))["pid"] != pids["pid"]


async def test_start_is_not_taken_from_the_function_s_time():
    async with hosted(custom("slow_start"), timeout=0.5) as target:
        assert await call(target, a=1) == {"a": 1}


async def test_command_that_never_asks_for_an_event_runs_out_of_time():
    facts: list[Fact] = []
    watch = Watch()
    command = command_of("f", custom("mute"), directory=str(FUNCTIONS), memory_size=128, added={}, ours=os.environ)
    environment = Environment(command, facts.append, watch, init_limit=0.3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(environment.run)
        outcome = await environment.invoke(b"{}", "1", 0.1)
    await watch.end()
    assert outcome == Failed(reason="Init timed out after 0.30 seconds", timeout=True)
    assert not environment.usable


async def test_command_that_is_no_runtime_client_is_told_so():
    async with hosted(("true",)) as target:
        assert (await failure(target)).reason == (
            "Runtime.ExitError: Runtime exited with error: exit status 0, before it asked for an event: "
            "is the command a client of the Lambda Runtime API?"
        )


async def test_oversized_reply_is_a_failure():
    async with hosted(python("sample.oversized")) as target:
        for _ in range(2):
            assert (await failure(target)).reason.startswith("Function.ResponseSizeTooLarge")


async def test_four_environments_run_four_events_at_once_and_never_two_in_one():
    runs: list[dict[str, Any]] = []

    async def one(target: Target, number: int) -> None:
        runs.append(await call(target, str(number), seconds=0.25))

    async with hosted(python("sample.overlap"), concurrency=4) as target, anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(one, target, number)
    moments = sorted([(run["start"], 1) for run in runs] + [(run["end"], -1) for run in runs])
    running = [sum(step for _, step in moments[: at + 1]) for at in range(len(moments))]
    assert max(running) == 4
    pids = {run["pid"] for run in runs}
    assert len(pids) == 4
    for pid in pids:
        mine = sorted((run["start"], run["end"]) for run in runs if run["pid"] == pid)
        assert all(before[1] <= after[0] for before, after in pairwise(mine))


async def test_events_wait_for_a_free_environment_in_the_order_they_came():
    order: list[int] = []

    async def one(target: Target, number: int) -> None:
        await call(target, str(number))
        order.append(number)

    async with hosted(python("sample.echo")) as target, anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(one, target, number)
    assert order == list(range(8))


async def test_environments_are_kept_warm():
    async with hosted(python("sample.describe"), concurrency=3) as target:
        assert len({(await call(target))["pid"] for _ in range(5)}) == 1


async def test_child_that_died_between_events_is_replaced_and_no_event_fails():
    async with hosted(python("sample.die_later")) as target:
        first = (await call(target))["pid"]
        await gone(first)
        assert (await call(target))["pid"] != first


async def test_cancelled_invocation_kills_its_process(tmp_path):
    file = tmp_path / "pids"
    async with hosted(python("sample.breed")) as target:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(target.invoke, json.dumps({"file": str(file), "seconds": 600}).encode(), "1")
            pids = await told(file)
            tasks.cancel_scope.cancel()
        await gone(pids["pid"], pids["child"])
        assert (await call(target, file=str(file), seconds=0))["pid"] != pids["pid"]


async def test_closing_ends_idle_environments_and_leaves_no_zombie():
    async with hosted(python("sample.describe"), concurrency=2) as target:
        pid = (await call(target))["pid"]
        start = time.monotonic()
    assert reaped(pid)
    assert time.monotonic() - start < GRACE


async def test_function_that_ignores_sigterm_is_killed_after_the_grace():
    async with hosted(python("sample.deaf")) as target:
        pid = (await call(target))["pid"]
        start = time.monotonic()
    assert reaped(pid)
    assert GRACE <= time.monotonic() - start < GRACE + 3


async def test_closing_under_an_invocation_answers_that_it_is_being_stopped():
    outcomes: list[Outcome] = []

    async def one(target: Target) -> None:
        outcomes.append(await target.invoke(b'{"seconds": 600}', "1"))

    async with anyio.create_task_group() as tasks, hosted(python("sample.sleep")) as target:
        tasks.start_soon(one, target)
        await anyio.sleep(0.5)
    assert outcomes == [Unavailable(reason='function "sample" is being stopped')]


async def test_invocations_that_wait_while_the_target_closes_start_nothing():
    outcomes: list[Outcome] = []

    async def one(target: Target) -> None:
        outcomes.append(await target.invoke(b'{"seconds": 600}', "1"))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks, hosted(python("sample.sleep")) as target:
            for _ in range(3):
                tasks.start_soon(one, target)
            await anyio.sleep(0.2)
    assert outcomes == [Unavailable(reason='function "sample" is being stopped')] * 3


async def test_signal_that_ended_the_process_is_told():
    async with hosted(python("sample.kill_itself")) as target:
        for number, name in ((9, "killed"), (37, "real-time signal 3")):
            outcome = await failure(target, signal=number)
            assert outcome.reason == f"Runtime.ExitError: Runtime exited with error: signal: {name}"


async def test_child_inherits_no_file_of_ours():
    async with hosted(python("sample.files")) as target:
        names = await call(target)
    assert [name for name in names if not name.startswith("socket:")] == ["/dev/null", "pipe", "pipe"]


async def test_cancelled_host_leaves_no_process():
    pids: list[int] = []
    with anyio.CancelScope() as scope:
        async with hosted(python("sample.describe")) as target:
            pids.append((await call(target))["pid"])
            scope.cancel()
            await anyio.sleep_forever()
    assert [reaped(pid) for pid in pids] == [True]


@asynccontextmanager
async def host_process(file: Path) -> AsyncIterator[anyio.abc.Process]:
    """A process of its own that hosts a function, which is busy; killed with what is left of it at the end."""
    host = await anyio.open_process(
        [sys.executable, "-m", "tests.functions.hosting", str(file)],
        stdin=None,
        stdout=None,
        stderr=None,
        cwd=Path(poller.__file__).parents[1],
        env={**os.environ, "AWS_ACCESS_KEY_ID": "ours", "AWS_SECRET_ACCESS_KEY": "ours", "TOKEN": "ours"},
    )
    try:
        yield host
    finally:
        if host.returncode is None:
            host.kill()
        await host.wait()
        if read(file):
            with suppress(ProcessLookupError):  # what the function started is tied to its group, not to the host
                os.kill(json.loads(read(file))["child"], signal.SIGKILL)


async def test_busy_child_dies_with_a_host_that_is_killed(tmp_path):
    async with host_process(tmp_path / "told") as host:
        pid = (await told(tmp_path / "told"))["pid"]
        assert lives(pid)
        host.send_signal(signal.SIGKILL)
        await gone(pid)


async def test_child_sees_no_credential_of_the_host(tmp_path):
    async with host_process(tmp_path / "told"):
        variables = (await told(tmp_path / "told"))["variables"]
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "TOKEN"} & set(variables) == set()


async def test_shell_script_is_a_runtime():
    async with hosted(("./bootstrap",)) as target:
        assert await target.invoke(b'{"a": 1}', "one") == Replied(body=b'{"a": 1}')
        assert await target.invoke(b'{"b": "two words"}', "two") == Replied(body=b'{"b": "two words"}')


async def test_runtime_that_does_everything_wrong_is_told_so():
    async with hosted(custom("refusals")) as target:
        outcome = await target.invoke(b"{}", "1")
        assert outcome == Replied(body=b"[400, 403, 403, 404]")
        assert await target.invoke(b"{}", "2") == Replied(body=b"{}")


async def test_error_without_account_is_told_by_its_header():
    async with hosted(custom("bare_error")) as target:
        assert (await failure(target)).reason == "Function.Strange"


async def test_streamed_response_is_refused_with_a_clear_line():
    async with hosted(custom("streaming")) as target:
        assert (await failure(target)).reason == "the function streams its response: not supported yet"


async def test_event_is_not_given_to_a_runtime_that_hung_up():
    facts: list[Fact] = []
    async with hosted(custom("impatient"), facts) as target:
        assert await target.invoke(b"{}", "warm") == Replied(body=b"{}")
        await until(lambda: bool(printed(facts)))
        assert printed(facts) == [("", "hung up")]
        assert await target.invoke(b'"after"', "1") == Replied(body=b'"after"')


@pytest.mark.parametrize(
    ("command", "directory", "line"),
    [
        (("no-such-command",), FUNCTIONS, 'command "no-such-command" is not on the PATH ('),
        (("./no-such-file",), FUNCTIONS, f"command ./no-such-file does not exist in {FUNCTIONS}"),
        (("./sample.py",), FUNCTIONS, f"command {FUNCTIONS}/sample.py is not executable (chmod +x)"),
        (("sh",), FUNCTIONS / "nowhere", f"directory {FUNCTIONS}/nowhere does not exist"),
    ],
    ids=["not on the path", "no such file", "not executable", "no such directory"],
)
async def test_command_that_cannot_be_started_is_a_lasting_fault_in_one_line(command, directory, line):
    async with hosted(command, directory=str(directory)) as target:
        outcome = await target.invoke(b"{}", "1")
        assert isinstance(outcome, Unavailable)
        assert outcome.lasting
        assert outcome.reason.startswith(f'function "sample": {line}')
        with pytest.raises(Denied) as raised:
            await target.check()
        assert str(raised.value) == outcome.reason


async def test_file_that_the_system_cannot_execute_is_a_lasting_fault(tmp_path):
    file = tmp_path / "program"
    file.write_bytes(b"\x7fELF and nothing more")
    file.chmod(0o755)
    async with hosted(("./program", "x"), directory=str(tmp_path)) as target:
        reason = f'function "sample": cannot execute ./program x in {tmp_path}: Exec format error'
        assert await target.invoke(b"{}", "1") == Unavailable(reason=reason, lasting=True)


async def test_script_whose_interpreter_is_missing_is_a_lasting_fault(tmp_path):
    file = tmp_path / "bootstrap"
    file.write_text("#!/nowhere/at/all\n")
    file.chmod(0o755)
    async with hosted(("./bootstrap",), directory=str(tmp_path)) as target:
        what = f"cannot execute ./bootstrap in {tmp_path}: the interpreter that its first line names does not exist"
        assert await target.invoke(b"{}", "1") == Unavailable(reason=f'function "sample": {what}', lasting=True)


async def test_variable_that_no_process_can_have_is_a_lasting_fault():
    async with hosted(python("sample.echo"), environment=(("A", "nul\0"),)) as target:
        outcome = await target.invoke(b"{}", "1")
        assert isinstance(outcome, Unavailable)
        assert outcome.lasting


async def test_check_starts_nothing():
    facts: list[Fact] = []
    async with hosted(python("broken_import.handler"), facts) as target:
        await target.check()
    assert facts == []


def test_local_functions_run_on_uvloop_too():
    async def main() -> None:
        async with hosted(python("sample.leave")) as target:
            assert (await failure(target, code=1)).log_tail == "last words\n"
        async with hosted(python("sample.describe")) as target:
            pid = (await call(target))["pid"]
        assert reaped(pid)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
