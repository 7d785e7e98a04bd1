"""A shard that brings nothing has no task of its own, and a stop needs none that waits for it, in virtual time."""

from __future__ import annotations

import math
from functools import partial

import anyio
import msgspec
import pytest
import trio

from poller.mapping.quiet import Quiets, readers
from poller.mapping.row import decode_shard, encode
from poller.mapping.stop import Stop
from poller.model.errors import Transient
from poller.model.facts import ShardMoved, SourceRead
from poller.model.outcome import Failed, Replied
from poller.model.ports import Admit
from poller.model.record import Cursor, Page
from poller.stores.memory import MemoryStore
from tests.pipeline.doubles import FakeFunction, FakeStream, Shard, now, until, virtual, world

SHARDS = [f"shard-{number}" for number in range(1, 51)]


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def fewest_tasks() -> int:
    """Of a second in which each shard is read once."""
    fewest = tasks()
    for _ in range(100):
        await anyio.sleep(0.01)
        fewest = min(fewest, tasks())
    return fewest


@virtual
async def test_an_idle_shard_has_no_task():
    stream, function = FakeStream(), FakeFunction()
    async with world(stream, function, lanes=10) as mapping:
        await anyio.sleep(5)
        before = await fewest_tasks()
        stream.split("shard-0", *SHARDS)
        await until(lambda: len([fact for fact in mapping.told(ShardMoved) if fact.to == "owned"]) == 51)
        await anyio.sleep(5)
        assert await fewest_tasks() <= before + 8  # those that read them all


class Hanging(FakeStream):
    """Some shards answer after ten minutes only, and then well; reads of one that is admitted hang behind that."""

    hanging: frozenset[str] = frozenset()

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        if partition in self.hanging:
            self.reads.append((partition, now()))
            await admit(1_000_000)
            await anyio.sleep(600)
        return await super().read(partition, cursor, limit, admit)


@virtual
async def test_quiet_shards_whose_reads_hang_hold_up_no_other_and_no_stop_and_give_back_their_room_in_memory():
    stream, function = Hanging(), FakeFunction()
    stream.shards |= {shard: Shard() for shard in SHARDS}
    async with world(stream, function) as mapping:
        await anyio.sleep(5)
        stream.hanging = frozenset(SHARDS[:40])
        await anyio.sleep(5)
        assert mapping.tools.budget.used_bytes == 80_000_000
        stream.put(SHARDS[45], 3)
        await until(lambda: len(function.succeeded) == 3, within=5)
        reads = len(stream.reads)
        await anyio.sleep(10)
        assert len(stream.reads) - reads >= 90, "11 shards are still read each second"
        stopped = anyio.current_time()
    assert anyio.current_time() - stopped < 1
    assert mapping.tools.budget.used_bytes == 0
    assert {fact.shard for fact in mapping.told(ShardMoved) if fact.to == "released"} == {"shard-0", *SHARDS}


@virtual
async def test_a_quiet_shard_that_cannot_be_read_is_told_waits_longer_each_time_and_is_quiet_again_when_it_can():
    stream, function = FakeStream(), FakeFunction()
    async with world(stream, function) as mapping:
        await anyio.sleep(5)
        quiet = await fewest_tasks()
        stream.failures += [Transient("no answer")] * 5
        before = len(stream.reads)
        await until(lambda: not stream.failures)
        (_, first), *_, (_, last) = stream.reads[before:]
        assert last - first > 0.2 + 0.4 + 0.8, "half of that is chance's"
        assert [fact.reason for fact in mapping.told(SourceRead) if fact.outcome == "error"] == ["no answer"] * 5
        await anyio.sleep(5)
        assert await fewest_tasks() <= quiet
        stream.put("shard-0", 3)
        await until(lambda: len(function.succeeded) == 3, within=2)


class Idle:
    """A quiet shard that is read each second, and whose answers can be held back."""

    def __init__(self) -> None:
        self.due = -math.inf
        self.reads = 0
        self.answers = anyio.Event()

    async def look(self) -> bool:
        self.reads += 1
        await self.answers.wait()
        self.due = anyio.current_time() + 1
        return False


@virtual
async def test_a_stop_that_comes_just_as_its_shard_was_read_breaks_off_no_read_of_another():
    resumed = list[str]()
    quiets = Quiets(anyio.current_time, 1.0, resumed.append)
    stopped, other = Idle(), Idle()
    other.answers.set()
    async with anyio.create_task_group() as tasks:
        watched = quiets.watch(stopped, "stopped")
        quiets.watch(other, "other")
        tasks.start_soon(quiets.run)
        await anyio.sleep(0.1)
        assert (stopped.reads, other.reads) == (1, 0), "one task reads both, and waits for the first"
        stopped.answers.set()
        watched.cancel()
        await anyio.sleep(10)
        tasks.cancel_scope.cancel()
    assert resumed == ["stopped"]
    assert other.reads >= 10


@pytest.mark.parametrize("owner", ["", "another"])
@virtual
async def test_a_quiet_shard_whose_row_another_replica_has_written_is_let_go(owner: str):
    """Its row is put off and then written by nobody: the next write finds out."""
    stream, function = FakeStream(), FakeFunction()
    async with MemoryStore().open() as store, world(stream, function, store) as mapping:
        await anyio.sleep(5)
        (key, row), *_ = [each async for each in store.scan("m/") if each[0].endswith("/shard-0")]
        stolen = msgspec.structs.replace(decode_shard(row.value), owner=owner)
        await store.put(key, encode(stolen), row.version)
        stream.put("shard-0", 1)
        await until(lambda: any(fact.to == "released" for fact in mapping.told(ShardMoved)))


@pytest.mark.parametrize(
    ("due", "reading", "done", "takes", "wanted"),
    [
        (0, 0, 0, 0.01, 0),
        (1, 0, 0, 0.01, 1),
        (8, 0, 0, 0.0, 1),
        (10, 0, 0, 0.0, 2),
        (200, 0, 0, 0.0001, 8),
        (192, 8, 8, 0.0001, 0),
        (192, 8, 0, 0.0001, 8),
        (1_000, 0, 0, 0.01, 50),
        (1_000, 40, 5, 0.01, 10),
        (5_000, 0, 0, 0.01, 250),
        (5_000, 300, 0, 0.01, 200),
        (5_000, 500, 0, 0.01, 0),
        (20, 400, 1, 60.0, 20),
    ],
)
def test_as_many_tasks_read_as_get_through_what_is_due_in_time(
    due: int, reading: int, done: int, takes: float, wanted: int
):
    assert readers(due, reading, done, takes=takes, within=0.2) == wanted


@pytest.mark.parametrize("lanes", [1, 3])
@virtual
async def test_a_shard_that_was_quiet_for_a_minute_lets_its_lanes_go_and_delivers_what_comes_then(lanes: int):
    stream, function = FakeStream(), FakeFunction()
    async with world(stream, function, lanes=lanes, batch_size=10) as mapping:
        await anyio.sleep(5)
        idle = tasks()
        stream.put("shard-0", 30)
        await until(lambda: len(function.succeeded) == 30)
        await anyio.sleep(50)
        assert tasks() > idle
        stream.put("shard-0", 30)
        await until(lambda: len(function.succeeded) == 60)
        await anyio.sleep(50)
        assert tasks() > idle
        await anyio.sleep(15)
        assert tasks() == idle
        stream.put("shard-0", 30)
        await until(lambda: len(function.succeeded) == 90)
        await anyio.sleep(70)
        stream.split("shard-0", "shard-1", "shard-2")
        await until(lambda: {fact.shard for fact in mapping.told(ShardMoved) if fact.to == "ended"} == {"shard-0"})
    assert sorted(function.succeeded) == list(range(min(function.succeeded), min(function.succeeded) + 90))
    assert lanes > 1 or function.succeeded == sorted(function.succeeded)


@virtual
async def test_a_record_that_is_stuck_for_minutes_keeps_its_lane_and_those_behind_it_their_place():
    stream = FakeStream()
    healed = anyio.Event()
    function = FakeFunction(lambda call: Replied() if healed.is_set() else Failed(reason="Boom"))
    async with world(stream, function, batch_size=1):
        stream.put("shard-0", 3)
        await anyio.sleep(300)
        healed.set()
        await until(lambda: len(function.succeeded) == 3)
    assert function.succeeded == sorted(function.succeeded)


@virtual
async def test_a_stop_cancels_the_calls_under_way_and_those_that_begin_later():
    stop, ended = Stop(), list[object]()

    async def call() -> None:
        ended.append(await stop.unless_set(partial(anyio.sleep, 100)))

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        group.start_soon(call)
        await anyio.sleep(1)
        stop.set()
    await call()
    assert ended == [None] * 3
    assert anyio.current_time() < 10


@virtual
async def test_a_call_that_ends_before_the_stop_answers_and_one_that_fails_fails_as_it_would():
    stop = Stop()

    async def answer() -> int:
        await anyio.sleep(1)
        return 7

    async def fail() -> int:
        raise Transient("try again")

    assert await stop.unless_set(answer) == 7
    with pytest.raises(Transient, match="try again"):
        await stop.unless_set(fail)
    stop.set()
    stop.set()
    assert stop.is_set()


@virtual
async def test_whoever_waits_for_a_stop_goes_on_then_and_at_once_behind_it():
    stop, woken = Stop(), list[float]()

    async def wait() -> None:
        await stop.wait()
        woken.append(anyio.current_time())

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        group.start_soon(wait)
        began = anyio.current_time()
        await anyio.sleep(5)
        stop.set()
    await wait()
    assert woken == [began + 5] * 3


@virtual
async def test_a_cancelled_call_takes_its_cancellation_along():
    stop = Stop()
    with anyio.move_on_after(1) as scope:
        await stop.unless_set(partial(anyio.sleep, 100))
    assert scope.cancelled_caught
