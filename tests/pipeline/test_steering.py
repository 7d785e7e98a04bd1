"""Operators pause and move shards of three replicas under load, and a replica crashes half-way. In virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import anyio
import pytest

from poller.mapping import row, steer
from poller.mapping.steer import Pause, Seek
from poller.mapping.wishes import wish
from poller.model.facts import RecordsDropped, ShardSought, ShardStands
from poller.model.outcome import Failed, Refused
from poller.model.ports import Row, Store
from poller.model.record import After, At, From, Position, TrimHorizon
from poller.service.board import MappingView
from poller.service.observers import Observers
from poller.stores.memory import MemoryStore
from tests.pipeline.doubles import FakeFunction, FakeQueue, FakeStream, StoreAround, World, now, until, virtual
from tests.pipeline.replicas import Replica, running
from tests.pipeline.test_fleet import Scene

_PREFIX = row.prefix("m", "arn:aws:kinesis:eu-west-1:123456789012:stream/s", "created-1")


@dataclass
class Drill:
    """Three replicas under load."""

    scene: Scene
    fleet: tuple[Replica, Replica, Replica]
    feeding: anyio.CancelScope

    def records(self, *, since: float = 0.0, before: float = float("inf")) -> set[int]:
        """Those that arrived in a span of time."""
        return {
            int(each.id)
            for shard in self.scene.stream.shards.values()
            for each in shard.records
            if since <= each.arrived < before
        }

    def counts(self) -> Counter[int]:
        """How often the function succeeded with each record."""
        return Counter(self.scene.function.succeeded)

    def sought(self) -> Counter[str]:
        """How often each shard was moved."""
        return Counter(fact.shard for each in self.fleet for fact in each.told(ShardSought))

    async def rows(self) -> dict[str, row.ShardRow]:
        found = [each async for each in self.scene.store.scan(f"{_PREFIX}/")]
        return {key.removeprefix(f"{_PREFIX}/"): row.decode_shard(stored.value) for key, stored in found}

    async def wishes(self) -> steer.Wishes:
        stored = await self.scene.store.get(steer.key("m"))
        return steer.decode(stored.value) if stored else steer.Wishes()

    async def seek(self, to: Position, shards: Sequence[str] = (), **more: Any) -> None:
        """Wish it, as the process that takes the order does."""
        wished = Seek(
            serial=0,
            stream=_PREFIX,
            shards=tuple(shards or self.scene.stream.shards),
            to=to,
            asked="there",
            who="ann",
            at=now(),
            **more,
        )
        await wish(self.scene.store, "m", lambda wishes: steer.sought(wishes, wished, above=0))
        self.fleet[0].fleet.ring()

    async def pause(self, shard: str = "") -> None:
        await wish(self.scene.store, "m", lambda wishes: steer.pause(wishes, shard, Pause("ann", now())))
        self.fleet[0].fleet.ring()

    async def resume(self, shard: str = "") -> None:
        await wish(self.scene.store, "m", lambda wishes: steer.resume(wishes, shard))
        self.fleet[0].fleet.ring()

    async def crash_when(self, moved: int) -> None:
        """Kill a replica when so many shards have moved; one that still has to move a shard, where there is one."""
        await until(lambda: sum(self.sought().values()) >= moved)
        dying = max(self.fleet, key=lambda each: len(each.owned - self.sought().keys()))
        assert len(self.sought()) < len(self.scene.stream.shards), "that is not half-way"
        dying.kill()

    async def finish(self, *, within: float = 60.0) -> None:
        """No more load; every record has been delivered."""
        self.feeding.cancel()
        with anyio.fail_after(within):
            while self.scene.lost:
                await anyio.sleep(0.5)


@asynccontextmanager
async def drill(*, shards: int = 6, **policy: Any) -> AsyncIterator[Drill]:
    async with MemoryStore().open() as store:
        scene = Scene(store, shards=shards, **policy)
        a, b, c = (scene.replica(name) for name in "abc")
        feeding = anyio.CancelScope()

        async def feed() -> None:
            with feeding:  # a scope around the test itself would end it with the load
                await scene.feed()

        async with anyio.create_task_group() as tasks:
            for replica in (a, b, c):  # that do not look at the same moments
                tasks.start_soon(replica.run)
                await anyio.sleep(0.3)
            tasks.start_soon(feed)
            await until(lambda: sorted(map(len, (a.owned, b.owned, c.owned))) == [2, 2, 2])
            await anyio.sleep(15)
            yield Drill(scene, (a, b, c), feeding)
            tasks.cancel_scope.cancel()


@virtual
async def test_a_paused_mapping_delivers_nothing_on_any_replica_and_goes_on_without_a_loss_or_a_duplicate():
    async with drill() as play:
        await play.pause()
        await anyio.sleep(3)
        quiet = len(play.scene.invocations)
        await anyio.sleep(40)
        assert len(play.scene.invocations) == quiet
        await play.resume()
        await anyio.sleep(10)
        await play.finish()
        assert play.scene.duplicates == 0
        assert (await play.wishes()).paused is None


@virtual
async def test_a_pause_outlives_the_crash_of_replicas_and_their_restart():
    async with drill() as play:
        a, b, _ = play.fleet
        await play.pause()
        b.kill()
        await anyio.sleep(30)
        again = play.scene.replica("b", boot="another")
        async with running(again):
            a.kill()
            await anyio.sleep(60)
            quiet = [at for at, _ in play.scene.invocations if at > anyio.current_time() - 85]
            assert not quiet
            await wish(play.scene.store, "m", lambda wishes: steer.resume(wishes, ""))
            again.fleet.ring()
            await anyio.sleep(30)
            await play.finish()
            repeated = [record for record, count in play.counts().items() if count > 1]
            assert len(repeated) <= 4  # what was in flight in the two shards of each that crashed


@virtual
async def test_a_paused_shard_is_one_shard_and_its_age_grows_all_the_while():
    async with drill() as play:
        await play.pause("shard-003")
        await anyio.sleep(3)
        paused_at = now()
        done = len(play.scene.function.succeeded)
        others = {int(r.id) for name, s in play.scene.stream.shards.items() if name != "shard-003" for r in s.records}
        await anyio.sleep(60)
        assert len(play.scene.function.succeeded) > done + 5 * 580
        mine = {int(each.id) for each in play.scene.stream.shards["shard-003"].records if each.arrived > paused_at}
        assert not mine & set(play.scene.function.succeeded)
        assert others <= set(play.scene.function.succeeded)
        observers = Observers(now)
        observers.board.configured([MappingView(name="m", uuid="", configuration={}, enabled=True)])
        (owner,) = (each for each in play.fleet if "shard-003" in each.owned)
        for fact in owner.facts:
            observers.observe(fact)
        (age,) = (
            each["iterator_age_seconds"]
            for each in observers.board.document()[0]["shards"]
            if each["id"] == "shard-003"
        )
        assert age is not None
        assert age > 60
        await play.resume("shard-003")
        await play.finish()
        assert play.scene.duplicates == 0


@virtual
@pytest.mark.parametrize("moved", [0, 2, 4], ids=lambda moved: f"{moved} of 6 have moved")
async def test_a_seek_back_delivers_the_range_asked_for_again_and_nothing_else_though_a_replica_crashes(moved: int):
    async with drill() as play:
        moment = now() - 12.0
        await play.seek(At(moment), reopens=True)
        ordered = now()
        await play.crash_when(moved)
        await until(lambda: len(play.sought()) == 6)
        obeyed = now()
        await anyio.sleep(10)
        await play.finish()
        await anyio.sleep(25)
        counts = play.counts()
        assert {counts[record] for record in play.records(before=moment)} == {1}
        assert min(counts[record] for record in play.records(since=moment, before=ordered - 1)) == 2
        assert sum(counts[each] - 2 for each in play.records(since=moment, before=ordered - 1)) <= 2
        assert sum(counts[each] - 1 for each in play.records(since=obeyed + 0.5)) == 0
        assert max(play.sought().values()) == 1
        assert {each.steered for each in (await play.rows()).values()} == {1}
        assert not (await play.wishes()).seeks


@virtual
async def test_an_order_whose_taker_crashed_before_it_told_anybody_is_obeyed_all_the_same():
    async with drill() as play:
        moment = now() - 5.0
        a, b, c = play.fleet
        await wish(
            play.scene.store,
            "m",
            lambda wishes: steer.sought(
                wishes,
                Seek(
                    serial=0,
                    stream=_PREFIX,
                    shards=tuple(play.scene.stream.shards),
                    to=At(moment),
                    asked="there",
                    who="ann",
                    at=now(),
                ),
                above=0,
            ),
        )
        a.kill()
        await anyio.sleep(40)
        await play.finish()
        assert sum(play.sought().values()) == 6
        assert {fact.who for each in (b, c) for fact in each.told(ShardSought)} == {"ann"}
        assert min(play.counts()[record] for record in play.records(since=moment, before=moment + 4)) == 2


@virtual
async def test_a_seek_to_latest_passes_over_what_waits_and_nothing_that_comes_later_though_a_replica_crashes():
    async with drill() as play:
        play.scene.function.behave = lambda call: Failed(reason="down", error="Unhandled")
        await anyio.sleep(30)
        moment = now()
        await play.seek(At(moment), forward=True)
        await play.crash_when(4)
        play.scene.function.behave = FakeFunction().behave
        await anyio.sleep(40)
        play.feeding.cancel()
        await until(lambda: play.records(since=moment) <= set(play.scene.function.succeeded))
        await anyio.sleep(10)
        skipped = play.records(before=moment) - set(play.scene.function.succeeded)
        assert len(skipped) > 6 * 280
        assert sum(count - 1 for count in play.counts().values()) <= 2
        told = [fact for each in play.fleet for fact in each.told(ShardSought)]
        assert len(told) == 6
        assert all(fact.before != fact.after for fact in told)
        assert not [fact for each in play.fleet for fact in each.told(RecordsDropped)]


@virtual
async def test_a_shard_that_left_the_stream_before_it_obeyed_disturbs_no_other():
    async with MemoryStore().open() as store:
        scene = Scene(store, shards=2)
        (a,) = fleet = (scene.replica("a"),)
        async with running(a):
            await until(lambda: len(a.owned) == 2)
            play = Drill(scene, (*fleet, a, a), anyio.CancelScope())
            scene.stream.shards["shard-000"].listed = False
            await play.seek(At(now() - 1), forward=True)
            await anyio.sleep(1)
            scene.stream.put("shard-001", 3)
            await until(lambda: not scene.lost)
            await anyio.sleep(60)
            assert (await play.rows())["shard-000"].ended
            assert not (await play.wishes()).seeks


@virtual
async def test_a_shard_that_has_caught_up_stays_where_it_is_under_latest():
    async with drill() as play:
        await play.seek(At(now() - 0.9), forward=True)
        await anyio.sleep(10)
        await play.finish()
        assert play.scene.duplicates == 0
        assert sum(play.sought().values()) == 6


@virtual
async def test_a_poison_record_is_sought_past_and_only_it_is_passed_over():
    async with drill(batch_size=1) as play:
        (poison,) = play.scene.stream.put("shard-004")
        number = int(poison.id)
        play.scene.function.behave = lambda call: (
            Failed(reason="poison", error="Unhandled") if number in call.sequences else FakeFunction().behave(call)
        )
        await anyio.sleep(20)
        assert number not in play.scene.function.succeeded
        await play.pause("shard-004")
        await play.seek(After(poison.id), ["shard-004"])
        await anyio.sleep(5)
        assert (await play.rows())["shard-004"].position == After(poison.id)
        await play.resume("shard-004")
        await anyio.sleep(5)
        play.feeding.cancel()
        await anyio.sleep(10)
        assert play.scene.lost == {number}
        assert play.scene.duplicates == 0


@virtual
async def test_a_seek_to_a_record_of_one_shard_moves_no_other():
    async with drill() as play:
        target = play.scene.stream.shards["shard-001"].records[50]
        await play.seek(From(target.id), ["shard-001"])
        await anyio.sleep(10)
        await play.finish()
        again = {
            int(each.id) for each in play.scene.stream.shards["shard-001"].records if int(each.id) >= int(target.id)
        }
        assert {record for record, count in play.counts().items() if count > 1} <= again
        assert {play.counts()[int(target.id) + step] for step in (0, 6, 12)} == {2}
        assert play.sought() == {"shard-001": 1}


@virtual
@pytest.mark.parametrize("moved", [1, 6, 12], ids=lambda moved: f"{moved} of 18 have moved")
async def test_a_seek_back_over_a_split_reads_the_parents_again_and_then_their_children(moved: int):
    async with drill() as play:
        stream = play.scene.stream
        for number in range(6):
            stream.split(f"shard-{number:03}", f"child-{number}-a", f"child-{number}-b")
        await anyio.sleep(40)
        first = len(play.scene.function.succeeded)
        await play.seek(TrimHorizon(), reopens=True)
        ordered = now()
        await play.crash_when(moved)
        await anyio.sleep(100)
        await play.finish()
        again = play.scene.function.succeeded[first:]
        counts = play.counts()
        assert set(counts.values()) <= {1, 2, 3}
        assert min(counts[each] for each in play.records(before=ordered - 1)) == 2
        assert sum(count - 2 for count in counts.values() if count > 2) <= 8
        seen = Counter(play.scene.function.succeeded[:first])
        for number in range(6):
            parent = {int(each.id) for each in stream.shards[f"shard-{number:03}"].records}
            children = {int(each.id) for end in "ab" for each in stream.shards[f"child-{number}-{end}"].records}
            last_of_parent = max(place for place, each in enumerate(again) if each in parent)
            repeated = [place for place, each in enumerate(again) if each in children and counts[each] > 1]
            assert all(seen[again[place]] == 0 or place > last_of_parent for place in repeated)
        assert all(each.ended for name, each in (await play.rows()).items() if name.startswith("shard"))
        assert not (await play.wishes()).seeks


@virtual
async def test_wishes_cost_no_read_but_the_rare_looks_while_there_are_none():
    async with MemoryStore().open() as store:
        scene = Scene(store, shards=6)
        asked = _Asked(store)
        scene.store = asked
        fleet = [scene.replica(name) for name in "abc"]
        async with running(*fleet):
            await anyio.sleep(60)
            asked.keys.clear()
            await anyio.sleep(100)
            assert len([key for key in asked.keys if key.startswith(steer.FOLDER)]) <= 3 * 100 / 20


class _Asked(StoreAround):
    """A store that notes what it is asked for."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.keys: list[str] = []

    async def get(self, key: str) -> Row | None:
        self.keys.append(key)
        return await super().get(key)


@virtual
async def test_a_paused_queue_keeps_its_messages_and_goes_on_with_all_of_them():
    async with MemoryStore().open() as store:
        queue, function = FakeQueue(), FakeFunction()
        play = World(queue, function, store, batch_size=1)
        async with play.running():
            queue.put(20)
            await until(lambda: len(function.succeeded) == 20)
            await wish(store, "m", lambda wishes: steer.pause(wishes, "", Pause("ann", now())))
            play.tools.fleet.ring()
            await anyio.sleep(5)
            receives = queue.receives
            queue.put(30)
            await anyio.sleep(600)
            assert queue.receives == receives
            assert len(function.succeeded) == 20
            await wish(store, "m", lambda wishes: steer.resume(wishes, ""))
            play.tools.fleet.ring()
            await until(lambda: len(function.succeeded) == 50)
            assert Counter(function.succeeded).most_common(1)[0][1] == 1


@virtual
async def test_a_queue_that_was_paused_before_the_start_stays_so():
    async with MemoryStore().open() as store:
        await wish(store, "m", lambda wishes: steer.pause(wishes, "", Pause("ann", now())))
        queue, function = FakeQueue(), FakeFunction()
        queue.put(5)
        async with World(queue, function, store).running():
            await anyio.sleep(300)
            assert not function.calls
            assert queue.receives == 0


@virtual
async def test_a_paused_shard_shows_how_often_its_batch_has_failed():
    async with MemoryStore().open() as store:
        stream = FakeStream()
        stream.put("shard-0", 3)
        function = FakeFunction(lambda call: Failed(reason="poison", error="Unhandled"))
        play = World(stream, function, store)
        async with play.running():
            await until(lambda: len(function.calls) == 3)
            await wish(store, "m", lambda wishes: steer.pause(wishes, "shard-0", Pause("ann", now())))
            play.tools.fleet.ring()
            await anyio.sleep(10)
            calls = len(function.calls)
            last = play.told(ShardStands)[-1]
            assert (last.attempt, last.oldest) == (calls, stream.shards["shard-0"].records[0].arrived)
            await wish(store, "m", lambda wishes: steer.resume(wishes, "shard-0"))
            play.tools.fleet.ring()
            await until(lambda: len(function.calls) > calls, within=120)
            assert len({call.request_id for call in function.calls}) == 1


@virtual
async def test_a_queue_that_goes_on_after_a_pause_holds_its_messages_as_the_queue_does_by_then():
    async with MemoryStore().open() as store:
        await wish(store, "m", lambda wishes: steer.pause(wishes, "", Pause("ann", now())))
        queue = FakeQueue(visibility=600)
        function = FakeFunction(lambda call: Refused(reason="429"))
        play = World(queue, function, store)
        async with play.running():
            await anyio.sleep(3600)
            queue.visibility = 30
            queue.put(5)
            await wish(store, "m", lambda wishes: steer.resume(wishes, ""))
            play.tools.fleet.ring()
            await until(lambda: len(queue.released) == 5, within=29)


@virtual
@pytest.mark.parametrize("source", [FakeStream, FakeQueue])
async def test_a_pause_that_a_store_before_this_one_held_is_not_told_any_more(source: type[FakeStream | FakeQueue]):
    observers = Observers(now)
    observers.board.configured([MappingView(name="m", uuid="", configuration={}, enabled=True)])
    gauge = 'poller_paused{mapping="m"} '
    for paused in (True, False):
        async with MemoryStore().open() as store:
            if paused:
                await wish(store, "m", lambda wishes: steer.pause(wishes, "", Pause("ann", now())))
            mapping = World(source(), FakeFunction(), store)
            mapping.tools = replace(mapping.tools, observe=observers.observe)
            async with mapping.running():
                await anyio.sleep(5)
                assert f"{gauge}{float(paused)}" in observers.metrics.scrape()[0].decode()
                assert bool(observers.board.document()[0]["paused"]) is paused
