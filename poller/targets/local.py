"""Functions that run on this machine and speak the Lambda Runtime API.

Each environment is a process in a session and process group of its own with a Runtime API on a loopback port of its
own. It is started when an invocation finds no free one, kept warm, and replaced after it crashed or ran out of time.
It gets the environment variables that Lambda sets, our PATH, HOME and AWS_REGION, and what the configuration adds:
nothing else of ours, no credential.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import anyio.abc

from poller.model.outcome import Outcome, Unavailable
from poller.model.ports import Observe
from poller.targets.command import Command, command_of
from poller.targets.environment import Environment

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
    memory_size: int = 128
    """MiB, told to the function; not a limit."""

    @asynccontextmanager
    async def open(self, aws: Aws, observe: Observe) -> AsyncIterator[_Local]:  # noqa: ARG002  the shape of every section
        """Host the function; when this is left, all its processes have ended."""
        command = command_of(
            self.name,
            self.command,
            directory=self.directory,
            memory_size=self.memory_size,
            added=dict(self.environment),
            ours=os.environ,
        )
        async with anyio.create_task_group() as tasks:
            local = _Local(self, command, observe, tasks)
            try:
                yield local
            finally:
                local.stop()


class _Local:
    """A `Target`: a pool of environments."""

    def __init__(self, settings: LocalFunction, command: Command, observe: Observe, tasks: anyio.abc.TaskGroup) -> None:
        self._settings = settings
        self._command = command
        self._observe = observe
        self._tasks = tasks
        self._turn = anyio.Semaphore(settings.concurrency)  # first come, first served
        self._idle: list[Environment] = []
        self._alive: set[Environment] = set()
        self._stopped = False

    async def invoke(self, event: bytes, request_id: str) -> Outcome:
        """Wait for a free environment and invoke it."""
        async with self._turn:
            while True:
                if self._stopped:
                    return Unavailable(reason=f'function "{self._settings.name}" is being stopped')
                environment = self._take()
                outcome = await environment.invoke(event, request_id, self._settings.timeout)
                if environment.usable:
                    self._idle.append(environment)
                else:
                    environment.stop()
                if outcome is not None:
                    return outcome
                # It had died since its last invocation and never saw the event: nothing was tried yet.

    async def check(self) -> float:
        """Look for the directory and the command. Answers the timeout."""
        self._command.find()
        return self._settings.timeout

    def stop(self) -> None:
        """Start no more environments and end those there are; the task group waits for them."""
        self._stopped = True
        for environment in self._alive:
            environment.stop()

    def _take(self) -> Environment:
        """The environment used last that still lives, else a new one."""
        while self._idle:
            environment = self._idle.pop()
            if environment.usable:
                return environment
        environment = Environment(self._command, self._observe)
        self._alive.add(environment)
        self._tasks.start_soon(self._host, environment)
        return environment

    async def _host(self, environment: Environment) -> None:
        try:
            await environment.run()
        finally:
            self._alive.discard(environment)
