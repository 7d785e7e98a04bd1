"""A mapping with filters, in virtual time: what is filtered out is settled without the function, and never too early."""

import anyio

from poller.mapping.filtering import Filters
from poller.model.facts import (
    CheckpointWritten,
    MessagesDeleted,
    RecordsDropped,
    RecordsFiltered,
    ShardStands,
    SourceRead,
)
from poller.model.outcome import Failed, Outcome, Replied
from poller.model.record import event_of
from poller.model.trace import Trace
from poller.stores.memory import MemoryStore
from tests.pipeline.doubles import (
    EPOCH,
    HOUR,
    Call,
    FakeFunction,
    FakeQueue,
    FakeStream,
    World,
    now,
    until,
    virtual,
    world,
)


def sequences(*wanted: object) -> Filters:
    """Lets through the records of these sequence numbers or conditions."""
    (pattern,) = (f'{{"sequence":[{",".join(map(str, wanted))}]}}',)
    return Filters("document", (pattern,))


NOTHING = sequences(0)
ABOVE_10 = sequences('{"numeric":[">",10]}')


def checkpoints(mapping: World) -> list[str]:
    return [fact.position for fact in mapping.told(CheckpointWritten)]


@virtual
async def test_only_records_that_match_reach_the_function_in_order():
    stream, function = FakeStream(), FakeFunction()
    stream.put("shard-0", 300)
    async with world(stream, function, filters=ABOVE_10, batch_size=50) as mapping:
        await until(lambda: len(function.succeeded) == 290)
        await anyio.sleep(3)
    assert function.succeeded == list(range(11, 301))
    assert max(len(call.sequences) for call in function.calls) == 50
    assert sum(fact.records for fact in mapping.told(RecordsFiltered)) == 10
    assert sum(fact.records for fact in mapping.told(SourceRead)) == 300
    assert checkpoints(mapping)[-1] == "300"


@virtual
async def test_the_event_of_records_that_pass_is_that_of_an_unfiltered_mapping():
    events: list[bytes] = []

    class Remembers(FakeFunction):
        async def invoke(self, event: bytes, request_id: str, trace: Trace | None = None) -> Outcome:
            events.append(event)
            return await super().invoke(event, request_id, trace)

    stream = FakeStream()
    made = stream.put("shard-0", 3, data="\u00e9 \\ 1.50")
    async with world(stream, Remembers(), filters=sequences(1, 3)):
        await until(lambda: len(events) == 1)
    assert events == [event_of((made[0], made[2]))]


@virtual
async def test_a_checkpoint_passes_over_records_that_were_all_filtered_out():
    stream, function = FakeStream(), FakeFunction()
    stream.put("shard-0", 100)
    async with MemoryStore().open() as store:
        async with World(stream, function, store, filters=NOTHING).running() as mapping:
            await until(lambda: "100" in checkpoints(mapping), within=3)
            assert mapping.told(ShardStands)[-1].checkpoint == "100"
            assert mapping.told(ShardStands)[-1].held == 0
        async with World(stream, function, store).running():
            stream.put("shard-0", 1)
            await until(lambda: function.succeeded == [101])
    assert [call.sequences for call in function.calls] == [[101]]


@virtual
async def test_a_checkpoint_passes_over_filtered_records_at_most_once_a_second():
    stream, function = FakeStream(page=10), FakeFunction()
    async with world(stream, function, filters=NOTHING, poll_interval=0.05) as mapping:
        for _ in range(600):
            stream.put("shard-0", 5)
            await anyio.sleep(0.1)
        written = len(checkpoints(mapping))
        await anyio.sleep(2)
        assert checkpoints(mapping)[-1] == "3000"
    assert 55 <= written <= 63
    assert mapping.tools.budget.used_bytes == 0


@virtual
async def test_a_stop_commits_filtered_records_at_once():
    stream, function = FakeStream(), FakeFunction()
    stream.put("shard-0", 1)
    async with world(stream, function, filters=NOTHING, poll_interval=0.1) as mapping:
        await until(lambda: checkpoints(mapping)[-1:] == ["1"])
        stream.put("shard-0", 1)
        await anyio.sleep(0.3)
        assert checkpoints(mapping)[-1] == "1"
        mapping.stop.set()
    assert checkpoints(mapping)[-1] == "2"


@virtual
async def test_filtered_records_never_carry_the_checkpoint_over_a_batch_that_is_not_settled():
    def behave(call: Call) -> Outcome:
        return Failed(reason="Boom") if call.at < EPOCH + HOUR else Replied()

    stream, function = FakeStream(page=10), FakeFunction(behave)
    stream.put("shard-0", 5)
    async with world(stream, function, filters=sequences(3)) as mapping:
        for _ in range(50):
            await anyio.sleep(60)
            stream.put("shard-0", 10)
        assert set(checkpoints(mapping)) <= {"TRIM_HORIZON", "1", "2"}
        await anyio.sleep(HOUR)
        assert checkpoints(mapping)[-1] == "505"
    assert function.succeeded == [3]
    assert not mapping.told(RecordsDropped)


@virtual
async def test_filtered_records_never_carry_the_checkpoint_over_a_batch_that_waits_for_its_window():
    stream, function = FakeStream(page=10), FakeFunction()
    stream.put("shard-0", 3)
    start = now()
    async with world(stream, function, filters=sequences(2), window=60.0) as mapping:
        for _ in range(50):
            await anyio.sleep(1)
            stream.put("shard-0", 1)
        assert function.calls == []
        assert set(checkpoints(mapping)) <= {"TRIM_HORIZON", "1"}
        await until(lambda: function.succeeded == [2], within=15)
        await until(lambda: checkpoints(mapping)[-1:] == ["53"], within=2)
    assert now() - start < 70


@virtual
async def test_a_window_opens_with_the_first_record_that_passes():
    stream, function = FakeStream(), FakeFunction()
    async with world(stream, function, filters=ABOVE_10, window=5.0):
        stream.put("shard-0", 10)
        await anyio.sleep(30)
        stream.put("shard-0", 1)
        arrived = now()
        await until(lambda: function.succeeded == [11])
    assert 4.9 <= function.calls[0].at - arrived <= 6.2


@virtual
async def test_a_shard_whose_end_was_filtered_out_ends_and_its_children_start():
    stream, function = FakeStream(), FakeFunction()
    stream.put("shard-0", 5)
    stream.split("shard-0", "left", "right")
    stream.put("left", 5)
    stream.put("right", 5)
    async with world(stream, function, filters=ABOVE_10) as mapping:
        await until(lambda: sorted(function.succeeded) == [11, 12, 13, 14, 15])
    assert "SHARD_END" in checkpoints(mapping)


@virtual
async def test_filtered_records_count_neither_towards_a_batch_nor_as_held():
    stream, function = FakeStream(), FakeFunction(seconds=30)
    stream.put("shard-0", 20)
    async with world(stream, function, filters=ABOVE_10, batch_size=10) as mapping:
        await until(lambda: bool(function.calls))
        assert mapping.told(ShardStands)[-1].held == 10
        assert function.calls[0].sequences == list(range(11, 21))


@virtual
async def test_messages_that_do_not_match_are_deleted_at_once_without_the_function():
    queue, function = FakeQueue(visibility=600), FakeFunction(seconds=100)
    queue.put(10)
    async with world(queue, function, filters=sequences(2, 5), batch_size=10) as mapping:
        await until(lambda: len(queue.deleted) == 8, within=3)
        assert sorted(map(int, queue.deleted)) == [1, 3, 4, 6, 7, 8, 9, 10]
        await until(lambda: len(queue.deleted) == 10, within=200)
    assert [call.sequences for call in function.calls] == [[2, 5]]
    assert sum(fact.deleted for fact in mapping.told(MessagesDeleted)) == 10
    assert mapping.tools.budget.used_bytes == 0


@virtual
async def test_a_batch_whose_last_record_is_filtered_out_after_a_restart_does_not_wait_for_another():
    stream, healed = FakeStream(), False
    function = FakeFunction(lambda call: Replied() if healed else Failed(reason="Boom"))
    stream.put("shard-0", 3)
    async with MemoryStore().open() as store:
        async with world(stream, function, store):
            await until(lambda: len(function.calls) == 3)
        healed = True
        async with world(stream, function, store, filters=sequences(1, 2)) as mapping:
            await until(lambda: len(function.succeeded) == 2, within=5)
            await anyio.sleep(3)
    assert function.succeeded == [1, 2]
    assert checkpoints(mapping)[-1] == "3"


@virtual
async def test_a_queue_whose_messages_never_match_is_emptied_without_pauses():
    queue, function = FakeQueue(wait=20), FakeFunction()
    queue.put(500)
    async with world(queue, function, filters=NOTHING, batch_size=10, poll_interval=20):
        await until(lambda: len(queue.deleted) == 500, within=5)
        assert not queue.hidden
    assert function.calls == []


@virtual
async def test_a_batch_of_a_queue_is_filled_with_messages_that_match():
    queue, function = FakeQueue(wait=1), FakeFunction()
    queue.put(40)
    async with world(queue, function, filters=ABOVE_10, batch_size=30, window=20.0):
        await until(lambda: len(queue.deleted) == 40, within=30)
    assert [len(call.sequences) for call in function.calls] == [30]


@virtual
async def test_a_filtered_message_that_cannot_be_deleted_comes_again_and_is_deleted_then():
    queue, function = FakeQueue(visibility=30), FakeFunction()
    queue.refuse_delete = {"1"}
    queue.put(1)
    async with world(queue, function, filters=NOTHING) as mapping:
        await anyio.sleep(5)
        assert queue.deleted == []
        queue.refuse_delete = set()
        await until(lambda: queue.deleted == ["1"], within=40)
    assert next((fact.deleted, fact.failed) for fact in mapping.told(MessagesDeleted)) == (0, 1)
    assert function.calls == []


@virtual
async def test_a_failing_batch_of_a_queue_does_not_bring_back_what_was_filtered_out():
    queue, function = FakeQueue(visibility=30), FakeFunction(lambda call: Failed(reason="Boom"))
    queue.put(4)
    async with world(queue, function, filters=sequences(2)):
        await anyio.sleep(100)
    assert sorted(queue.deleted) == ["1", "3", "4"]
    assert {tuple(call.sequences) for call in function.calls} == {(2,)}
