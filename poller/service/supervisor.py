"""Keeps the running mappings equal to the desired ones: what did not change is not touched, what fails restarts alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from poller.aws.session import Aws
from poller.destinations import DestinationSettings
from poller.fleet.fleet import Fleet
from poller.mapping.budget import Budget
from poller.mapping.retry import backoff
from poller.mapping.run import run_mapping
from poller.mapping.stop import Stop
from poller.mapping.tools import Tools
from poller.model.errors import Denied, Transient, told
from poller.model.facts import MappingMoved, MappingProblem, MappingRemoved, State
from poller.model.ports import Clock, Destination, Observe, Store, Tracing
from poller.settings import MappingSettings
from poller.sources.dynamodb import DynamoDBStream
from poller.sources.sqs import SqsQueue
from poller.targets.aws_lambda import LambdaFunction

_log = logging.getLogger(__name__)
_FIRST_PAUSE = 5.0
"""Seconds before a mapping that failed is tried again, doubling up to the cap of `backoff`."""
_RAN_WELL = 60.0
"""Seconds after which a failure is a new one and not the last one again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What all mappings of one configuration share."""

    aws: Aws
    store: Store
    fleet: Fleet
    budget: Budget
    observe: Observe
    tracing: Tracing | None
    clock: Clock
    chance: Callable[[], float]
    new_id: Callable[[], str]


@dataclass(slots=True)
class _Kept:
    """A mapping somebody keeps running."""

    wanted: MappingSettings | None
    """What it shall be; None: nothing any more."""
    stop: Stop
    """Set to end the run of what it is now."""


class Supervisor:
    """Runs mappings in a task group of its owner."""

    def __init__(self, house: House, tasks: TaskGroup) -> None:
        self._house = house
        self._tasks = tasks
        self._kept: dict[str, _Kept] = {}
        self._stopping = False

    def follow(self, wanted: Mapping[str, MappingSettings]) -> None:
        """Make the running mappings these. A changed one finishes what is in flight before it begins anew."""
        for name, kept in self._kept.items():
            if kept.wanted != wanted.get(name):
                kept.wanted = wanted.get(name)
                kept.stop.set()
        for name in wanted.keys() - self._kept.keys():
            self._kept[name] = _Kept(wanted[name], Stop())
            self._tasks.start_soon(self._keep, name, self._kept[name])

    def stop(self) -> set[str]:
        """Finish what is in flight, begin nothing new; the task group ends when all has been finished.

        Returns:
            The mappings that run, of which nobody will be told that they were removed.
        """
        self._stopping = True
        for kept in self._kept.values():
            kept.stop.set()
        return set(self._kept)

    async def _keep(self, name: str, kept: _Kept) -> None:
        while kept.wanted is not None and not self._stopping:
            kept.stop = Stop()
            await self._run(kept.wanted, kept.stop)
        del self._kept[name]
        if not self._stopping:
            self._house.observe(MappingRemoved(mapping=name))

    async def _run(self, mapping: MappingSettings, stop: Stop) -> None:
        """Run a mapping until its stop, again and again if it fails."""
        if not mapping.enabled:
            self._moved(mapping, "Disabled")
            await stop.wait()
            return
        failures = 0
        while not stop.is_set():
            self._moved(mapping, "Enabling")
            began, reason = anyio.current_time(), ""
            try:
                await self._run_once(mapping, stop)
            except* (Transient, Denied) as group:
                reason = told(group)
            except* Exception as group:  # noqa: BLE001 a fault of ours must not disturb the other mappings
                reason = f"internal fault: {told(group)}"
                _log.error(
                    "mapping failed by a fault of poller", exc_info=group, extra={"fields": {"mapping": mapping.name}}
                )
            if reason:
                failures = 1 if anyio.current_time() - began > _RAN_WELL else failures + 1
                await self._problem(mapping, reason, failures, stop)
        self._moved(mapping, "Disabling")

    async def _run_once(self, mapping: MappingSettings, stop: Stop) -> None:
        house = self._house
        async with (
            mapping.source.open(house.aws, house.clock) as source,
            mapping.target.open(house.aws, house.observe) as target,
            _opened(mapping.destination, house.aws) as destination,
        ):
            self._moved(mapping, "Enabled")
            await run_mapping(
                Tools(
                    mapping=mapping.name,
                    uuid=mapping.uuid,
                    source_name=mapping.source.arn,
                    family="dynamodb" if isinstance(mapping.source, DynamoDBStream) else "kinesis",
                    function_name=mapping.target.function
                    if isinstance(mapping.target, LambdaFunction)
                    else mapping.target.name,
                    policy=mapping.policy,
                    source=source,
                    target=target,
                    destination=destination,
                    store=house.store,
                    fleet=house.fleet,
                    budget=house.budget,
                    observe=house.observe,
                    tracing=house.tracing,
                    clock=house.clock,
                    now=asyncio.get_running_loop().time,
                    chance=house.chance,
                    new_id=house.new_id,
                    stop=stop,
                )
            )

    async def _problem(self, mapping: MappingSettings, reason: str, failures: int, stop: Stop) -> None:
        seconds = backoff(failures, self._house.chance(), base=_FIRST_PAUSE)
        self._house.observe(MappingProblem(mapping=mapping.name, reason=reason, retry_in=seconds))
        with anyio.move_on_after(seconds):
            await stop.wait()

    def _moved(self, mapping: MappingSettings, state: State) -> None:
        reason = "USER_INITIATED" if isinstance(mapping.source, SqsQueue) else "User action"
        self._house.observe(MappingMoved(mapping=mapping.name, state=state, reason=reason))


def _opened(
    destination: DestinationSettings | None, aws: Aws
) -> AbstractAsyncContextManager[Destination] | AbstractAsyncContextManager[None]:
    return nullcontext() if destination is None else destination.open(aws)
