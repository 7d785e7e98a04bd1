"""Days in the life of a stream, in virtual time: DynamoDB's shards that come and go, and a function that only fails."""

import gc

import anyio

from poller.model.errors import Transient
from poller.model.facts import BatchInvoked, CheckpointWritten, Fact, MappingProblem, RecordsDropped, ShardMoved
from poller.model.outcome import Failed
from poller.model.ports import Store
from poller.model.record import Record
from poller.service.board import MappingView
from poller.service.observers import Observers
from poller.service.standing import Standing
from poller.stores.memory import MemoryStore
from tests.pipeline.doubles import HOUR, FakeFunction, FakeStream, Shard, now, until, virtual, world

GENERATIONS = 18
"""Of four hours each: three days."""


async def keys(store: Store) -> list[str]:
    return [key.rpartition("/")[2] async for key, _ in store.scan("m/") if "/shard-" in key]


class Rolling(FakeStream):
    """Two lines of shards; each ends after four hours and has one child. A day after its end a shard is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.shards = {"shard-a-0": Shard(), "shard-b-0": Shard()}

    async def roll(self, generation: int) -> None:
        for _ in range(16):
            await anyio.sleep(HOUR / 4)
            for line in "ab":
                self.put(f"shard-{line}-{generation}", 3)
        for line in "ab":
            self.split(f"shard-{line}-{generation}", f"shard-{line}-{generation + 1}")
            gone = self.shards.pop(f"shard-{line}-{generation - 6}", None)
            assert gone is None or gone.closed


@virtual
async def test_shards_that_end_every_four_hours_and_vanish_after_a_day_leave_nothing_behind_for_three_days():
    stream, function, observers = Rolling(), FakeFunction(), Observers(now)
    observers.board.configured([MappingView(name="m", uuid="", configuration={}, enabled=True)])
    held: list[tuple[int, int, int]] = []
    async with MemoryStore().open() as store, world(stream, function, store, poll_interval=300) as mapping:
        for generation in range(GENERATIONS):
            await stream.roll(generation)
            await anyio.sleep(300)
            for fact in mapping.facts:
                observers.observe(fact)
            gc.collect()
            objects = sum(isinstance(each, Record | Shard | ShardMoved) for each in gc.get_objects())
            standings = sum(isinstance(each, Standing) for each in gc.get_objects())
            held.append((len(await keys(store)), standings, objects))
            assert mapping.told(RecordsDropped) == []
            moved = mapping.told(ShardMoved)
            mapping.facts.clear()
        assert {fact.to for fact in moved} - {"blocked_on_parent"} == {"owned", "ended", "forgotten"}
    for line in (1, 0):
        mine = [each for each in function.succeeded if (each - 1) // 3 % 2 == line]
        assert mine == sorted(mine)
    assert len(function.succeeded) == GENERATIONS * 16 * 2 * 3
    assert held[-1][0] <= 16
    assert held[-1] == held[8], f"what is held does not grow: {held}"


@virtual
async def test_after_a_restart_a_child_goes_on_at_once_though_its_parents_row_is_gone():
    stream, function = FakeStream(), FakeFunction()
    stream.put("shard-0", 2)
    stream.split("shard-0", "shard-1")
    stream.put("shard-1", 2)
    async with MemoryStore().open() as store:
        async with world(stream, function, store) as mapping:
            await until(lambda: function.succeeded == [1, 2, 3, 4])
            stream.shards["shard-0"].listed = False
            await until(
                lambda: [fact.shard for fact in mapping.told(ShardMoved) if fact.to == "forgotten"] != [], within=300
            )
        assert await keys(store) == ["shard-1"]
        stream.put("shard-1", 1)
        async with world(stream, function, store) as again:
            await until(lambda: function.succeeded == [1, 2, 3, 4, 5], within=2)
    assert not [fact for fact in again.told(ShardMoved) if fact.to == "blocked_on_parent"]


@virtual
async def test_one_listing_without_a_shard_and_then_failing_ones_prove_nothing():
    stream, function = FakeStream(), FakeFunction()
    stream.shards = {"shard-a": Shard(), "shard-b": Shard(closed=True)}
    stream.put("shard-a", 2)
    stream.put("shard-b", 2)
    async with MemoryStore().open() as store:
        async with world(stream, function, store):
            await until(lambda: len(function.succeeded) == 4)
            await anyio.sleep(5)
        for shard in stream.shards.values():
            shard.listed = False
        async with world(stream, function, store) as mapping:
            await anyio.sleep(0.5)
            stream.listing_failures = [Transient("torn")] * 12
            await until(lambda: not stream.listing_failures, within=900)
            assert len(mapping.told(MappingProblem)) == 12
            assert not mapping.told(RecordsDropped)
            assert await keys(store) == ["shard-a", "shard-b"]
            for shard in stream.shards.values():
                shard.listed = True
            stream.put("shard-a", 1)
            await until(lambda: len(function.succeeded) == 5, within=130)
    assert len(set(function.succeeded)) == 5


@virtual
async def test_a_day_of_failures_holds_no_more_in_the_evening_than_in_the_morning_and_writes_once_an_invocation():
    stream, function = FakeStream(retention=48 * HOUR), FakeFunction(lambda call: Failed(reason="Boom"))
    stream.put("shard-0", 50)
    held: list[int] = []
    async with world(stream, function, poll_interval=300) as mapping:
        calls, writes = 0, 0
        for _ in range(24):
            await anyio.sleep(HOUR)
            calls += len(mapping.told(BatchInvoked))
            writes += len(mapping.told(CheckpointWritten))
            mapping.facts.clear()
            function.calls.clear()
            gc.collect()
            held.append(len([each for each in gc.get_objects() if not isinstance(each, Fact)]))
    assert calls <= 24 * 60 + 12, "one for each step of the back-off"
    assert writes <= calls + 1, "one for each invocation, and one that made the row"
    assert max(held[12:]) - held[2] < 200
