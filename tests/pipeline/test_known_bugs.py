"""Bugs that other pollers of streams have had, each named after its symptom.

Those that another test reproduces already are not written twice:

- a child's first records are lost under LATEST: test_streams, "under latest a child is read from its own beginning";
- a parent's backlog is never read: test_streams, "a child starts only after the last record of its parent is settled";
- silence after a reshard until a restart: test_rollover, and system/test_resharding;
- shards beyond the first page are not seen: contract/test_sources_faults, "a long listing is read to its end";
- a hot loop on finished shards: test_streams, "a closed shard is never read again";
- a crash where NextShardIterator is absent: contract/test_sources_faults, "a shard ends where there is no next iterator";
- a restart fails at a trimmed checkpoint, or one whose shard is gone: test_streams, "a checkpoint that was trimmed",
  "a checkpoint whose shard is gone";
- records lost on a crash: test_streams, "a crash during an invocation", test_machine, and system/test_kills;
- an old owner overwrites the new one: test_streams, "a stale owner never moves the checkpoint";
- a stream made anew is skipped by the old numbers: test_streams, "a stream created anew under the same name";
- a stop that hangs, unbounded prefetch: test_adversity, "a stop does not wait for a stream that does not answer",
  test_streams, "many shards of large pages", and system/test_memory.

Aggregated records that are skipped or doubled cannot occur: an aggregate is delivered as the one record that it is.
"""

import anyio
import pytest

from poller.mapping.run import run_mapping
from poller.model.facts import CheckpointWritten
from poller.model.outcome import Failed, Outcome, Replied
from poller.model.ports import Admit
from poller.model.record import Cursor, Page
from poller.stores.memory import MemoryStore
from tests.pipeline.algorithm import lane_of
from tests.pipeline.doubles import EPOCH, HOUR, Call, FakeFunction, FakeStream, Shard, World, now, until, virtual, world


class Aging(FakeStream):
    """A stream whose iterators live for five minutes; an older one is replaced from its cursor's position."""

    def __init__(self, **more: int) -> None:
        super().__init__(**more)
        self.replaced: list[str] = []

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        token = cursor.token.partition("@")[0]
        if token and now() - float(cursor.token.partition("@")[2]) > 300:
            self.replaced.append(str(cursor.position))
            token = ""
        page = await super().read(partition, Cursor(cursor.position, token), limit, admit)
        if page.cursor is None:
            return page
        return Page(page.records, Cursor(page.cursor.position, f"{page.cursor.token}@{now()}"), page.behind, page.full)


@virtual
async def test_the_whole_stream_is_replayed_after_an_iterator_expired_or_its_shard_stalls():
    # Rows 6 and 7: the start position, or the expired iterator itself, is used again.
    def behave(call: Call) -> Outcome:
        return Failed(reason="Boom") if 51 in call.sequences and call.at < EPOCH + 1200 else Replied()

    stream, function = Aging(page=10), FakeFunction(behave)
    stream.put("shard-0", 100)
    async with world(stream, function, batch_size=10):
        await until(lambda: len(function.succeeded) == 100, within=1500)
    assert len(stream.replaced) >= 1
    assert function.succeeded == list(range(1, 101))


@virtual
async def test_records_are_lost_after_batches_that_ended_out_of_order_and_a_crash():
    # Row 11: the highest batch that succeeded is taken for the checkpoint, not the highest contiguous one.
    stream, healed = FakeStream(), False
    function = FakeFunction(lambda call: Failed(reason="Boom") if 1 in call.sequences and not healed else Replied())
    keys = [next(key for key in map(str, range(100)) if lane_of(0, key, 2) == lane) for lane in (0, 1)]
    for number in range(20):
        stream.put("shard-0", 1, key=keys[number % 2])
    async with MemoryStore().open() as store:
        with anyio.move_on_after(10):
            await run_mapping(World(stream, function, store, lanes=2, batch_size=2).tools)
        assert function.succeeded == list(range(2, 21, 2))
        healed = True
        async with world(stream, function, store, lanes=2, batch_size=2):
            await until(lambda: len(function.succeeded) == 20, within=70)
    assert sorted(function.succeeded) == list(range(1, 21))


@pytest.mark.parametrize("kill_at", [step / 50 for step in range(1, 40)])
@virtual
async def test_the_end_of_a_shard_is_recorded_too_early_or_never(kill_at: float):
    # Row 12: its children start beside it, or twice, or not at all, when it dies around the end.
    stream, function = FakeStream(page=2), FakeFunction(seconds=0.1)
    stream.put("shard-0", 5)
    stream.split("shard-0", "left", "right")
    stream.put("left", 2)
    stream.put("right", 2)
    async with MemoryStore().open() as store:
        with anyio.move_on_after(kill_at):
            await run_mapping(World(stream, function, store).tools)
        async with world(stream, function, store):
            await until(lambda: len(set(function.succeeded)) == 9)
    order = list(dict.fromkeys(sequence for call in function.calls for sequence in call.sequences))
    assert order[:5] == [1, 2, 3, 4, 5]
    assert len(function.succeeded) <= 9 + 2, "no more than what was in flight comes again"


@virtual
async def test_a_checkpoint_falls_back_to_the_beginning_when_an_idle_child_changes_its_owner():
    # Row 15: a child that has had no record has no checkpoint either, so a new owner begins somewhere else.
    stream, function = FakeStream(), FakeFunction()
    stream.put("shard-0", 5)
    stream.split("shard-0", "child")
    async with MemoryStore().open() as store:
        for _ in range(3):
            async with world(stream, function, store) as mapping:
                await anyio.sleep(30)
        assert not mapping.told(CheckpointWritten), "the idle child has its row since the first start"
        stream.put("child", 3)
        async with world(stream, function, store):
            await until(lambda: 8 in function.succeeded)
    assert function.succeeded == [1, 2, 3, 4, 5, 6, 7, 8]


@virtual
async def test_sparse_shards_stand_still_because_one_of_them_was_empty():
    # Row 17: the iterator is kept when a read was empty, or all shards share one timer.
    stream, function = Aging(), FakeFunction()
    stream.shards = {name: Shard() for name in "abc"}
    async with world(stream, function):
        for hour in range(4):
            for name in "abc":
                await anyio.sleep(HOUR / 3)
                stream.put(name, 1)
                await until(lambda: len(function.succeeded) == stream.written, within=2)
            assert len(function.succeeded) == 3 * (hour + 1)
    assert stream.replaced == []


@virtual
async def test_starts_and_stops_leave_poll_loops_behind():
    # Row 20: start, stop, start gives two loops, the second stop hangs, a trickle spins.
    stream, function = FakeStream(), FakeFunction()
    async with MemoryStore().open() as store:
        for _ in range(100):
            async with world(stream, function, store, window=5.0) as mapping:
                stream.put("shard-0", 1)
                await until(lambda: len(function.succeeded) == stream.written, within=10)
                mapping.stop.set()
                mapping.stop.set()
        begun, reads = now(), len(stream.reads)
        async with world(stream, function, store, window=5.0):
            for _ in range(60):
                stream.put("shard-0", 1)
                await anyio.sleep(1)
        assert now() - begun < 70
        assert len(stream.reads) - reads < 75
    assert function.succeeded[:100] == list(range(1, 101))
