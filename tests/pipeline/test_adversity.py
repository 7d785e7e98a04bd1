"""What a mapping does when its surroundings misbehave for long, in virtual time: it waits, and it loses nothing."""

from collections.abc import AsyncIterator

import anyio
import pytest
import trio

from poller.mapping.budget import Budget
from poller.model.errors import NotFound, PollerError, ShardGone, Throttled, Transient, Trimmed
from poller.model.facts import BatchInvoked, CheckpointWritten, MappingProblem, RecordsDropped, ShardMoved
from poller.model.outcome import Failed, Outcome, Refused, Replied
from poller.model.policy import Latest
from poller.model.ports import Admit, Row, Store
from poller.model.record import Cursor, Page, Topology
from poller.stores.memory import MemoryStore
from tests.pipeline.doubles import (
    EPOCH,
    HOUR,
    Call,
    FakeFunction,
    FakeQueue,
    FakeStream,
    Shard,
    StoreAround,
    now,
    until,
    virtual,
    world,
)


class Refusing(FakeStream):
    """A stream that refuses reads for some time."""

    def __init__(self, error: PollerError, *, until_time: float = float("inf")) -> None:
        super().__init__()
        self.error = error
        self.until_time = until_time

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        if now() < self.until_time:
            self.failures = [self.error]
        return await super().read(partition, cursor, limit, admit)


@pytest.mark.parametrize("listed", [True, False], ids=["still listed", "deleted"])
@virtual
async def test_a_stream_whose_shards_are_gone_is_asked_slowly_and_read_on_when_it_is_back(listed: bool):
    stream, function = Refusing(ShardGone("no such stream"), until_time=EPOCH + 600), FakeFunction()
    stream.put("shard-0", 5)
    async with world(stream, function) as mapping:
        await anyio.sleep(1)
        if not listed:
            stream.listing_failures = [NotFound("no such stream")] * 10
        await anyio.sleep(598)
        assert len(stream.reads) < 30
        assert len(mapping.told(MappingProblem)) <= 10
        await until(lambda: function.succeeded == [1, 2, 3, 4, 5], within=150)
    assert not mapping.told(RecordsDropped)


@virtual
async def test_a_shard_that_says_trimmed_at_its_very_beginning_is_not_asked_in_a_hot_loop():
    stream, function = Refusing(Trimmed("past the oldest record"), until_time=EPOCH + 60), FakeFunction()
    stream.put("shard-0", 5)
    async with world(stream, function):
        await anyio.sleep(59)
        assert len(stream.reads) < 100
        await until(lambda: function.succeeded == [1, 2, 3, 4, 5])


@virtual
async def test_what_the_source_still_hands_out_is_tried_once_however_old_it_is():
    stream, function = FakeStream(retention=24 * HOUR), FakeFunction()
    stream.put("shard-0", 5)
    await anyio.sleep(25 * HOUR)
    async with world(stream, function) as mapping:
        await until(lambda: function.succeeded == [1, 2, 3, 4, 5])
    assert not mapping.told(RecordsDropped)


@virtual
async def test_a_batch_older_than_the_retention_that_fails_is_given_up_after_that_one_try():
    def behave(call: Call) -> Outcome:
        return Failed(reason="Boom") if 1 in call.sequences else Replied()

    stream, function = FakeStream(retention=24 * HOUR), FakeFunction(behave)
    stream.put("shard-0", 2)
    await anyio.sleep(25 * HOUR)
    stream.put("shard-0", 1)
    async with world(stream, function) as mapping:
        await until(lambda: function.succeeded == [3])
    assert [fact.records for fact in mapping.told(RecordsDropped)] == [2]
    assert len(mapping.told(BatchInvoked)) == 2


@virtual
async def test_a_batch_of_a_queue_leaves_while_its_messages_are_ours_though_its_window_is_longer():
    queue, function = FakeQueue(visibility=30, wait=1), FakeFunction()
    queue.put(3)
    async with world(queue, function, batch_size=100, window=300.0):
        await until(lambda: len(queue.deleted) == 3, within=60)
    assert [call.sequences for call in function.calls] == [[1, 2, 3]]


@pytest.mark.parametrize("window", [0.0, 5.0])
@virtual
async def test_messages_are_ours_from_their_receipt_on_and_not_from_the_beginning_of_a_long_poll(window: float):
    queue, function = FakeQueue(visibility=10, wait=20), FakeFunction()
    async with world(queue, function, batch_size=100, poll_interval=20, window=window):
        await anyio.sleep(15)
        queue.put(3)
        await until(lambda: len(queue.deleted) == 3, within=60)
    assert [call.sequences for call in function.calls] == [[1, 2, 3]]


@virtual
async def test_room_in_memory_is_not_kept_by_a_read_that_is_cancelled_while_it_is_admitted():
    budget = Budget(1000)
    assert budget.take(1000), "somebody else holds everything, so the read has to wait"
    with anyio.CancelScope() as scope, budget.join() as holder:
        scope.cancel()
        await holder.admit(100)
    assert scope.cancelled_caught
    assert budget.used_bytes == 1000


@pytest.mark.parametrize("seconds", [10.0**9, float("inf")])
@virtual
async def test_an_absurd_retry_after_stops_a_shard_for_a_quarter_of_an_hour_at_the_most(seconds: float):
    def behave(call: Call) -> Outcome:
        return Refused(reason="throttled", after=seconds) if call.at < EPOCH + 600 else Replied()

    stream, function = FakeStream(), FakeFunction(behave)
    stream.put("shard-0", 1)
    stream.failures = [Throttled("slow down", after=seconds)]
    async with world(stream, function):
        await until(lambda: function.succeeded == [1], within=2000)


class Failing(StoreAround):
    """A store that fails for some time, as one whose disk is full, and works again."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.failing = False
        self.reads_to_fail = 0

    def _fail(self) -> None:
        if self.failing:
            raise Transient("store: database or disk is full")

    async def get(self, key: str) -> Row | None:
        self._fail()
        if self.reads_to_fail:
            self.reads_to_fail -= 1
            raise Transient("store: database is locked")
        return await self.store.get(key)

    async def put(self, key: str, value: bytes, expected: int) -> int:
        self._fail()
        return await self.store.put(key, value, expected)

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, Row]]:
        self._fail()
        async for row in self.store.scan(prefix):
            yield row

    async def delete(self, key: str, expected: int) -> None:
        self._fail()
        await self.store.delete(key, expected)


@virtual
async def test_a_store_that_fails_for_an_hour_stops_the_checkpoint_and_repeats_nothing():
    stream, function = FakeStream(page=10), FakeFunction()
    async with MemoryStore().open() as memory:
        store = Failing(memory)
        async with world(stream, function, store) as mapping:
            stream.put("shard-0", 10)
            await until(lambda: len(function.succeeded) == 10)
            await anyio.sleep(0.5)
            store.failing = True
            stream.put("shard-0", 30)
            await anyio.sleep(3600)
            assert function.succeeded == list(range(1, 21))
            store.failing = False
            await until(lambda: len(function.succeeded) == 40)
    told = mapping.told(CheckpointWritten)
    assert 100 < len([fact for fact in told if fact.outcome == "error"]) < 1000
    assert (told[-1].outcome, told[-1].position) == ("written", "40")
    assert function.succeeded == list(range(1, 41))


@virtual
async def test_a_store_that_is_written_at_a_pace_and_fails_for_long_has_no_more_and_more_tasks_wait_for_it():
    stream, function = FakeStream(), FakeFunction()
    async with MemoryStore().open() as memory:
        store = Failing(memory)
        store.pace = 5.0
        async with world(stream, function, store, lanes=4, batch_size=2):
            stream.put("shard-0", 1)
            await anyio.sleep(10)
            store.failing = True
            for number in range(100):
                stream.put("shard-0", 1, key=str(number))
            await anyio.sleep(60)
            tasks = trio.lowlevel.current_statistics().tasks_living
            await anyio.sleep(3600)
            assert trio.lowlevel.current_statistics().tasks_living <= tasks
            store.failing = False
            await until(lambda: len(function.succeeded) == 101)
    assert sorted(function.succeeded) == list(range(1, 102))


@virtual
async def test_a_row_that_another_wrote_while_the_store_fails_takes_no_other_shard_with_it():
    stream, function = FakeStream(), FakeFunction(seconds=5)
    stream.shards = {"a": Shard(), "b": Shard()}
    async with MemoryStore().open() as memory:
        store = Failing(memory)
        async with world(stream, function, store):
            await anyio.sleep(3)
            stream.put("a", 1)
            stream.put("b", 1)
            await until(lambda: len(function.calls) == 2)
            (key,) = [key async for key, _ in memory.scan("m/") if key.endswith("/a")]
            row = await memory.get(key)
            assert row is not None
            await memory.put(key, row.value, row.version)
            store.reads_to_fail = 3
            await until(lambda: sorted(function.succeeded) == [1, 1, 2])
            await anyio.sleep(60)
    assert sorted(function.succeeded) == [1, 1, 2]


class Ambiguous(Failing):
    """A store whose writes reach the disk and say that they failed."""

    async def put(self, key: str, value: bytes, expected: int) -> int:
        version = await super().put(key, value, expected)
        if self.writes_to_deny:
            self.writes_to_deny -= 1
            raise Transient("store: disk I/O error")
        return version

    writes_to_deny = 0


@virtual
async def test_a_write_that_failed_and_reached_the_disk_all_the_same_is_not_taken_for_another_process():
    stream, function = FakeStream(page=10), FakeFunction()
    stream.put("shard-0", 30)
    async with MemoryStore().open() as memory:
        store = Ambiguous(memory)
        async with world(stream, function, store, batch_size=10) as mapping:
            await until(lambda: len(function.succeeded) == 10)
            store.writes_to_deny = 1
            await until(lambda: len(function.succeeded) == 30)
            await anyio.sleep(1)
    assert {fact.outcome for fact in mapping.told(CheckpointWritten)} == {"written", "error"}
    assert len(mapping.told(ShardMoved)) == 2


class Hanging(FakeStream):
    """A stream that does not answer some call any more."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        self.operation = operation
        self.listings = 0

    async def topology(self) -> Topology:
        self.listings += 1
        if self.operation == "listing" or (self.operation == "listing again" and self.listings > 1):
            await anyio.sleep(HOUR)
        return await super().topology()

    async def latest(self, partition: str) -> Cursor:
        if self.operation == "latest":
            await anyio.sleep(HOUR)
        return await super().latest(partition)

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        if self.operation == "read":
            await anyio.sleep(HOUR)
        return await super().read(partition, cursor, limit, admit)


@pytest.mark.parametrize("operation", ["listing", "listing again", "latest", "read"])
@virtual
async def test_a_stop_does_not_wait_for_a_stream_that_does_not_answer(operation: str):
    stream, function = Hanging(operation), FakeFunction()
    async with world(stream, function, start=Latest()) as mapping:
        await anyio.sleep(10)
        mapping.stop.set()
        stopped = now()
    assert now() - stopped < 1


@virtual
async def test_a_stop_while_the_stream_hangs_lets_the_function_finish_and_writes_its_checkpoint():
    stream, function = Hanging("nothing yet"), FakeFunction(seconds=20)
    stream.put("shard-0", 5)
    async with world(stream, function) as mapping:
        await until(lambda: len(function.calls) == 1)
        stream.operation = "read"
        await anyio.sleep(5)
        mapping.stop.set()
    assert function.succeeded == [1, 2, 3, 4, 5]
    assert mapping.told(CheckpointWritten)[-1].position == "5"


@pytest.mark.parametrize("seconds", [10, 2 * HOUR])
@virtual
async def test_a_shard_that_listings_forget_for_some_time_is_read_and_no_record_given_up(seconds: float):
    stream, function = FakeStream(), FakeFunction()
    stream.put("shard-0", 5)
    async with MemoryStore().open() as store:
        async with world(stream, function, store):
            await until(lambda: len(function.succeeded) == 5)
        stream.put("shard-0", 5)
        stream.split("shard-0", "left")
        stream.put("left", 5)
        stream.shards["shard-0"].forgotten = True
        async with world(stream, function, store) as mapping:
            await anyio.sleep(seconds)
            stream.shards["shard-0"].forgotten = False
            await until(lambda: len(function.succeeded) == 15, within=100)
    assert function.succeeded == list(range(1, 16))
    assert not mapping.told(RecordsDropped)
