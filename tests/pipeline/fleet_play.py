"""Plays a story of a fleet: what happens to it, and at last some quiet in which all must end well."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import anyio
import trio
from trio.testing import MockClock

from poller.model.ports import Store
from poller.stores.memory import MemoryStore
from tests.pipeline import fleet_stories
from tests.pipeline.doubles import FakeStream, Shard
from tests.pipeline.fleet_machine import Replica, World
from tests.pipeline.fleet_stories import Action, Story
from tests.pipeline.fleet_witness import Witness

_MOST = 5
"""Replicas at a time."""
_OWNED_WITHIN = 10.0
"""Seconds of quiet after which every shard has a live owner."""
_PATIENCE = 120.0
"""Seconds of quiet after which every record must have been delivered, and that stored."""


def play(story: Story, kind: type[Replica] = Replica) -> Sequence[str]:
    """Play a story on a virtual clock. Answers what the witness complains of.

    Args:
        kind: of replica; a broken one shows that the witness sees it.
    """
    return trio.run(partial(_play, story, kind), clock=MockClock(autojump_threshold=0), strict_exception_groups=True)


async def _play(story: Story, kind: type[Replica]) -> Sequence[str]:
    async with MemoryStore().open() as store, anyio.create_task_group() as tasks:
        await anyio.sleep(5)
        streams = FakeStream(), FakeStream()
        witness = Witness(story.limit, calm=story.calm)
        player = _Player(World(story, witness, store, streams, tasks), store, kind)
        for action in story.actions:
            await player.act(action)
            if witness.complaints:
                break
        else:
            await player.end_well()
        tasks.cancel_scope.cancel()
    return witness.complaints


class _Player:
    def __init__(self, world: World, store: Store, kind: type[Replica]) -> None:
        self._world = world
        self._witness = world.witness
        self._store = store
        self._kind = kind
        self._replicas: list[Replica] = []
        self._fallen: list[str] = []
        self._born = 0
        for mapping, count in enumerate(world.story.shards):
            world.streams[mapping].shards.clear()
            for number in range(count):
                self._add(mapping, f"shard-{number}", ())
        for rate in world.story.rates:
            self._join(rate=rate)

    # ---------------------------------------------------------------- replicas

    @property
    def alive(self) -> list[Replica]:
        self._replicas = [each for each in self._replicas if each.alive]
        return self._replicas

    def _join(self, *, again: bool = False, rate: float = 1.0, lanes: int = 1) -> None:
        self._born += 1
        name = self._fallen.pop() if again and self._fallen else f"r{self._born}"
        replica = self._kind(self._world, name, f"boot {self._born}", rate=rate, lanes=lanes)
        self._replicas.append(replica)
        self._world.tasks.start_soon(replica.live)

    async def act(self, action: Action) -> None:
        world, alive = self._world, self.alive
        which = alive[getattr(action, "member", 0) % len(alive)] if alive else None
        match action:
            case fleet_stories.Join(again=again, rate=rate, lanes=lanes):
                if len(alive) < _MOST:
                    self._join(again=again, rate=rate, lanes=lanes)
            case fleet_stories.Outage(seconds=seconds, hangs=hangs):
                world.away_until, world.hangs = anyio.current_time() + seconds, hangs
            case fleet_stories.Exit() if which:
                which.leaving = True
                world.tasks.start_soon(which.leave)
            case fleet_stories.Kill() if which:
                self._fallen.append(which.name)
                which.kill()
            case fleet_stories.Freeze(seconds=seconds) if which:
                which.freeze(seconds)
            case fleet_stories.Cut(seconds=seconds, hangs=hangs) if which:
                which.cut(seconds, hangs=hangs)
            case fleet_stories.Faults(faults=faults) if which:
                which.fails(faults)
            case fleet_stories.Bounce(mapping=mapping, lanes=lanes) if which:
                which.bounce(mapping, lanes)
            case _:
                await self._act_on_streams(action)
        self._check_parts()

    def _check_parts(self) -> None:
        """What replicas would use of the limit now. One that sees no other keeps its part in an outage: it may be wrong."""
        parts = {each.name: each.share.part for each in self._replicas if each.alive and each.fleet.safe}
        if sum(parts.values()) > self._world.story.limit:
            self._witness.complain(f"{parts} together exceed {self._world.story.limit}")

    # ---------------------------------------------------------------- streams

    def _add(self, mapping: int, name: str, parents: tuple[str, ...]) -> None:
        self._world.streams[mapping].shards[name] = Shard(parents=parents)
        self._witness.parents[f"m{mapping}", name] = parents

    async def _act_on_streams(self, action: Action) -> None:
        stream = self._world.streams[getattr(action, "mapping", 0)]
        usable = [name for name, shard in stream.shards.items() if not shard.closed]
        match action:
            case fleet_stories.Wait(seconds=seconds):
                await anyio.sleep(seconds)
            case fleet_stories.Records(mapping=mapping, shard=shard, count=count):
                self._put(mapping, _nth(usable, shard), count)
            case fleet_stories.Split(mapping=mapping, shard=shard) if len(stream.shards) < 12:
                self._reshard(mapping, (_nth(usable, shard),), 2)
            case fleet_stories.Merge(mapping=mapping, shard=shard) if len(usable) > 1:
                self._reshard(mapping, (_nth(usable, shard), _nth(usable, shard + 1)), 1)
            case fleet_stories.TornListing(mapping=mapping, shard=shard):
                self._world.torn.append((mapping, _nth(list(stream.shards), shard)))
            case fleet_stories.Vanish(mapping=mapping, shard=shard):
                self._vanish(mapping, shard)
            case fleet_stories.DeleteRow(mapping=mapping, shard=shard):
                await self._delete_row(mapping, shard)
            case _:
                pass

    def _put(self, mapping: int, shard: str, count: int) -> None:
        name = f"m{mapping}"
        for _ in range(count):
            record = self._world.streams[mapping].put(shard, key=f"key-{self._world.streams[mapping].written % 3}")[0]
            self._witness.of_shard[name, shard].append((int(record.id), record.key))
            if mapping and self._world.story.latest and name not in self._witness.began:
                self._witness.excused.add((name, int(record.id)))

    def _reshard(self, mapping: int, parents: tuple[str, ...], children: int) -> None:
        shards = self._world.streams[mapping].shards
        for parent in parents:
            shards[parent].closed = True
            if mapping and self._world.story.latest and "m1" not in self._witness.began:
                self._witness.unwanted.add(("m1", parent))
        for _ in range(children):
            self._add(mapping, f"shard-{len(shards)}", parents)

    def _vanish(self, mapping: int, number: int) -> None:
        shards = self._world.streams[mapping].shards
        old = [
            name
            for name, shard in shards.items()
            if shard.closed and shard.listed and not any(shards[each].listed for each in shard.parents)
        ]
        if old:
            place = f"m{mapping}", _nth(old, number)
            shards[place[1]].listed = False
            self._witness.vanished.add(place)
            self._witness.excused.update((place[0], each) for each, _ in self._witness.of_shard[place])

    async def _delete_row(self, mapping: int, number: int) -> None:
        rows = [key async for key, _ in self._store.scan(f"m{mapping}/") if key.count("/") > 1]
        if rows:
            key = _nth(rows, number)
            row = await self._store.get(key)
            assert row
            await self._store.delete(key, row.version)
            self._witness.removes(key, by_hand=True)

    # ---------------------------------------------------------------- the end

    async def end_well(self) -> None:
        """All trouble ends: before long every shard has a live owner, and every record is delivered, and that stored."""
        self._world.away_until = 0.0
        for each in self._replicas:
            each.heal()
        if not self.alive:
            self._join()
        runnable = self._witness.runnable()
        await anyio.sleep(_OWNED_WITHIN)
        living = {each.name for each in self.alive}
        for place in sorted(runnable & self._witness.runnable()):
            if (holder := self._witness.held(place)) not in living:
                self._witness.complain(f"{place} has no live owner, only {holder!r}")
        with anyio.move_on_after(_PATIENCE):
            while self._witness.left() and not self._witness.complaints:
                await anyio.sleep(0.5)
        self._check_parts()
        for missing in self._witness.left():
            self._witness.complain(missing)


def _nth(names: Sequence[str], number: int) -> str:
    return names[number % len(names)]
