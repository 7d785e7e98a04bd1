"""Work beside the daemon: a past range delivered again, and a look at what would be sent. In virtual time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import anyio

from poller.mapping.run import run_mapping
from poller.model.facts import ShardMoved
from poller.model.ports import Row, Store
from poller.model.record import At
from poller.sources.around import Range, Untouched
from poller.stores.memory import MemoryStore
from poller.stores.overlay import Apart, ReadOnly
from tests.pipeline.doubles import FakeFunction, FakeQueue, FakeStream, World, until, virtual


class Replay(World):
    """A mapping that delivers a span again, with rows of its own."""

    def __init__(self, stream: FakeStream, function: FakeFunction, store: Store, span: tuple[float, float]) -> None:
        self.range = Range(stream, since=span[0], until=span[1])
        super().__init__(self.range, function, Apart(store, "@replay/j/"), start=At(span[0]))

    @property
    def done(self) -> bool:
        ended = {fact.shard for fact in self.told(ShardMoved) if fact.to == "ended"}
        return bool(self.range.shards) and self.range.shards <= ended


@virtual
async def test_a_replay_delivers_its_span_once_in_order_over_a_split_and_leaves_the_checkpoint_where_it_is():
    async with MemoryStore().open() as store:
        stream = FakeStream(page=7)
        times: dict[int, float] = {}
        for shard in ("shard-0", "a", "b"):
            if shard == "a":
                stream.split("shard-0", "a", "b")
            for _ in range(60):
                times |= {int(each.id): each.arrived for each in stream.put(shard)}
                await anyio.sleep(1)
        span = (times[30], times[150])
        wanted = [number for number, at in times.items() if span[0] <= at < span[1]]
        real = FakeFunction()
        async with World(stream, real, store).running():
            await until(lambda: len(real.succeeded) == 180)
        before = await rows(store, "m/")
        function = FakeFunction(seconds=0.2)
        first = Replay(stream, function, store, span)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_mapping, first.tools)
            await until(lambda: len(function.succeeded) >= 40)
            tasks.cancel_scope.cancel()  # as SIGKILL
        halfway = len(function.succeeded)
        assert halfway < len(wanted)
        again = Replay(stream, function, store, span)
        again.tools = replace(again.tools, fleet=first.tools.fleet)
        async with again.running():
            await until(lambda: again.done or (await_ended(again, first)))
        counts = Counter(function.succeeded)
        assert set(counts) == set(wanted)
        assert sum(counts.values()) - len(wanted) <= 7
        parent = [number for number in function.succeeded if number <= 60]
        children = [place for place, number in enumerate(function.succeeded) if number > 60]
        assert sorted(set(parent)) == list(dict.fromkeys(parent))
        assert min(children) >= len(set(parent))
        assert await rows(store, "m/") == before


def await_ended(*replays: Replay) -> bool:
    ended = {fact.shard for each in replays for fact in each.told(ShardMoved) if fact.to == "ended"}
    return replays[0].range.shards <= ended and bool(replays[0].range.shards)


async def rows(store: Store, folder: str) -> dict[str, Row]:
    return {key: row async for key, row in store.scan(folder)}


@virtual
async def test_a_dry_run_begins_at_the_stored_position_and_stores_nothing():
    async with MemoryStore().open() as store:
        stream = FakeStream()
        stream.put("shard-0", 5)
        real = FakeFunction()
        async with World(stream, real, store).running():
            await until(lambda: len(real.succeeded) == 5)
        before = await rows(store, "m/")
        stream.put("shard-0", 3)
        shown = FakeFunction()
        async with World(Untouched(stream), shown, ReadOnly(store)).running():
            await until(lambda: len(shown.succeeded) == 3)
            stream.put("shard-0", 2)
            await until(lambda: len(shown.succeeded) == 5)
        assert shown.succeeded == [6, 7, 8, 9, 10]
        assert await rows(store, "m/") == before


@virtual
async def test_a_dry_run_of_a_queue_deletes_nothing_shows_each_message_once_and_gives_all_back():
    async with MemoryStore().open() as store:
        queue, shown = FakeQueue(visibility=20), FakeFunction()
        queue.put(25)
        untouched = Untouched(queue)
        async with World(untouched, shown, ReadOnly(store), batch_size=10).running():
            await anyio.sleep(90)
        assert sorted(shown.succeeded) == list(range(1, 26))
        assert not queue.deleted
        await untouched.give_back()
        assert not queue.hidden
        assert len(queue.messages) == 25
