"""At least once, in order, children after parents: whatever fails and however often we are killed. In virtual time."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from poller.mapping.row import decode_shard
from poller.mapping.run import run_mapping
from poller.model.errors import Denied, IteratorExpired, ShardGone, Throttled, Transient
from poller.model.facts import RecordsDropped
from poller.model.outcome import Failed, Outcome, Refused, Replied, Unavailable
from poller.model.policy import Latest
from poller.model.ports import Admit, Row, Store
from poller.model.record import After, Cursor, Page, TrimHorizon
from poller.stores.memory import MemoryStore
from tests.pipeline.doubles import Call, FakeFunction, FakeStream, StoreAround, World, now, virtual


class Moody(FakeStream):
    """A stream whose reads and listings fail now and then, and forget a shard now and then."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__(page=dice.choice([1, 7, 50]))
        self.dice = dice
        self.calm = False

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        if not self.calm and self.dice.random() < 0.2:
            errors = [Transient("t"), Throttled("s"), Denied("d"), IteratorExpired("i"), ShardGone("g")]
            self.failures = [self.dice.choice(errors)]
        return await super().read(partition, cursor, limit, admit)


class MoodyStore(StoreAround):
    """A store whose calls fail now and then, before or after the deed, and can be killed in the middle."""

    def __init__(self, store: Store, dice: random.Random) -> None:
        super().__init__(store)
        self.dice = dice
        self.calm = False

    async def _maybe(self) -> None:
        await anyio.sleep(0.01)
        if not self.calm and self.dice.random() < 0.1:
            raise Transient("store: database is locked")

    async def get(self, key: str) -> Row | None:
        await self._maybe()
        return await self.store.get(key)

    async def put(self, key: str, value: bytes, expected: int) -> int:
        await self._maybe()
        version = await self.store.put(key, value, expected)
        await self._maybe()
        return version

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, Row]]:
        await self._maybe()
        async for row in self.store.scan(prefix):
            yield row

    async def delete(self, key: str, expected: int) -> None:
        raise AssertionError("not called")


async def produce(stream: Moody, homes: dict[int, str]) -> None:
    leaves, made = ["shard-0"], 1
    for _ in range(60):
        await anyio.sleep(stream.dice.random() * 10)
        shard = stream.dice.choice(leaves)
        for each in stream.put(shard, stream.dice.randint(1, 30)):
            homes[int(each.id)] = shard
        if stream.dice.random() < 0.15:
            children = [f"shard-{made}", f"shard-{made + 1}"]
            made += 2
            leaves.remove(shard)
            leaves += children
            stream.split(shard, *children)


def ancestors(stream: Moody, shard: str) -> set[str]:
    found: set[str] = set()
    for parent in stream.shards[shard].parents:
        found |= {parent} | ancestors(stream, parent)
    return found


def behaviour(dice: random.Random) -> FakeFunction:
    def behave(call: Call) -> Outcome:
        if dice.random() < 0.2:
            outcomes: list[Outcome] = [Failed(reason="f"), Refused(reason="r"), Unavailable(reason="u")]
            return dice.choice(outcomes)
        return Replied()

    return FakeFunction(behave, seconds=dice.choice([0.0, 0.3, 3.0]))


async def live(world: World) -> None:
    """As the supervisor does: again after a failure that passes."""
    while not world.stop.is_set():
        try:
            await run_mapping(world.tools)
        except* (Transient, Denied):
            await anyio.sleep(1)


@pytest.mark.parametrize("latest", [False, True], ids=["TRIM_HORIZON", "LATEST"])
@pytest.mark.parametrize("seed", range(5))
@virtual
async def test_whatever_fails_every_record_is_delivered_and_first_in_order(seed: int, latest: bool):
    dice = random.Random(seed)
    stream, function, homes = Moody(dice), behaviour(dice), dict[int, str]()
    async with MemoryStore().open() as memory, anyio.create_task_group() as tasks:
        store = MoodyStore(memory, dice)
        policy: dict[str, Any] = {"start": Latest() if latest else TrimHorizon()}
        policy |= {"batch_size": dice.choice([1, 10, 100]), "window": dice.choice([0.0, 0.0, 5.0])}
        await anyio.sleep(5)
        with anyio.move_on_after(20):
            await live(World(stream, function, store, **policy))
        tasks.start_soon(produce, stream, homes)
        began = now()
        while now() < began + 900:
            world = World(stream, function, store, **policy)
            with anyio.move_on_after(dice.choice([0.05, 1, 7, 30, 120])):  # killed, unless it has stopped before
                async with anyio.create_task_group() as lives:
                    lives.start_soon(live, world)
                    await anyio.sleep(dice.random() * 100)
                    world.stop.set()
            assert not world.told(RecordsDropped)
            await check_checkpoints(memory, function, homes)
        stream.calm = store.calm = True
        function.behave = lambda call: Replied()
        function.seconds = 0.02
        with anyio.move_on_after(600):
            await live(World(stream, function, store, **policy))
    assert sorted(set(function.succeeded)) == sorted(homes)
    firsts = list(dict.fromkeys(function.succeeded))
    for shard in stream.shards:
        mine = [each for each in firsts if homes[each] == shard]
        assert mine == sorted(mine)
        if mine:
            older = [firsts.index(each) for each in firsts if homes[each] in ancestors(stream, shard)]
            assert max(older, default=-1) < firsts.index(mine[0])


async def check_checkpoints(store: Store, function: FakeFunction, homes: dict[int, str]) -> None:
    """Nothing below a checkpoint is unprocessed."""
    done = set(function.succeeded)
    async for key, row in store.scan("m/"):
        if "/shard-" in key:
            shard, stored = key.rpartition("/")[2], decode_shard(row.value)
            upto = int(stored.position.sequence) if isinstance(stored.position, After) else 0
            assert not {each for each, home in homes.items() if home == shard and each <= upto} - done
            if stored.ended:
                assert not {each for each, home in homes.items() if home == shard} - done
