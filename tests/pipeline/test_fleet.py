"""Replicas of one mapping: who has which shard, and when it changes hands. In virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from poller.model.facts import MemberMoved, SelfFenced, ShardMoved, ShardPassed
from poller.model.outcome import Refused, Replied
from poller.model.policy import Scaling
from poller.model.ports import Store
from poller.stores.memory import MemoryStore
from tests.pipeline.doubles import FakeFunction, FakeQueue, FakeStream, Shard, until, virtual
from tests.pipeline.replicas import Replica, running


def a_stream(shards: int) -> FakeStream:
    stream = FakeStream()
    stream.shards = {f"shard-{number:03}": Shard() for number in range(shards)}
    return stream


class Scene:
    """A stream, a function, a store, and replicas that come and go."""

    def __init__(self, store: Store, *, shards: int = 6, **policy: Any) -> None:
        self.store = store
        self.stream = a_stream(shards)
        self.function = FakeFunction()
        self.invocations: list[tuple[float, str]] = []
        self.policy = policy

    def replica(self, name: str, **more: Any) -> Replica:
        return Replica(name, self.stream, self.function, self.store, self.invocations, **more, **self.policy)

    async def feed(self, every: float = 0.1) -> None:
        """One record for each shard, again and again."""
        while True:
            for name in list(self.stream.shards):
                if not self.stream.shards[name].closed:
                    self.stream.put(name)
            await anyio.sleep(every)

    @asynccontextmanager
    async def fed(self) -> AsyncIterator[anyio.CancelScope]:
        """Feed while the block runs, or until the scope that it is given is cancelled: the block itself goes on."""
        feeding = anyio.CancelScope()

        async def feed() -> None:
            with feeding:
                await self.feed()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed)
            yield feeding
            feeding.cancel()

    @property
    def duplicates(self) -> int:
        return sum(count - 1 for count in Counter(self.function.succeeded).values())

    @property
    def lost(self) -> set[int]:
        return set(range(1, self.stream.written + 1)) - set(self.function.succeeded)


@virtual
async def test_replicas_share_the_shards_fairly_and_each_shard_has_one_owner():
    async with MemoryStore().open() as store:
        scene = Scene(store, shards=7)
        a, b, c = (scene.replica(name) for name in "abc")
        async with running(a, b, c):
            await until(lambda: sorted(map(len, (a.owned, b.owned, c.owned))) == [2, 2, 3])
            await anyio.sleep(120)
            assert sorted(map(len, (a.owned, b.owned, c.owned))) == [2, 2, 3]
            assert not a.owned & b.owned
            assert not b.owned & c.owned


@virtual
async def test_a_replica_that_leaves_hands_its_shards_over_within_a_second_and_nothing_twice():
    async with MemoryStore().open() as store:
        scene = Scene(store, shards=6)
        a, b, c = (scene.replica(name) for name in "abc")
        async with running(a, b, c), scene.fed() as feeding:
            await until(lambda: sorted(map(len, (a.owned, b.owned, c.owned))) == [2, 2, 2])
            await anyio.sleep(30)
            await a.leave()
            await until(lambda: len(b.owned) + len(c.owned) == 6, within=0.5)
            await anyio.sleep(5)
            feeding.cancel()
            await until(lambda: not scene.lost)
            assert scene.duplicates == 0
            assert not b.told(MemberMoved)[-1].fenced


@virtual
async def test_shards_of_a_replica_that_crashed_are_owned_again_within_ten_seconds():
    async with MemoryStore().open() as store:
        scene = Scene(store, shards=6)
        a, b = scene.replica("a"), scene.replica("b")
        async with running(a, b), scene.fed() as feeding:
            await until(lambda: len(a.owned) == len(b.owned) == 3)
            await anyio.sleep(30)
            a.kill()
            await until(lambda: len(b.owned) == 6, within=10)
            feeding.cancel()
            await until(lambda: not scene.lost)


@virtual
async def test_a_replica_that_comes_back_under_its_name_has_its_shards_at_once():
    async with MemoryStore().open() as store:
        scene = Scene(store, shards=6)
        a, b = scene.replica("a"), scene.replica("b")
        again = scene.replica("a", boot="another")
        async with running(a, b):
            await until(lambda: len(a.owned) == len(b.owned) == 3)
            await anyio.sleep(30)
            before = a.owned
            a.kill()
            async with running(again):
                await until(lambda: again.owned == before, within=2)


@virtual
async def test_a_replica_that_stood_still_writes_nothing_over_its_successors():
    async with MemoryStore().open() as store:
        scene = Scene(store, shards=4)
        a, b = scene.replica("a"), scene.replica("b")
        async with running(a, b), scene.fed() as feeding:
            await until(lambda: len(a.owned) == len(b.owned) == 2)
            await anyio.sleep(30)
            a.freeze()
            await until(lambda: len(b.owned) == 4, within=10)
            await anyio.sleep(5)
            thawed = anyio.current_time()
            a.thaw()
            await until(lambda: len(b.owned) == 2, within=120)
            await anyio.sleep(10)
            assert a.told(SelfFenced)
            assert [fact.how for fact in a.told(ShardPassed)].count("lost") == 2
            begun = [at for at, name in scene.invocations if name == "a" and at > thawed]
            assert begun[0] - thawed > 1.0  # not before it has heard how things stand
            feeding.cancel()
            await until(lambda: not scene.lost)


@virtual
async def test_a_replica_that_is_cut_off_stops_invoking_before_the_others_take_its_shards():
    async with MemoryStore().open() as store:
        scene = Scene(store, shards=2)
        a, b = scene.replica("a"), scene.replica("b")
        async with running(a, b), scene.fed() as feeding:
            await until(lambda: len(a.owned) == len(b.owned) == 1)
            await anyio.sleep(30)
            a.reach.cut = True
            await until(lambda: len(b.owned) == 2, within=10)
            taken = anyio.current_time()
            last = max(at for at, name in scene.invocations if name == "a")
            assert taken - last > 0.5
            await anyio.sleep(20)
            assert max(at for at, name in scene.invocations if name == "a") == last
            feeding.cancel()


@virtual
async def test_while_the_store_is_away_streams_pause_and_go_on_without_a_duplicate():
    async with MemoryStore().open() as store:
        scene = Scene(store, shards=4)
        a, b = scene.replica("a"), scene.replica("b")
        async with running(a, b), scene.fed() as feeding:
            await until(lambda: len(a.owned) == len(b.owned) == 2)
            await anyio.sleep(30)
            a.reach.cut = b.reach.cut = True
            await anyio.sleep(300)
            before = len(scene.invocations)
            await anyio.sleep(60)
            assert len(scene.invocations) == before
            a.reach.cut = b.reach.cut = False
            feeding.cancel()
            await until(lambda: not scene.lost)
            assert scene.duplicates == 0
            assert not [fact for fact in a.told(MemberMoved) + b.told(MemberMoved) if fact.fenced]


@virtual
async def test_an_eleventh_replica_is_given_its_share_of_a_thousand_shards_and_no_shard_moves_twice():
    async with MemoryStore().open() as store:
        scene = Scene(store, shards=1000, poll_interval=30.0)
        ten = [scene.replica(f"r{number:02}") for number in range(10)]
        eleventh = scene.replica("r10")
        async with running(*ten):
            await until(lambda: sum(len(each.owned) for each in ten) == 1000, within=60)
            await until(lambda: max(len(each.owned) for each in ten) <= 101, within=120)
            await anyio.sleep(60)
            before = {each.name: len(each.told(ShardPassed)) for each in ten}
            async with running(eleventh):
                await until(lambda: 90 <= len(eleventh.owned) <= 91, within=60)
                await anyio.sleep(90)
                moved = [
                    fact.shard
                    for each in ten
                    for fact in each.told(ShardPassed)[before[each.name] :]
                    if fact.how == "handed_over"
                ]
                assert len(moved) <= 91
                assert len(set(moved)) == len(moved)
                assert min(len(each.owned) for each in [*ten, eleventh]) >= 90


@virtual
async def test_children_start_on_whichever_replica_after_the_last_record_of_their_parents():
    async with MemoryStore().open() as store:
        scene = Scene(store, shards=2)
        a, b = scene.replica("a"), scene.replica("b")
        async with running(a, b):
            await until(lambda: len(a.owned) == len(b.owned) == 1)
            scene.stream.put("shard-000", 50)
            scene.stream.put("shard-001", 50)
            scene.stream.shards["shard-000"].closed = scene.stream.shards["shard-001"].closed = True
            scene.stream.shards["child"] = Shard(parents=("shard-000", "shard-001"))
            scene.stream.put("child", 5)
            await until(lambda: not scene.lost, within=200)
            assert scene.function.succeeded[-5:] == list(range(101, 106))
            assert scene.duplicates == 0
            await until(lambda: len(a.owned | b.owned) == 1, within=5)


@virtual
async def test_idle_shards_cost_no_write_but_the_beats():
    async with MemoryStore().open() as store:
        scene = Scene(store, shards=100)
        fleet = [scene.replica(f"r{number}") for number in range(5)]
        async with running(*fleet):
            await until(lambda: sum(len(each.owned) for each in fleet) == 100, within=60)
            await anyio.sleep(60)
            before = sum(len(each.reach.puts) for each in fleet)
            await anyio.sleep(100)
            assert sum(len(each.reach.puts) for each in fleet) - before <= 100 * 5


@virtual
async def test_a_busy_shard_is_written_no_more_often_than_the_stores_pace():
    async with MemoryStore().open() as store:
        scene = Scene(store, shards=4)
        a, b = scene.replica("a", pace=5.0), scene.replica("b", pace=5.0)
        async with running(a, b), scene.fed() as feeding:
            await until(lambda: len(a.owned) == len(b.owned) == 2)
            await anyio.sleep(30)
            before = sum("shard" in key for each in (a, b) for key in each.reach.puts)
            await anyio.sleep(100)
            assert sum("shard" in key for each in (a, b) for key in each.reach.puts) - before <= 4 * 100 / 5
            await b.leave()
            await anyio.sleep(10)
            feeding.cancel()
            await until(lambda: not scene.lost)
            assert scene.duplicates == 0


class QueueScene(Scene):
    """A queue, a slow function, and replicas that share a MaximumConcurrency."""

    def __init__(self, store: Store, *, total: int) -> None:
        super().__init__(store, scaling=Scaling(start=5, most=total, total=total), batch_size=1)
        self.queue = FakeQueue()
        self.function.seconds = 2.0

    def replica(self, name: str, **more: Any) -> Replica:
        return Replica(name, self.queue, self.function, self.store, self.invocations, **more, **self.policy)


@virtual
async def test_replicas_share_a_maximum_concurrency_and_never_exceed_it():
    async with MemoryStore().open() as store:
        scene = QueueScene(store, total=6)
        scene.queue.put(2000)
        a, b, c = (scene.replica(name) for name in "abc")
        async with running(a):
            await until(lambda: scene.function.running == 6)
            async with running(b, c):
                await anyio.sleep(60)
                late = [name for at, name in scene.invocations if at > 30]
                assert {name: late.count(name) > 20 for name in "abc"} == {"a": True, "b": True, "c": True}
                await c.leave()
                b.kill()
                await anyio.sleep(30)
                assert scene.function.running == 6
        assert scene.function.most_running == 6


@virtual
async def test_shards_that_end_and_leave_the_stream_at_one_replica_are_told_so_by_the_others_too():
    async with MemoryStore().open() as store:
        scene = Scene(store, shards=2)
        a, b = scene.replica("a"), scene.replica("b")

        def last(replica: Replica) -> dict[str, tuple[str, str]]:
            return {fact.shard: (fact.to, fact.owner) for fact in replica.told(ShardMoved)}

        async with running(a, b):
            await until(lambda: len(a.owned) == len(b.owned) == 1)
            await until(lambda: last(b).get(next(iter(a.owned))) == ("elsewhere", "a"))
            parent = next(iter(a.owned))
            other = next(iter(b.owned))
            scene.stream.put(parent, 3)
            scene.stream.split(parent, "child")
            await until(lambda: last(b)[parent] == ("ended", "a"), within=90)
            await until(lambda: "child" in a.owned | b.owned, within=90)
            scene.stream.shards[parent].listed = False
            await until(lambda: last(a)[parent][0] == last(b)[parent][0] == "forgotten", within=400)
            assert other in b.owned


@virtual
async def test_a_child_that_another_replica_took_and_ended_at_once_does_not_wait_for_its_parent_any_more():
    async with MemoryStore().open() as store:
        scene = Scene(store, shards=2)
        a, b = scene.replica("a"), scene.replica("b")
        scene.function.behave = lambda call: Refused(reason="not yet")

        def last(replica: Replica) -> dict[str, str]:
            return {fact.shard: fact.to for fact in replica.told(ShardMoved)}

        async with running(a, b):
            await until(lambda: len(a.owned) == len(b.owned) == 1)
            (parent,) = a.owned
            scene.stream.put(parent)
            scene.stream.split(parent, "child")
            scene.stream.split("child")
            waits = {"blocked_on_parent"}
            await until(lambda: {last(each).get("child", "") for each in (a, b)} == waits, within=90)
            scene.function.behave = lambda call: Replied(body=b"null")
            await until(lambda: {last(each)["child"] for each in (a, b)} == {"ended"}, within=180)
