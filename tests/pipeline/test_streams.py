"""A mapping of a stream, from its records to its checkpoint, in virtual time."""

import itertools
from dataclasses import replace
from itertools import pairwise

import anyio
import pytest

from poller.mapping.run import run_mapping
from poller.model.errors import Denied, IteratorExpired, NotFound, ShardGone, Throttled, Transient
from poller.model.facts import (
    BatchInvoked,
    BatchSent,
    CheckpointWritten,
    MappingProblem,
    RecordsDropped,
    ShardMoved,
    ShardStands,
    SourceListed,
    SourceRead,
)
from poller.model.outcome import Failed, Outcome, Refused, Replied, Unavailable
from poller.model.policy import Latest
from poller.model.record import At
from poller.stores.memory import MemoryStore
from tests.pipeline.doubles import EPOCH, HOUR, Call, FakeFunction, FakeStream, Shard, World, now, until, virtual, world


def fails(until_time: float) -> FakeFunction:
    def behave(call: Call) -> Outcome:
        return Failed(reason="Boom") if call.at < until_time else Replied()

    return FakeFunction(behave)


def poison(*sequences: int) -> FakeFunction:
    def behave(call: Call) -> Outcome:
        return Failed(reason="Boom") if set(sequences) & set(call.sequences) else Replied()

    return FakeFunction(behave)


@virtual
async def test_every_record_is_delivered_once_and_in_order():
    stream, function = FakeStream(page=170), FakeFunction()
    stream.put("shard-0", 1000)
    async with world(stream, function, batch_size=64):
        await until(lambda: len(function.succeeded) >= 1000)
        stream.put("shard-0", 500)
        await until(lambda: len(function.succeeded) >= 1500)
        await anyio.sleep(10)
    assert function.succeeded == list(range(1, 1501))
    assert max(len(call.sequences) for call in function.calls) == 64


@virtual
async def test_a_function_that_fails_for_23_hours_and_then_works_receives_every_record():
    stream, function = FakeStream(), fails(EPOCH + 23 * HOUR)
    stream.put("shard-0", 250)
    async with world(stream, function, poll_interval=300) as mapping:
        await anyio.sleep(12 * HOUR)
        stream.put("shard-0", 50)
        await anyio.sleep(11 * HOUR + 120)
    assert function.succeeded == list(range(1, 301))
    assert not mapping.told(RecordsDropped)
    blocked = [call for call in function.calls if call.at < EPOCH + 23 * HOUR]
    assert {tuple(call.sequences) for call in blocked} == {tuple(range(1, 101))}
    assert {call.request_id for call in blocked} == {"request-1"}


@virtual
async def test_at_24_hours_the_data_expires_is_counted_and_the_shard_goes_on():
    stream, function = FakeStream(), poison(2)
    stream.put("shard-0", 3)
    async with world(stream, function, poll_interval=300) as mapping:
        await anyio.sleep(12 * HOUR)
        stream.put("shard-0", 2)
        await anyio.sleep(11.9 * HOUR)
        assert function.succeeded == []
        assert not mapping.told(RecordsDropped)
        await anyio.sleep(0.2 * HOUR)
    (dropped,) = mapping.told(RecordsDropped)
    assert (dropped.condition, dropped.records, dropped.first, dropped.last) == ("Expired", 3, "1", "3")
    assert function.succeeded == [4, 5]
    assert not [call for call in function.calls if call.at > EPOCH + 24 * HOUR and 2 in call.sequences]


@virtual
async def test_only_the_expired_head_of_a_batch_is_given_up_and_the_rest_is_a_new_batch():
    stream, function = FakeStream(page=10), fails(EPOCH + 24.5 * HOUR)
    stream.put("shard-0", 2)
    await anyio.sleep(HOUR)
    stream.put("shard-0", 2)
    async with world(stream, function, poll_interval=300) as mapping:
        await anyio.sleep(24 * HOUR)
    (dropped,) = mapping.told(RecordsDropped)
    assert (dropped.first, dropped.last) == ("1", "2")
    assert function.succeeded == [3, 4]
    assert len({call.request_id for call in function.calls}) == 2


@virtual
async def test_a_longer_retention_set_while_a_batch_is_stuck_keeps_its_records():
    stream, function = FakeStream(), fails(EPOCH + 30 * HOUR)
    stream.put("shard-0", 1)
    async with world(stream, function, poll_interval=300) as mapping:
        await anyio.sleep(20 * HOUR)
        stream.retention = 48 * HOUR
        await anyio.sleep(11 * HOUR)
    assert function.succeeded == [1]
    assert not mapping.told(RecordsDropped)


@virtual
async def test_retries_follow_after_a_doubling_pause_of_at_most_a_minute_and_jitter():
    stream, function = FakeStream(), fails(EPOCH + HOUR)
    stream.put("shard-0", 1)
    async with world(stream, function) as mapping:
        await anyio.sleep(HOUR)
    pauses = [fact.retry_in for fact in mapping.told(BatchInvoked) if fact.retry_in is not None]
    assert pauses[:3] == pytest.approx([0.235, 0.47, 0.94])
    assert max(pauses) == pytest.approx(60 * 1.175)
    assert [fact.attempt for fact in mapping.told(BatchInvoked)][:3] == [1, 2, 3]


@pytest.mark.parametrize(
    ("outcome", "first_pause"),
    [
        (Refused(reason="throttled"), 0.235),
        (Refused(reason="throttled", after=7.0), 7.0),
        (Unavailable(reason="502"), 1.175),
        (Unavailable(reason="no such function", lasting=True), 5.875),
    ],
    ids=["a throttle", "a throttle that names a pause", "a service error", "a wrong configuration"],
)
@virtual
async def test_a_call_that_did_not_reach_the_function_is_tried_again_after(outcome: Outcome, first_pause: float):
    answers = itertools.chain([outcome], itertools.repeat(Replied()))
    stream, function = FakeStream(), FakeFunction(lambda call: next(answers))
    stream.put("shard-0", 3)
    async with world(stream, function) as mapping:
        await until(lambda: function.succeeded == [1, 2, 3])
    assert mapping.told(BatchInvoked)[0].retry_in == pytest.approx(first_pause)


@virtual
async def test_a_poison_record_blocks_its_shard_and_no_other():
    stream, function = FakeStream(), poison(1)
    stream.shards = {"a": Shard(), "b": Shard()}
    stream.put("a", 5)
    stream.put("b", 5)
    async with world(stream, function):
        await until(lambda: function.succeeded == [6, 7, 8, 9, 10], within=5)
        for _ in range(20):
            await anyio.sleep(30)
            stream.put("b", 1)
        await anyio.sleep(3)
    assert function.succeeded == list(range(6, 31))


@virtual
async def test_the_checkpoint_moves_only_after_the_function_succeeded():
    stream, function = FakeStream(), FakeFunction(seconds=100)
    stream.put("shard-0", 150)
    async with world(stream, function) as mapping:
        await anyio.sleep(99)
        assert {fact.position for fact in mapping.told(CheckpointWritten)} == {"TRIM_HORIZON"}
        await anyio.sleep(2)
        assert mapping.told(CheckpointWritten)[-1].position == "100"


@virtual
async def test_a_crash_during_an_invocation_redelivers_that_batch_and_nothing_before_it():
    stream = FakeStream()
    async with MemoryStore().open() as store:
        stream.put("shard-0", 250)
        dying = FakeFunction(lambda call: Replied(), seconds=10)
        with anyio.move_on_after(15):
            await run_mapping(World(stream, dying, store).tools)
        assert dying.succeeded == list(range(1, 101))
        function = FakeFunction()
        async with world(stream, function, store):
            await until(lambda: len(function.succeeded) >= 150)
    assert function.succeeded == list(range(101, 251))


@virtual
async def test_a_stop_finishes_the_batch_in_flight_and_begins_nothing_new():
    stream, function = FakeStream(), FakeFunction(seconds=10)
    stream.put("shard-0", 1000)
    async with world(stream, function) as mapping:
        await anyio.sleep(5)
        mapping.stop.set()
        stopped = now()
    assert function.succeeded == list(range(1, 101))
    assert len(function.calls) == 1
    assert mapping.told(CheckpointWritten)[-1].position == "100"
    assert now() - stopped < 6


@virtual
async def test_a_stop_during_a_pause_between_retries_does_not_wait_for_it():
    stream, function = FakeStream(), poison(1)
    stream.put("shard-0", 1)
    async with world(stream, function) as mapping:
        await anyio.sleep(300)
        mapping.stop.set()
        stopped = now()
    assert now() - stopped < 1
    assert mapping.told(CheckpointWritten)[-1].position == "TRIM_HORIZON"


@virtual
async def test_a_child_starts_only_after_the_last_record_of_its_parent_is_settled():
    stream, function = FakeStream(page=50), FakeFunction(seconds=5)
    stream.put("shard-0", 200)
    stream.split("shard-0", "left", "right")
    stream.put("left", 3)
    stream.put("right", 3)
    async with world(stream, function) as mapping:
        await until(lambda: len(function.succeeded) == 206, within=120)
    assert function.succeeded[:200] == list(range(1, 201))
    opened = [fact.shard for fact in mapping.told(ShardMoved) if fact.to == "owned"]
    assert opened[0] == "shard-0"
    assert set(opened[1:]) == {"left", "right"}
    assert mapping.told(ShardMoved)[0].to == "blocked_on_parent"


@virtual
async def test_a_child_of_a_merge_waits_for_both_parents():
    stream = FakeStream()
    stream.shards = {"a": Shard(closed=True), "b": Shard(closed=True), "ab": Shard(parents=("a", "b"))}
    stream.put("a", 2)
    stream.put("b", 2)
    stream.put("ab", 2)
    function = fails(EPOCH + 200)
    function.behave = lambda call: Failed(reason="no") if call.at < EPOCH + 200 and 1 in call.sequences else Replied()
    async with world(stream, function):
        await anyio.sleep(150)
        assert function.succeeded == [3, 4]
        await until(lambda: len(function.succeeded) == 6, within=300)
    assert function.succeeded == [3, 4, 1, 2, 5, 6]


@virtual
async def test_a_closed_shard_is_never_read_again():
    stream, function = FakeStream(), FakeFunction()
    stream.put("shard-0", 5)
    stream.split("shard-0", "left")
    async with MemoryStore().open() as store:
        async with world(stream, function, store):
            await until(lambda: len(function.succeeded) == 5)
            await anyio.sleep(1)
            reads = len([shard for shard, _ in stream.reads if shard == "shard-0"])
            await anyio.sleep(1000)
        async with world(stream, function, store):
            await anyio.sleep(1000)
    assert len([shard for shard, _ in stream.reads if shard == "shard-0"]) == reads
    assert function.succeeded == [1, 2, 3, 4, 5]


@virtual
async def test_under_a_moment_what_is_older_stays_undelivered_though_the_stream_was_resharded_before_it():
    stream, function = FakeStream(), FakeFunction()
    stream.put("shard-0", 2)
    stream.split("shard-0", "left", "right")
    stream.put("left", 2)
    stream.put("right", 2)
    stream.split("right", "right-0", "right-1")
    await anyio.sleep(100)
    moment = now()
    stream.put("left", 1)
    stream.put("right-1", 1)
    stream.split("left", "left-0")
    stream.put("left-0", 2)
    async with world(stream, function, start=At(moment)):
        await until(lambda: len(function.succeeded) >= 4)
        await anyio.sleep(100)
    assert sorted(function.succeeded) == [7, 8, 9, 10]


@virtual
async def test_under_latest_only_what_comes_after_the_first_sight_is_delivered():
    stream, function = FakeStream(), FakeFunction()
    stream.put("shard-0", 10)
    await anyio.sleep(5)
    async with world(stream, function, start=Latest()) as mapping:
        await until(lambda: bool(mapping.told(SourceRead)))
        stream.put("shard-0", 3)
        await until(lambda: function.succeeded == [11, 12, 13])


@virtual
async def test_under_latest_what_came_while_we_were_down_is_delivered_though_nothing_was_read_before():
    stream, function = FakeStream(), FakeFunction()
    stream.put("shard-0", 10)
    await anyio.sleep(5)
    async with MemoryStore().open() as store:
        async with world(stream, function, store, start=Latest()) as mapping:
            await until(lambda: bool(mapping.told(SourceRead)))
        await anyio.sleep(100)
        stream.put("shard-0", 3)
        await anyio.sleep(100)
        async with world(stream, function, store, start=Latest()):
            await until(lambda: len(function.succeeded) >= 3)
    assert function.succeeded == [11, 12, 13]


@virtual
async def test_under_latest_a_child_is_read_from_its_own_beginning():
    stream, function = FakeStream(), FakeFunction()
    await anyio.sleep(5)
    async with world(stream, function, start=Latest()) as mapping:
        await until(lambda: bool(mapping.told(SourceRead)))
        stream.put("shard-0", 1)
        stream.split("shard-0", "left", "right")
        stream.put("left", 2)
        stream.put("right", 2)
        await until(lambda: len(function.succeeded) == 5)


@virtual
async def test_under_latest_shards_closed_at_the_first_sight_are_not_read():
    stream, function = FakeStream(), FakeFunction()
    stream.put("shard-0", 5)
    stream.split("shard-0", "left")
    stream.put("left", 2)
    await anyio.sleep(5)
    async with world(stream, function, start=Latest()):
        await anyio.sleep(5)
        stream.put("left", 1)
        await until(lambda: function.succeeded == [8])
    assert {shard for shard, _ in stream.reads} == {"left"}


@virtual
async def test_a_checkpoint_that_was_trimmed_is_told_as_data_lost_and_reading_goes_on_at_the_oldest_record():
    stream, function = FakeStream(), FakeFunction()
    stream.put("shard-0", 10)
    async with MemoryStore().open() as store:
        async with world(stream, function, store):
            await until(lambda: len(function.succeeded) == 10)
        stream.put("shard-0", 10)
        del stream.shards["shard-0"].records[:15]
        async with world(stream, function, store) as mapping:
            await until(lambda: len(function.succeeded) == 15)
    assert function.succeeded[10:] == [16, 17, 18, 19, 20]
    (dropped,) = mapping.told(RecordsDropped)
    assert (dropped.condition, dropped.first) == ("Trimmed", "10")


@virtual
async def test_a_checkpoint_whose_shard_is_gone_is_told_and_its_children_start():
    stream, function = FakeStream(), FakeFunction()
    stream.put("shard-0", 5)
    async with MemoryStore().open() as store:
        async with world(stream, function, store):
            await until(lambda: len(function.succeeded) == 5)
        stream.split("shard-0", "left")
        stream.put("left", 2)
        stream.shards["shard-0"].listed = False
        async with world(stream, function, store) as mapping:
            await until(lambda: function.succeeded[5:] == [6, 7])
    (dropped,) = mapping.told(RecordsDropped)
    assert (dropped.condition, dropped.shard, dropped.first) == ("Trimmed", "shard-0", "5")


@virtual
async def test_a_listing_that_forgets_a_shard_once_changes_nothing():
    stream, function = FakeStream(), FakeFunction()
    stream.put("shard-0", 5)
    async with MemoryStore().open() as store:
        async with world(stream, function, store):
            await until(lambda: len(function.succeeded) == 5)
        stream.shards["shard-0"].listed = False
        async with world(stream, function, store) as mapping:
            await anyio.sleep(0.5)
            stream.shards["shard-0"].listed = True
            stream.put("shard-0", 1)
            await until(lambda: function.succeeded[5:] == [6])
    assert not mapping.told(RecordsDropped)


@virtual
async def test_a_stream_created_anew_under_the_same_name_starts_afresh():
    stream, function = FakeStream(), FakeFunction()
    stream.put("shard-0", 5)
    async with MemoryStore().open() as store:
        async with world(stream, function, store):
            await until(lambda: len(function.succeeded) == 5)
        again, second = FakeStream(), FakeFunction()
        again.identity = "created-2"
        again.put("shard-0", 3)
        async with world(again, second, store):
            await until(lambda: second.succeeded == [1, 2, 3])


@pytest.mark.parametrize(
    "error",
    [
        Transient("reset"),
        Throttled("slow down"),
        Throttled("slow down", after=9.0),
        IteratorExpired("old"),
        ShardGone(),
    ],
    ids=["a broken connection", "a throttle", "a throttle with a pause", "an expired iterator", "a shard that hid"],
)
@virtual
async def test_a_read_that_fails_in_passing_loses_nothing(error: Exception):
    stream, function = FakeStream(page=10), FakeFunction()
    stream.put("shard-0", 30)
    stream.failures = [error, error, error]  # type: ignore[list-item]
    async with world(stream, function) as mapping:
        await until(lambda: len(function.succeeded) == 30)
        await anyio.sleep(60)
    assert function.succeeded == list(range(1, 31))
    assert len([fact for fact in mapping.told(SourceRead) if fact.reason]) == 3
    assert not mapping.told(RecordsDropped)


@virtual
async def test_a_source_that_denies_reads_is_a_problem_told_and_tried_slowly_while_work_in_flight_ends():
    stream, function = FakeStream(page=10), FakeFunction(seconds=4)
    stream.put("shard-0", 10)
    async with world(stream, function, batch_size=10) as mapping:
        await anyio.sleep(1)
        stream.failures = [Denied("not authorized")] * 3
        await until(lambda: len(function.succeeded) == 10)
        stream.put("shard-0", 10)
        await until(lambda: len(function.succeeded) == 20, within=120)
    assert [fact.reason for fact in mapping.told(MappingProblem)] == ["not authorized"] * 3
    assert [fact.retry_in for fact in mapping.told(MappingProblem)] == pytest.approx([5.875, 11.75, 23.5])


@virtual
async def test_a_source_that_cannot_be_listed_at_the_start_fails_the_mapping():
    stream = FakeStream()
    stream.listing_failures = [NotFound("no stream s")]
    async with MemoryStore().open() as store:
        with pytest.raises(NotFound):
            await run_mapping(World(stream, FakeFunction(), store).tools)


@virtual
async def test_a_listing_that_fails_later_stops_no_shard():
    stream, function = FakeStream(), FakeFunction()
    async with world(stream, function) as mapping:
        await until(lambda: bool(stream.reads))
        stream.listing_failures = [Denied("not authorized to list")]
        for _ in range(100):
            await anyio.sleep(1)
            stream.put("shard-0", 1)
        await anyio.sleep(3)
    assert len(function.succeeded) == 100
    assert [fact.reason for fact in mapping.told(MappingProblem)] == ["not authorized to list"]


@virtual
async def test_a_stale_owner_never_moves_the_checkpoint():
    stream, slow, fast = FakeStream(), FakeFunction(seconds=50), FakeFunction()
    stream.put("shard-0", 100)
    async with MemoryStore().open() as store:
        async with world(stream, slow, store) as stale:
            await anyio.sleep(10)
            async with world(stream, fast, store):
                await until(lambda: len(fast.succeeded) == 100)
            stream.put("shard-0", 100)
            await anyio.sleep(60)
        assert [fact.outcome for fact in stale.told(CheckpointWritten)].count("superseded") == 1
        rows = [row async for key, row in store.scan("m/") if "shard-0" in key]
    assert b'"200"' in rows[0].value
    assert fast.succeeded == list(range(1, 101))
    assert slow.succeeded == [*range(1, 101), *range(101, 201)]


@virtual
async def test_an_idle_shard_is_read_once_a_poll_interval_and_a_busy_one_at_once():
    stream, function = FakeStream(page=10), FakeFunction(seconds=0)
    async with world(stream, function):
        await anyio.sleep(30.5)
        assert 30 <= len(stream.reads) <= 32
        stream.put("shard-0", 1000)
        await anyio.sleep(3)
    assert len(function.succeeded) == 1000


@virtual
async def test_where_the_source_bears_it_records_are_picked_up_soon_after_earlier_ones_and_an_idle_shard_costs_no_more():
    stream, function = FakeStream(), FakeFunction(seconds=0)
    async with world(stream, function, eager=True):
        await anyio.sleep(30.5)
        assert 30 <= len(stream.reads) <= 32
        stream.put("shard-0")
        await until(lambda: function.succeeded == [1], within=1.1)
        await anyio.sleep(0.2)  # it has come to its phase, at most half a tenth later
        for number in range(2, 12):
            stream.put("shard-0")
            await until(lambda: len(function.succeeded) == number, within=0.22 if number == 2 else 0.12)  # noqa: B023
        last = now()
        await anyio.sleep(60)
    after = [at - last for _, at in stream.reads if at > last]
    assert [second - first for first, second in itertools.pairwise(after)][:5] == pytest.approx([0.2, 0.4, 0.8, 1, 1])
    assert 60 <= len(after) <= 63


def moments(stream: FakeStream) -> int:
    """At how many different moments the last eight reads began; what few tasks read one after the other is together."""
    begun = [at for _, at in stream.reads[-8:]]
    return 1 + sum(later - earlier > 0.05 for earlier, later in pairwise(sorted(begun)))


@virtual
async def test_shards_that_bring_records_are_read_apart_and_those_that_bring_none_together():
    stream, function = FakeStream(), FakeFunction(seconds=0)
    stream.shards = {f"shard-{number}": Shard() for number in range(4)}
    chances = iter([0.0, 0.2, 0.4, 0.6])
    async with MemoryStore().open() as store:
        mapping = World(stream, function, store)
        mapping.tools = replace(mapping.tools, chance=lambda: next(chances, 0.5))
        async with mapping.running():
            await anyio.sleep(10.5)
            idle = moments(stream)
            for _ in range(40):
                for shard in stream.shards:
                    stream.put(shard)
                await anyio.sleep(0.25)
            busy = moments(stream)
            await anyio.sleep(30)
            again = moments(stream)
    assert [idle, busy, again] == [2, 8, 2]


@virtual
async def test_a_half_full_batch_leaves_when_its_window_closes():
    stream, function = FakeStream(), FakeFunction()
    async with world(stream, function, window=20.0):
        await anyio.sleep(100)
        stream.put("shard-0", 1)
        arrived = now()
        await anyio.sleep(10)
        stream.put("shard-0", 2)
        await until(lambda: len(function.succeeded) == 3)
    (call,) = function.calls
    assert 20 <= call.at - arrived <= 21.1


@virtual
async def test_a_full_batch_leaves_before_its_window_closes():
    stream, function = FakeStream(), FakeFunction()
    async with world(stream, function, window=300.0, batch_size=10):
        await anyio.sleep(1)
        stream.put("shard-0", 10)
        await until(lambda: len(function.succeeded) == 10, within=2)


@virtual
async def test_the_end_of_a_shard_does_not_wait_for_a_window():
    stream, function = FakeStream(), FakeFunction()
    stream.put("shard-0", 5)
    stream.split("shard-0", "left")
    async with world(stream, function, window=300.0):
        await until(lambda: len(function.succeeded) == 5, within=2)


@virtual
async def test_records_held_for_a_window_are_left_to_the_next_start_when_stopped():
    stream, function = FakeStream(), FakeFunction()
    stream.put("shard-0", 5)
    async with MemoryStore().open() as store:
        async with world(stream, function, store, window=300.0):
            await anyio.sleep(10)
        assert function.calls == []
        async with world(stream, function, store):
            await until(lambda: function.succeeded == [1, 2, 3, 4, 5])


@virtual
async def test_the_standing_of_a_shard_names_its_oldest_unsettled_record_while_a_poison_record_blocks_it():
    stream, function = FakeStream(), poison(3)
    stream.put("shard-0", 2)
    async with world(stream, function) as mapping:
        await until(lambda: len(function.succeeded) == 2)
        await until(lambda: mapping.told(ShardStands)[-1].oldest is None, within=1)
        stream.put("shard-0", 1)
        arrived = now()
        await anyio.sleep(600)
        stands = mapping.told(ShardStands)[-1]
    assert (stands.oldest, stands.held, stands.checkpoint) == (arrived, 1, "2")
    assert stands.attempt > 10


@virtual
async def test_each_invocation_is_told_with_the_age_of_its_last_record():
    stream, function = FakeStream(), FakeFunction()
    stream.put("shard-0", 1)
    await anyio.sleep(50)
    stream.put("shard-0", 1)
    await anyio.sleep(7)
    async with world(stream, function) as mapping:
        await until(lambda: len(function.succeeded) == 2)
    (sent,) = mapping.told(BatchSent)
    assert sent.age == pytest.approx(7, abs=0.1)


@virtual
async def test_many_shards_of_large_pages_and_a_slow_function_stay_under_the_memory_ceiling():
    stream, function = FakeStream(), FakeFunction(seconds=1)
    stream.shards = {f"shard-{index}": Shard() for index in range(50)}
    for shard in stream.shards:
        stream.put(shard, 100, data="x" * 10_000)
    async with MemoryStore().open() as store:
        mapping = World(stream, function, store, batch_size=10)
        mapping.tools.budget.ceiling_bytes = 16 * 1024 * 1024
        most = 0
        async with mapping.running():
            while len(function.succeeded) < 5000:
                await anyio.sleep(0.05)
                most = max(most, mapping.tools.budget.used_bytes)
        assert mapping.tools.budget.used_bytes == 0
    assert most <= 16 * 1024 * 1024
    assert function.most_running >= 45, "the ceiling made shards wait for one another"


@virtual
async def test_a_streams_retention_is_told_at_the_start_and_when_it_was_changed():
    stream = FakeStream(retention=24 * HOUR)
    stream.put("shard-0", 1)
    async with world(stream, FakeFunction()) as mapping:
        await until(lambda: bool(mapping.told(SourceListed)))
        stream.retention = 168 * HOUR
        await until(lambda: mapping.told(SourceListed)[-1].retention == 168 * HOUR, within=130)
    assert mapping.told(SourceListed)[0].retention == 24 * HOUR
