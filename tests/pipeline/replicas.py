"""Replicas of one mapping on virtual time: each has its own way to the store, its own clock, and its own moods."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio

from poller.fleet.fleet import Fleet, Identity, Time
from poller.fleet.member import DEFAULT, Limits
from poller.mapping.run import run_mapping
from poller.model.errors import Transient
from poller.model.facts import Fact
from poller.model.outcome import Outcome
from poller.model.ports import Row, Source, Store, Target
from poller.model.trace import Trace
from tests.pipeline.doubles import StoreAround, World, now


class Reach(StoreAround):
    """One replica's way to the store: it can be cut, and it can stand still as a process that was stopped does."""

    def __init__(self, store: Store, *, pace: float = 0.0) -> None:
        super().__init__(store)
        self.shared = True
        self.pace = pace
        self.cut = False
        self.unreadable = ""
        """A folder that cannot be scanned."""
        self.going = anyio.Event()
        self.going.set()
        self.puts: list[str] = []

    async def _through(self) -> None:
        await anyio.sleep(0.005)
        await self.going.wait()
        if self.cut:
            raise Transient("store: connection refused")

    async def get(self, key: str) -> Row | None:
        await self._through()
        return await super().get(key)

    async def put(self, key: str, value: bytes, expected: int) -> int:
        await self._through()
        self.puts.append(key)
        version = await super().put(key, value, expected)
        await self._through()
        return version

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, Row]]:
        await self._through()
        if self.unreadable and prefix.startswith(self.unreadable):
            raise Transient("store: no answer in time")
        async for row in super().scan(prefix):
            yield row

    async def delete(self, key: str, expected: int) -> None:
        await self._through()
        await super().delete(key, expected)

    async def wake(self) -> None:
        pass  # a hint, and these are lost

    async def wait(self, seconds: float) -> None:
        await anyio.sleep(seconds)
        await self.going.wait()


class Stoppable:
    """A function behind a replica that can stand still: the call begins when the replica goes on."""

    def __init__(self, target: Target, reach: Reach, name: str, log: list[tuple[float, str]]) -> None:
        self.target = target
        self.reach = reach
        self.name = name
        self.log = log

    async def invoke(self, event: bytes, request_id: str, trace: Trace | None = None) -> Outcome:
        self.log.append((anyio.current_time(), self.name))
        await self.reach.going.wait()
        return await self.target.invoke(event, request_id, trace)

    async def check(self) -> None:
        await self.target.check()


class Replica:
    """One process of the fleet."""

    def __init__(
        self,
        name: str,
        source: Source,
        function: Any,
        store: Store,
        log: list[tuple[float, str]],
        *,
        boot: str = "",
        rate: float = 1.0,
        limits: Limits = DEFAULT,
        pace: float = 0.0,
        **policy: Any,
    ) -> None:
        self.name = name
        self.facts: list[Fact] = []
        self.reach = Reach(store, pace=pace)
        time = Time(clock=now, elapsed=lambda: anyio.current_time() * rate, chance=lambda: 0.5)
        who = Identity(name=name, boot=boot or f"boot of {name}")
        self.fleet = Fleet(self.reach, who, time, self.facts.append, limits=limits)
        self.world = World(source, function, self.reach, **policy)
        self.stop = self.world.stop
        target = Stoppable(function, self.reach, name, log)
        self.tools = replace(
            self.world.tools, fleet=self.fleet, observe=self.facts.append, store=self.reach, target=target
        )
        self._life = anyio.CancelScope()
        self.over = anyio.Event()

    async def run(self) -> None:
        """Live until it leaves or is killed."""
        with self._life:
            async with anyio.create_task_group() as around:
                await around.start(self.fleet.run)
                await run_mapping(self.tools)
                around.cancel_scope.cancel()
            await self.fleet.farewell()
        self.over.set()

    async def leave(self) -> None:
        """As SIGTERM."""
        await self.fleet.leave()
        self.stop.set()
        await self.over.wait()

    def kill(self) -> None:
        """As SIGKILL: nothing is said."""
        self._life.cancel()

    def freeze(self) -> None:
        """As SIGSTOP."""
        self.reach.going = anyio.Event()

    def thaw(self) -> None:
        """As SIGCONT."""
        self.reach.going.set()

    def told(self, kind: type[Any]) -> list[Any]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    @property
    def owned(self) -> set[str]:
        """Shards in its hands, as it tells."""
        held: set[str] = set()
        for fact in self.facts:
            if type(fact).__name__ == "ShardMoved":
                (held.add if fact.to == "owned" else held.discard)(fact.shard)  # type: ignore[union-attr]
        return held


@asynccontextmanager
async def running(*replicas: Replica) -> AsyncIterator[None]:
    """Run replicas side by side; at the end all are killed."""
    async with anyio.create_task_group() as tasks:
        for replica in replicas:
            tasks.start_soon(replica.run)
        yield
        tasks.cancel_scope.cancel()
