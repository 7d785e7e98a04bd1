"""One execution environment: a process in a group of its own, the Runtime API it talks to, and what it prints."""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import FileIO
from subprocess import DEVNULL

import anyio
import anyio.abc

from poller.model.errors import Denied
from poller.model.facts import FunctionPrinted
from poller.model.outcome import Failed, Outcome, Unavailable
from poller.model.ports import Observe
from poller.model.trace import Trace
from poller.targets import tether
from poller.targets.command import Command
from poller.targets.memory import resident_bytes
from poller.targets.output import Lines, Tail
from poller.targets.runtime_api import Invocation, RuntimeApi
from poller.targets.watch import Watch

INIT_LIMIT = 10.0
"""Seconds a runtime has to start, or the function's timeout if that is longer. Not taken from the invocation's time."""

GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""

_DRAIN = 0.5
"""Seconds to wait for the end of a dead function's output: a process that left the group may keep the pipe open."""

_CHUNK = 65_536
_LOOK, _LOOK_IDLE = 0.1, 1.0
"""Seconds between two looks at the memory of a function that has one to answer for, at work and idle."""
_MIB = 1_048_576


class Environment:
    """Runs a command once; invoked one event at a time."""

    def __init__(self, command: Command, observe: Observe, watch: Watch, *, init_limit: float = INIT_LIMIT) -> None:
        self._command = command
        self._watch = watch
        self._used = 0
        """MiB that the function took when that was too much."""
        self._init_limit = init_limit
        self._observe = observe
        self._api = RuntimeApi(command.arn)
        self._tail = Tail()
        self._process: anyio.abc.Process | None = None
        self._stop = anyio.Event()
        self._ended = anyio.Event()
        self._killed = False

    @property
    def usable(self) -> bool:
        """Whether it may be given another event."""
        exited = self._process is not None and self._process.returncode is not None
        return not (exited or self._api.broken or self._stop.is_set() or self._ended.is_set())

    async def invoke(self, event: bytes, request_id: str, timeout: float, trace: Trace | None = None) -> Outcome | None:
        """Hand over an event and wait for its outcome; None when the environment had died before it took the event.

        Cancelling kills the process.
        """
        invocation = Invocation(event, request_id, timeout, trace.xray_header() if trace else "")
        self._tail.clear()
        self._api.offer(invocation)
        try:
            starting = timeout if self._api.initialized else max(timeout, self._init_limit)
            with anyio.move_on_after(starting):
                await invocation.taken.wait()
            if not invocation.taken.is_set():
                await self._out_of_time(invocation, f"Init timed out after {starting:.2f} seconds")
            with anyio.move_on_after(timeout):
                await invocation.done.wait()
            if not invocation.done.is_set():
                await self._out_of_time(invocation, f"Task timed out after {timeout:.2f} seconds")
        finally:
            if not invocation.done.is_set():
                self.kill()
        outcome = invocation.outcome
        return replace(outcome, log_tail=str(self._tail)) if isinstance(outcome, Failed) else outcome

    async def run(self) -> None:
        """Host the process until it ends or is told to.

        Shielded: only `stop` and `kill` end it, so that no cancellation leaves a process or a zombie behind.
        """
        stopped = Unavailable(reason=f'function "{self._command.name}" is being stopped')
        running: Outcome = stopped
        starting: Outcome = stopped
        try:
            with anyio.CancelScope(shield=True):
                if not self._stop.is_set():
                    running, starting = await self._host()
        finally:
            self._api.end(running=running, starting=starting)
            self._ended.set()

    def stop(self) -> None:
        """Ask the process to end: SIGTERM, a short grace, SIGKILL. Returns at once."""
        self._stop.set()

    def kill(self) -> None:
        """End the process and all that it started, now."""
        self._killed = True
        self._stop.set()
        self._signal(signal.SIGKILL)

    async def _out_of_time(self, invocation: Invocation, reason: str) -> None:
        """Settle an invocation that took too long; on return its process does nothing more."""
        invocation.settle(Failed(reason=reason, timeout=True))
        self.kill()
        with anyio.move_on_after(GRACE):  # a process that hangs in the kernel does not hold us up
            await self._ended.wait()

    async def _host(self) -> tuple[Outcome, Outcome]:
        """Start the process and follow it to its end.

        Returns:
            What becomes of an invocation that was running, and of one that waited for the start.
        """
        name = self._command.name
        try:
            executable = self._command.find()
            await self._watch.begin()
            async with self._api.serve() as address:
                return await self._run_process(executable, address)
        except Denied as error:
            fault = Unavailable(reason=str(error), lasting=True)
        except (OSError, ValueError) as error:  # ValueError: a word or variable that no process can be given
            fault = Unavailable(
                reason=f'function "{name}" cannot be started: {error}', lasting=isinstance(error, ValueError)
            )
        return fault, fault

    async def _run_process(self, executable: str, address: str) -> tuple[Outcome, Outcome]:
        with _pipe() as (printed, printer), _pipe() as (reported, reporter):
            process = await anyio.open_process(
                self._words(executable, reporter.fileno()),
                stdin=DEVNULL,
                stdout=printer,
                stderr=printer,
                cwd=self._command.directory,
                env=self._variables(address),
                start_new_session=True,
                pass_fds=(reporter.fileno(),),
            )
            self._process = process
            self._watch.add(process.pid)
            printer.close()
            reporter.close()
            read = anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, printed.fileno(), read)
                tasks.start_soon(self._end_when_told)
                if self._command.memory_limit is not None:
                    tasks.start_soon(self._bound, process.pid, self._command.memory_limit)
                code = await process.wait()
                self._signal(signal.SIGKILL)  # what it started goes with it
                self._watch.remove(process.pid)
                with anyio.move_on_after(_DRAIN):
                    await read.wait()
                tasks.cancel_scope.cancel()
            return self._account(code, _read_report(reported.fileno()))

    def _words(self, executable: str, reporter: int) -> list[str]:
        script = [sys.executable, "-I", "-S", str(tether.__file__)]
        return [*script, str(os.getpid()), str(reporter), executable, *self._command.words]

    def _variables(self, address: str) -> dict[str, str]:
        stream = f"{time.strftime('%Y/%m/%d', time.gmtime())}/[$LATEST]{uuid.uuid4().hex}"
        ours = {"AWS_LAMBDA_RUNTIME_API": address, "AWS_LAMBDA_LOG_STREAM_NAME": stream}
        return {**self._command.variables, **ours}

    async def _read(self, printed: int, read: anyio.Event) -> None:
        """Tell line by line what the function prints, until the last process that could print has ended."""
        lines = Lines()
        try:
            while True:
                await anyio.wait_readable(printed)
                chunk = os.read(printed, _CHUNK)
                if not chunk:
                    break
                self._tell(lines.feed(chunk))
        finally:
            self._tell(lines.rest())
            read.set()

    def _tell(self, lines: list[str]) -> None:
        for line in lines:
            self._tail.add(line)
            self._observe(FunctionPrinted(function=self._command.name, request_id=self._api.request_id, line=line))

    async def _end_when_told(self) -> None:
        await self._stop.wait()
        if not self._killed:
            self._signal(signal.SIGTERM)
            await anyio.sleep(GRACE)
        self._signal(signal.SIGKILL)

    async def _bound(self, pid: int, limit: int) -> None:
        """Kill the process and all that it started when they take more MiB than they may."""
        while True:
            used = resident_bytes(pid) // _MIB
            if used > limit:
                self._used = used
                self._signal(signal.SIGKILL)
                return
            await anyio.sleep(_LOOK if self._api.request_id else _LOOK_IDLE)

    def _signal(self, number: signal.Signals) -> None:
        """Send to the process's whole group, which is named after it."""
        if self._process is not None and not self._ended.is_set():
            with suppress(ProcessLookupError, PermissionError):  # macOS refuses where all members have ended
                os.killpg(self._process.pid, number)

    def _account(self, code: int, report: str) -> tuple[Outcome, Outcome]:
        name = self._command.name
        if report:
            words = " ".join(self._command.words)
            where = self._command.directory
            fault = Unavailable(reason=f'function "{name}": cannot execute {words} in {where}: {report}', lasting=True)
            return fault, fault
        if self._stop.is_set():
            stopped = Unavailable(reason=f'function "{name}" is being stopped')
            return stopped, stopped
        if self._used:
            limit = self._command.memory_limit
            reason = f"Runtime.OutOfMemory: Runtime exited with error: signal: killed: {self._used} MiB used, memory_size is {limit}"
            return Failed(reason=reason), Failed(reason=reason)
        how = f"signal: {(signal.strsignal(-code) or str(-code)).lower()}" if code < 0 else f"exit status {code}"
        ended = f"Runtime.ExitError: Runtime exited with error: {how}"
        early = f"{ended}, before it asked for an event: is the command a client of the Lambda Runtime API?"
        return Failed(reason=ended), Failed(reason=early)


@contextmanager
def _pipe() -> Iterator[tuple[FileIO, FileIO]]:
    """A pipe, its reading and its writing end; what is not closed yet is closed at the end."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with FileIO(reader, "rb") as reading, FileIO(writer, "wb") as writing:
        yield reading, writing


def _read_report(reported: int) -> str:
    """Why the command could not be executed; "" when it was."""
    try:
        return os.read(reported, _CHUNK).decode("utf-8", "replace")
    except BlockingIOError:
        return ""
