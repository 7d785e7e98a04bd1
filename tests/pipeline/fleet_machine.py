"""A replica in a world that fails it: its way to the store, its view of the streams, its functions, and its life."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import anyio
import msgspec
from anyio.abc import TaskGroup

from poller.fleet import member
from poller.fleet.fleet import Fleet, Identity, Time
from poller.fleet.member import DEFAULT, FOLDER, Limits
from poller.fleet.share import Share
from poller.mapping.budget import Budget
from poller.mapping.run import run_mapping
from poller.mapping.stop import Stop
from poller.mapping.tools import Tools
from poller.model.errors import Denied, NameTaken, ShardGone, Superseded, Transient
from poller.model.facts import Fact
from poller.model.outcome import Outcome, Replied
from poller.model.policy import Latest, Policy
from poller.model.ports import Admit, Row, Store, Unsettled
from poller.model.record import Cursor, Page, Record, Topology, TrimHorizon
from poller.model.trace import Trace
from tests.pipeline.doubles import FakeStream, StoreAround, now
from tests.pipeline.fleet_stories import Fault, Story
from tests.pipeline.fleet_witness import Witness

_HOP = 0.003
"""Seconds from a replica to the store, and back."""
_CONVALESCENCE = 20.0
"""Seconds for which trouble of a replica's own may still be seen by others."""
_TIMEOUT = 2.0
"""Seconds after which a call that hangs is given up."""


@dataclass(eq=False)
class World:
    """What all replicas share."""

    story: Story
    witness: Witness
    store: Store
    streams: tuple[FakeStream, FakeStream]
    tasks: TaskGroup
    away_until: float = 0.0
    """Nobody reaches the store before then."""
    hangs: bool = False
    replicas: dict[str, Replica] = field(default_factory=dict)
    """The last process of each name."""
    torn: list[tuple[int, str]] = field(default_factory=list)
    """For each mapping and shard one listing, of every replica, that leaves it out."""


class Way(StoreAround):
    """One replica's way to the store. What was sent arrives, whether its sender still waits or not."""

    def __init__(self, world: World, replica: Replica) -> None:
        super().__init__(world.store)
        self.shared = True
        self.pace = world.story.pace
        self.faults: deque[Fault] = deque()
        self.cut_until = 0.0
        self.hangs = False
        self.heard = 0.0
        """When the last acknowledged beat was sent, by the replica's clock."""
        self._world = world
        self._replica = replica

    async def _hop(self) -> None:
        await anyio.sleep(_HOP)
        await self._replica.awake()
        moment = anyio.current_time()
        if moment < max(self.cut_until, self._world.away_until):
            if self._world.hangs if moment < self._world.away_until else self.hangs:
                await anyio.sleep(_TIMEOUT)
            raise Transient("store: connection refused")

    async def _fault(self) -> Fault:
        fault = self.faults.popleft() if self.faults else "none"
        await self._hop()
        if fault == "request lost":
            raise Transient("store: connection reset")
        if fault == "slow":
            await anyio.sleep(0.7)
        return fault

    async def _reply(self, fault: Fault) -> None:
        if fault == "reply lost":
            raise Transient("store: connection reset by peer")
        await self._hop()

    async def get(self, key: str) -> Row | None:
        fault = await self._fault()
        row = await self.store.get(key)
        await self._reply(fault)
        return row

    async def put(self, key: str, value: bytes, expected: int) -> int:
        sent = self._replica.elapsed()
        fault = await self._fault()
        if fault == "late":
            self._world.tasks.start_soon(self._arrive_late, key, value, expected)
            await anyio.sleep(0.5)
            raise Transient("store: timed out")
        version = await self._apply(key, value, expected)
        await self._reply(fault)
        if key == f"{FOLDER}{self._replica.name}":
            self.heard = sent
        return version

    async def _arrive_late(self, key: str, value: bytes, expected: int) -> None:
        await anyio.sleep(1.5)
        with suppress(Superseded):  # nobody is there to hear it
            await self._apply(key, value, expected)

    async def _apply(self, key: str, value: bytes, expected: int) -> int:
        version = await self.store.put(key, value, expected)
        self._judge(key, value)
        self._world.witness.writes(self._replica.name, self._replica.fleet.epoch, key, value)
        return version

    def _judge(self, key: str, value: bytes) -> None:
        """Nobody is declared dead because the store was away for all."""
        victim = self._world.replicas.get(key.removeprefix(FOLDER))
        dead = key.startswith(FOLDER) and member.decode(value).state == "gone"
        if dead and victim and victim is not self._replica and victim.well:
            self._world.witness.complain(f"{self._replica.name} declares {victim.name} dead, which is well")

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, Row]]:
        fault = await self._fault()
        rows = [row async for row in self.store.scan(prefix)]
        await self._reply(fault)
        for row in rows:
            yield row

    async def delete(self, key: str, expected: int) -> None:
        fault = await self._fault()
        await self.store.delete(key, expected)
        self._world.witness.removes(key)
        await self._reply(fault)

    async def wake(self) -> None:
        pass  # a hint, and these are lost

    async def wait(self, seconds: float) -> None:
        await anyio.sleep(seconds)
        await self._replica.awake()


class View:
    """A stream as one replica sees it."""

    redelivers = False
    ordered = True

    def __init__(self, world: World, replica: Replica, mapping: int) -> None:
        self._world = world
        self._replica = replica
        self._mapping = mapping
        self._tears = 0
        self._left_out = ""
        self._stream = world.streams[mapping]

    async def topology(self) -> Topology:
        await self._replica.awake()
        whole = await self._stream.topology()
        torn = [shard for mapping, shard in self._world.torn[self._tears :] if mapping == self._mapping]
        self._tears = len(self._world.torn)
        self._left_out = next((shard for shard in torn if shard != self._left_out), "")  # never twice in a row
        left = tuple(each for each in whole.partitions if each.id != self._left_out)
        return msgspec.structs.replace(whole, partitions=left)

    async def latest(self, partition: str) -> Cursor:
        await self._replica.awake()
        return await self._stream.latest(partition)

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        await self._replica.awake()
        if not self._stream.shards[partition].listed:
            raise ShardGone(f"there is no {partition}")
        self._world.witness.reads(self._replica.name, (f"m{self._mapping}", partition))
        return await self._stream.read(partition, cursor, limit, admit)

    async def delete(self, records: Sequence[Record]) -> Sequence[Unsettled]:
        raise AssertionError("a stream is never asked to delete")

    async def extend(self, records: Sequence[Record], seconds: int) -> Sequence[Unsettled]:
        raise AssertionError("a stream is never asked to extend")

    async def release(self, records: Sequence[Record]) -> None:
        raise AssertionError("a stream is never asked to release")

    async def check(self) -> None:
        raise AssertionError("a running mapping checks nothing")


class Function:
    """The function of one mapping, as one replica calls it. It always succeeds."""

    def __init__(self, world: World, replica: Replica, mapping: int) -> None:
        self._world = world
        self._replica = replica
        self._mapping = mapping

    async def invoke(self, event: bytes, request_id: str, trace: Trace | None = None) -> Outcome:
        ids = [each["sequence"] for each in json.loads(event)["Records"]]
        shards = self._world.streams[self._mapping].shards
        shard = next(name for name, each in shards.items() if any(int(record.id) == ids[0] for record in each.records))
        place, replica = (f"m{self._mapping}", shard), self._replica
        unheard_for = replica.elapsed() - replica.way.heard
        self._world.witness.begins(replica.name, place, ids, unheard_for=unheard_for, fence=DEFAULT.self_fence)
        await anyio.sleep(self._world.story.call)
        await replica.awake()
        self._world.witness.ends(place, ids)
        return Replied(body=b"null")

    async def check(self) -> None:
        raise AssertionError("a running mapping checks nothing")


class Replica:
    """One process: two mappings of streams, and a part of a limit. What it is made of can be broken in a subclass."""

    way_type: type[Way] = Way
    view_type: type[View] = View
    fleet_type: type[Fleet] = Fleet
    limits: Limits = DEFAULT

    def __init__(self, world: World, name: str, boot: str, *, rate: float, lanes: int) -> None:
        self.name = name
        self._world = world
        self._well_at = 0.0
        world.replicas[name] = self
        self._rate = rate
        self._lanes = [lanes, lanes]
        self._frozen_until = 0.0
        self._dead = False
        self.facts: list[Fact] = []
        self.way = self.way_type(world, self)
        time = Time(clock=now, elapsed=self.elapsed, chance=lambda: 0.5)
        who = Identity(name=name, boot=boot)
        self.fleet = self.fleet_type(self.way, who, time, self.facts.append, limits=self.limits)
        self.share = Share(
            self.fleet, self.way, self.facts.append, stream="q/queue", limit=world.story.limit, in_flight=lambda: 0
        )
        self.leaving = False
        """It was told to."""
        self.over = anyio.Event()
        self._joined = False
        self._stops = [Stop(), Stop()]
        self._scope = anyio.CancelScope()
        self._sharing = anyio.CancelScope()

    def elapsed(self) -> float:
        return anyio.current_time() * self._rate

    async def awake(self) -> None:
        """Wait while the process stands still; a dead one does nothing any more."""
        while self._dead or anyio.current_time() < self._frozen_until:
            await anyio.sleep(1e9 if self._dead else self._frozen_until - anyio.current_time())

    @property
    def alive(self) -> bool:
        """Neither dead nor on its way out."""
        return not self._dead and not self.leaving and not self.over.is_set()

    async def live(self) -> None:
        try:
            with self._scope:
                async with anyio.create_task_group() as around:
                    await around.start(self.fleet.run)
                    self._joined = True
                    async with anyio.create_task_group() as tasks:
                        for mapping in (0, 1):
                            tasks.start_soon(self._keep, mapping)
                        tasks.start_soon(self._keep_share)
                    around.cancel_scope.cancel()
                await self.fleet.farewell()
        except* NameTaken:
            self._world.witness.complain(f"{self.name} believes that another has its name")
        self.over.set()

    async def _keep(self, mapping: int) -> None:
        while not self.leaving:
            stop = self._stops[mapping] = Stop()
            try:
                await run_mapping(self._tools(mapping, stop))
            except* (Transient, Denied):
                with anyio.move_on_after(1):
                    await stop.wait()

    async def _keep_share(self) -> None:
        with self._sharing:
            await self.share.keep(lambda: None)

    async def leave(self) -> None:
        """As SIGTERM."""
        if self._joined:
            await self.fleet.leave()
        else:
            self._scope.cancel()
        self._sharing.cancel()
        for stop in self._stops:
            stop.set()
        with anyio.move_on_after(self._world.story.call + 60):
            await self.over.wait()
        if not self.over.is_set() and not self._dead:
            self._world.witness.complain(f"{self.name} does not come to its end")

    @property
    def well(self) -> bool:
        """It is there, and has had no trouble of its own for a while."""
        return self.alive and self._joined and anyio.current_time() >= self._well_at

    def ails(self, seconds: float) -> None:
        """It has trouble of its own for so long."""
        self._well_at = max(self._well_at, anyio.current_time() + seconds + _CONVALESCENCE)

    def kill(self) -> None:
        self._dead = True
        self._scope.cancel()

    def freeze(self, seconds: float) -> None:
        self.ails(seconds)
        self._frozen_until = max(self._frozen_until, anyio.current_time() + seconds)

    def cut(self, seconds: float, *, hangs: bool) -> None:
        self.ails(seconds)
        self.way.cut_until, self.way.hangs = anyio.current_time() + seconds, hangs

    def fails(self, faults: Sequence[Fault]) -> None:
        self.ails(2.0 * len(faults))
        self.way.faults.extend(faults)

    def bounce(self, mapping: int, lanes: int) -> None:
        self._lanes[mapping] = lanes
        self._stops[mapping].set()

    def heal(self) -> None:
        self._frozen_until = self.way.cut_until = 0.0
        self.way.faults.clear()

    def _tools(self, mapping: int, stop: Stop) -> Tools:
        story = self._world.story
        policy = Policy(
            batch_size=story.batch_size,
            start=Latest() if story.latest and mapping else TrimHorizon(),
            lanes=self._lanes[mapping],
        )
        return Tools(
            mapping=f"m{mapping}",
            uuid="0f0e0d0c-0000-5000-8000-000000000000",
            function_name="f",
            source_name=f"arn:aws:kinesis:eu-west-1:123456789012:stream/s{mapping}",
            policy=policy,
            source=self.view_type(self._world, self, mapping),
            target=Function(self._world, self, mapping),
            store=self.way,
            fleet=self.fleet,
            budget=Budget(256 * 1024 * 1024),
            observe=self.facts.append,
            clock=now,
            chance=lambda: 0.5,
            new_id=lambda: "request",
            stop=stop,
        )
