"""Moments in which replicas get in each other's way, one by one. In virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import msgspec

from poller.fleet import member, quota
from poller.fleet.fleet import Fleet, Identity, Time
from poller.fleet.member import FOLDER, Member
from poller.fleet.share import Share
from poller.mapping.commit import Checkpoint
from poller.mapping.row import ShardRow, decode_shard, encode
from poller.mapping.rows import Rows
from poller.model.errors import Superseded
from poller.model.facts import ShardMoved, ShardPassed
from poller.model.ports import Row, Store
from poller.model.record import After, TrimHorizon
from poller.stores.memory import MemoryStore
from tests.pipeline.doubles import FakeFunction, FakeStream, Shard, StoreAround, World, now, until, virtual
from tests.pipeline.replicas import Replica, running

PREFIX = "m/stream"
KEY = f"{PREFIX}/shard-0"


async def nothing() -> None:
    pass


class Meddled(StoreAround):
    """A store in which something happens between a call and its answer."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.shared = True
        self.after_put: Callable[[], Awaitable[None]] = nothing
        self.after_get: Callable[[], Awaitable[None]] = nothing
        self.after_scan: Callable[[], Awaitable[None]] = nothing

    async def put(self, key: str, value: bytes, expected: int) -> int:
        version = await super().put(key, value, expected)
        meddle, self.after_put = self.after_put, nothing
        await meddle()
        return version

    async def get(self, key: str) -> Row | None:
        row = await super().get(key)
        meddle, self.after_get = self.after_get, nothing
        await meddle()
        return row

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, Row]]:
        rows = [row async for row in super().scan(prefix)]
        meddle, self.after_scan = self.after_scan, nothing
        await meddle()
        for row in rows:
            yield row


def a_fleet(store: Store, name: str = "me") -> Fleet:
    time = Time(clock=now, elapsed=anyio.current_time, chance=lambda: 0.5)
    return Fleet(store, Identity(name=name, boot=f"boot of {name}"), time, lambda fact: None)


def a_row(**more: object) -> bytes:
    return member.encode(Member(epoch=5, boot="boot", serves=("q",), **more))  # type: ignore[arg-type]


async def state(store: Store, name: str) -> str:
    row = await store.get(f"{FOLDER}{name}")
    return member.decode(row.value).state if row else "forgotten"


@virtual
async def test_a_member_that_beats_while_another_is_declared_dead_is_not_declared_dead_after_it():
    async with MemoryStore().open() as store:
        await store.put(f"{FOLDER}a", a_row(), 0)
        await store.put(f"{FOLDER}b", a_row(), 0)
        way = Meddled(store)
        fleet = a_fleet(way)
        async with anyio.create_task_group() as tasks:
            await tasks.start(fleet.run)

            async def b_beats_when_a_is_dead() -> None:
                if await state(store, "a") == "gone":
                    await store.put(f"{FOLDER}b", a_row(address="new"), 1)
                else:
                    way.after_put = b_beats_when_a_is_dead

            way.after_put = b_beats_when_a_is_dead
            await until(lambda: fleet.live().keys() == {"b", "me"}, within=10)
            await anyio.sleep(3)
            assert await state(store, "b") == "up"
            tasks.cancel_scope.cancel()


@virtual
async def test_a_member_that_was_declared_dead_begins_nothing_before_its_new_life_is_stored():
    async with MemoryStore().open() as store:
        fleet = a_fleet(way := Meddled(store))
        async with anyio.create_task_group() as tasks:
            await tasks.start(fleet.run)
            before = fleet.epoch
            row = await store.get(f"{FOLDER}me")
            assert row
            dead = msgspec.structs.replace(member.decode(row.value), epoch=before + 1, state="gone")
            await store.put(f"{FOLDER}me", member.encode(dead), row.version)
            asked: list[tuple[int, bool]] = []

            async def ask() -> None:  # the write is made, and its answer is on its way
                asked.append((fleet.epoch, fleet.safe))

            way.after_put = ask  # the next beat is refused; the one after it brings the new life
            await until(lambda: fleet.epoch > before, within=5)
            assert fleet.safe
            assert asked == [(before, False)]
            tasks.cancel_scope.cancel()


@virtual
async def test_the_part_of_a_newcomer_counts_before_the_next_look():
    async with MemoryStore().open() as store:
        fleet = a_fleet(way := Meddled(store))
        share = Share(fleet, way, lambda fact: None, stream="q", limit=6, in_flight=lambda: 0)
        async with anyio.create_task_group() as tasks:
            await tasks.start(fleet.run)

            await anyio.sleep(1.3)  # it has looked a moment ago, and will not look again before it asks
            await store.put(f"{FOLDER}b", a_row(), 0)
            await store.put("@shares/q", quota.encode(quota.Grants({"b": quota.Grant(5, 4)})), 0)
            tasks.start_soon(share.keep, lambda: None)
            await until(lambda: share.part > 0, within=1)
            assert share.part == 2
            tasks.cancel_scope.cancel()


@virtual
async def test_rows_that_were_read_before_our_own_write_do_not_undo_it():
    async with MemoryStore().open() as store:
        way = Meddled(store)
        world = World(FakeStream(), FakeFunction(), way)
        rows = Rows(world.tools, PREFIX)
        checkpoint = rows.of("shard-0", TrimHorizon())
        await checkpoint.own("alone", 1)
        await rows.look({})

        async def hand_over() -> None:
            await checkpoint.own("another", 7)

        way.after_scan = hand_over
        await rows.look({})
        assert rows.all()["shard-0"].owner == "another"


@virtual
async def test_a_shard_of_a_newcomer_is_not_taken_while_the_members_cannot_be_read():
    async with MemoryStore().open() as store:
        stream, function, log = FakeStream(), FakeFunction(), list[tuple[float, str]]()
        stream.shards = {f"shard-{number}": Shard() for number in range(7)}
        a, b, c = (Replica(name, stream, function, store, log) for name in "abc")
        async with running(a, c):
            await until(lambda: (len(a.owned), len(c.owned)) == (4, 3))
            await anyio.sleep(30)
            c.reach.unreadable = FOLDER
            async with running(b):
                await anyio.sleep(60)
                assert b.owned
                assert not b.owned & c.owned
                assert not [fact for each in (a, b, c) for fact in each.told(ShardPassed) if fact.how == "lost"]


@virtual
async def test_a_row_that_somebody_removed_begins_again_where_it_was_seen_last():
    async with MemoryStore().open() as store:
        rows = Rows(World(FakeStream(), FakeFunction(), store).tools, PREFIX)
        await store.put(KEY, encode(ShardRow(position=After("7"), owner="gone", epoch=1)), 0)
        await rows.look({})
        await store.delete(KEY, 1)
        await rows.look({})
        await rows["shard-0"].own("alone", 1)
        stored = await store.get(KEY)
        assert stored
        assert decode_shard(stored.value).position == After("7")


@virtual
async def test_a_row_that_is_removed_from_under_its_owner_is_stored_anew_and_nobody_else_begins_with_it():
    async with MemoryStore().open() as store:
        stream, function, log = FakeStream(), FakeFunction(), list[tuple[float, str]]()
        a, b = (Replica(name, stream, function, store, log) for name in "ab")
        async with running(a, b):
            await until(lambda: len(a.owned | b.owned) == 1)
            stream.put("shard-0", 5)
            await until(lambda: len(function.succeeded) == 5)
            await anyio.sleep(1)
            key = next(key for key in a.reach.puts + b.reach.puts if key.endswith("shard-0"))
            row = await store.get(key)
            assert row
            await store.delete(key, row.version)
            await anyio.sleep(60)
            assert function.succeeded == [1, 2, 3, 4, 5]
            again = await store.get(key)
            assert again
            assert decode_shard(again.value).position == After("5")


@virtual
async def test_a_write_that_was_cut_short_is_known_again_when_it_has_arrived():
    async with MemoryStore().open() as store:
        way = Meddled(store)
        world = World(FakeStream(), FakeFunction(), way)
        checkpoint = Checkpoint(world.tools, KEY, "shard-0", ShardRow(position=TrimHorizon()), 0)
        way.after_put = anyio.sleep_forever
        with anyio.move_on_after(1):
            await checkpoint.own("alone", 1)
        await checkpoint.own("another", 7)
        stored = await store.get(KEY)
        assert stored
        assert (stored.version, decode_shard(stored.value).owner) == (2, "another")


@virtual
async def test_a_write_of_another_is_not_taken_for_our_own():
    async with MemoryStore().open() as store:
        world = World(FakeStream(), FakeFunction(), store)
        checkpoint = Checkpoint(world.tools, KEY, "shard-0", ShardRow(position=TrimHorizon()), 0)
        await store.put(KEY, encode(ShardRow(position=TrimHorizon(), owner="another", epoch=1)), 0)
        refused = False
        try:
            await checkpoint.own("alone", 1)
        except Superseded:
            refused = True
        assert refused


@virtual
async def test_one_listing_that_is_looked_at_twice_does_not_prove_that_a_parent_is_gone():
    async with MemoryStore().open() as store:
        stream, function, log = FakeStream(), FakeFunction(), list[tuple[float, str]]()
        stream.split("shard-0", "shard-1", "shard-2")
        stream.put("shard-0", 3)
        stream.put("shard-1", 3)
        stream.shards["shard-0"].forgotten = True
        a, b = (Replica(name, stream, function, store, log) for name in "ab")
        async with running(a):
            await anyio.sleep(0.3)
            async with running(b):  # who comes has everybody look again
                await anyio.sleep(0.5)
                assert not function.calls
                stream.shards["shard-0"].forgotten = False
                await until(lambda: len(function.succeeded) == 6)
                assert function.succeeded == [1, 2, 3, 4, 5, 6]


@virtual
async def test_a_replica_whose_store_is_away_does_not_wait_for_the_others_to_know_that_it_leaves():
    async with MemoryStore().open() as store:
        a = Replica("a", FakeStream(), FakeFunction(), store, [])
        async with running(a):
            await until(lambda: len(a.owned) == 1)
            a.reach.cut = True
            with anyio.fail_after(a.fleet.limits.expiry):
                await a.fleet.leave()


@virtual
async def test_what_one_leaves_behind_is_given_to_who_has_least():
    async with MemoryStore().open() as store:
        stream, function, log = FakeStream(), FakeFunction(), list[tuple[float, str]]()
        stream.shards = {f"shard-{number}": Shard() for number in range(9)}
        a, b, c, d = (Replica(name, stream, function, store, log) for name in "abcd")
        async with running(a, b, c):
            await until(lambda: sorted(map(len, (a.owned, b.owned, c.owned))) == [3, 3, 3])
            await anyio.sleep(30)
            before = [len(each.told(ShardPassed)) for each in (a, b, c)]
            async with running(d):
                await a.leave()
                await anyio.sleep(60)
                moved = [
                    fact
                    for each, count in zip((a, b, c), before, strict=True)
                    for fact in each.told(ShardPassed)[count:]
                    if fact.how == "handed_over"
                ]
                assert sorted(map(len, (b.owned, c.owned, d.owned))) == [3, 3, 3]
                assert len(moved) <= 4


@virtual
async def test_rows_of_shards_that_left_are_removed_though_the_first_member_does_not_serve_the_stream():
    async with MemoryStore().open() as store:
        stream, function, log = FakeStream(), FakeFunction(), list[tuple[float, str]]()
        other, a, b = a_fleet(Meddled(store), "0"), *(Replica(name, stream, function, store, log) for name in "ab")
        async with anyio.create_task_group() as tasks, running(a, b):
            await tasks.start(other.run)
            await until(lambda: len(a.owned | b.owned) == 1)
            stream.split("shard-0", "shard-1", "shard-2")
            await until(lambda: len(a.owned | b.owned) == 2)
            stream.shards["shard-0"].listed = False
            await anyio.sleep(300)
            rows = [key.rpartition("/")[2] async for key, _ in store.scan("m/") if key.count("/") == 2]
            assert rows == ["shard-1", "shard-2"]
            tasks.cancel_scope.cancel()


class Usurped(StoreAround):
    """Another replica takes a shard in the moment in which its end is to be stored."""

    async def put(self, key: str, value: bytes, expected: int) -> int:
        if key.endswith("/shard-0") and decode_shard(value).ended:
            row = await self.store.get(key)
            if row and decode_shard(row.value).owner != "another":
                taken = msgspec.structs.replace(decode_shard(row.value), owner="another", epoch=5)
                await self.store.put(FOLDER + "another", a_row_of(key), 0)
                await self.store.put(key, encode(taken), row.version)
        return await super().put(key, value, expected)


def a_row_of(key: str) -> bytes:
    """A member that serves the stream of a shard's row."""
    return member.encode(Member(epoch=5, boot="boot", serves=(key.rpartition("/")[0],)))


@virtual
async def test_a_shard_that_another_took_at_its_end_is_not_said_to_have_ended_here():
    async with MemoryStore().open() as store:
        stream, function, log = FakeStream(), FakeFunction(), list[tuple[float, str]]()
        a = Replica("a", stream, function, Usurped(store), log)
        async with running(a):
            await until(lambda: len(a.owned) == 1)
            stream.shards["shard-0"].closed = True
            await anyio.sleep(3)
            assert [fact.how for fact in a.told(ShardPassed)] == ["claimed", "lost"]
            assert "ended" not in [fact.to for fact in a.told(ShardMoved)]
