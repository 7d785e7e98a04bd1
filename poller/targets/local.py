"""Functions that run on this machine and speak the Lambda Runtime API.

Each environment is a process in a session and process group of its own with a Runtime API on a loopback port of its
own. It is started when an invocation finds no free one, kept warm, ended when it was not needed for `idle_timeout`, and
replaced after it crashed, ran out of time or took too much memory. It gets the environment variables that Lambda sets,
our PATH and HOME, the region of the `aws` section, and what the configuration adds: nothing else of ours, no credential.

It never outlives us: what is left of its group when we end, even by SIGKILL, is killed by a guard (`watch`). It is the
first that the system kills when memory runs out, before us.
"""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import anyio.abc

from poller.model.outcome import Outcome, Unavailable
from poller.model.ports import Observe, Target
from poller.model.trace import Trace
from poller.targets.command import Command, command_of
from poller.targets.environment import Environment
from poller.targets.watch import Watch

if TYPE_CHECKING:
    from poller.aws.session import Aws


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFunction:
    """A command that is a runtime client (`python -m awslambdaric app.handler`, a `bootstrap`)."""

    name: str
    """The name in the configuration, and the function's name."""
    command: tuple[str, ...]
    directory: str | None = None
    """Where the command runs, LAMBDA_TASK_ROOT; None: where poller runs."""
    timeout: float = 60.0
    """Seconds an invocation may take."""
    concurrency: int = 1
    """Environments (processes) at the most, each with one invocation at a time."""
    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Added to the child's environment; may hold secrets."""
    memory_size: int | None = None
    """MiB that an environment may have resident, all its processes together (`memory`); more, and it is killed, as at
    Lambda. Told to the function. None: no limit, and the function is told Lambda's default."""
    idle_timeout: float = 300.0
    """Seconds after which an environment without work is ended."""

    @asynccontextmanager
    async def open(self, aws: Aws, observe: Observe) -> AsyncIterator[Target]:
        """Host the function; when this is left, all its processes have ended."""
        command = command_of(
            self.name,
            self.command,
            directory=self.directory,
            memory_size=self.memory_size,
            added=dict(self.environment),
            ours=os.environ,
            region=aws.region,
        )
        watch = Watch()
        try:
            async with anyio.create_task_group() as tasks:
                local = _Local(self, command, observe, tasks, watch)
                tasks.start_soon(local.reap)
                try:
                    yield local
                finally:
                    local.stop()
        finally:
            await watch.end()


class _Local:
    """A `Target`: a pool of environments."""

    def __init__(
        self, settings: LocalFunction, command: Command, observe: Observe, tasks: anyio.abc.TaskGroup, watch: Watch
    ) -> None:
        self._settings = settings
        self._watch = watch
        self._command = command
        self._observe = observe
        self._tasks = tasks
        self._turn = anyio.Semaphore(settings.concurrency)  # first come, first served
        self._idle: list[tuple[Environment, float]] = []
        """Free environments and since when they are, the last used last."""
        self._freed = anyio.Event()
        self._alive: set[Environment] = set()
        self._stopped = False

    async def invoke(self, event: bytes, request_id: str, trace: Trace | None = None) -> Outcome:
        """Wait for a free environment and invoke it."""
        async with self._turn:
            while True:
                if self._stopped:
                    return Unavailable(reason=f'function "{self._settings.name}" is being stopped')
                environment = self._take()
                outcome = await environment.invoke(event, request_id, self._settings.timeout, trace)
                if environment.usable:
                    self._idle.append((environment, anyio.current_time()))
                    self._freed.set()
                else:
                    environment.stop()
                if outcome is not None:
                    return outcome
                # It had died since its last invocation and never saw the event: nothing was tried yet.

    async def check(self) -> float:
        """Look for the directory and the command. Answers the timeout."""
        self._command.find()
        return self._settings.timeout

    async def reap(self) -> None:
        """End environments that nobody needed for a while, until the stop."""
        while not self._stopped:
            self._freed = anyio.Event()
            patience = self._settings.idle_timeout
            oldest = self._idle[0][1] + patience if self._idle else math.inf
            if oldest <= anyio.current_time():
                self._idle.pop(0)[0].stop()
                continue
            with anyio.CancelScope(deadline=oldest):
                await self._freed.wait()

    def stop(self) -> None:
        """Start no more environments and end those there are; the task group waits for them."""
        self._stopped = True
        self._freed.set()
        for environment in self._alive:
            environment.stop()

    def _take(self) -> Environment:
        """The environment used last that still lives, else a new one."""
        while self._idle:
            environment, _ = self._idle.pop()
            if environment.usable:
                return environment
        environment = Environment(self._command, self._observe, self._watch)
        self._alive.add(environment)
        self._tasks.start_soon(self._host, environment)
        return environment

    async def _host(self, environment: Environment) -> None:
        try:
            await environment.run()
        finally:
            self._alive.discard(environment)
