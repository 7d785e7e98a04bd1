"""A mapping of a queue, from its messages to their deletion, in virtual time."""

import itertools

import anyio
import pytest

from poller.model.facts import BatchInvoked, MessagesDeleted, MessagesReleased, ShardStands
from poller.model.outcome import Failed, Outcome, Refused, Replied, Unavailable
from poller.model.trace import Trace
from tests.pipeline.doubles import Call, FakeFunction, FakeQueue, now, until, virtual, world


def first_fails(call: Call) -> Outcome:
    return Failed(reason="Boom") if call.request_id == "request-1" else Replied()


@virtual
async def test_a_message_is_deleted_only_after_the_function_succeeded():
    queue, function = FakeQueue(), FakeFunction(seconds=5)
    queue.put(10)
    async with world(queue, function, batch_size=10) as mapping:
        await anyio.sleep(4.9)
        assert queue.deleted == []
        await until(lambda: len(queue.deleted) == 10)
    (fact,) = mapping.told(MessagesDeleted)
    assert (fact.deleted, fact.failed) == (10, 0)


@virtual
async def test_a_failed_batch_is_not_deleted_and_waits_out_its_visibility():
    queue, function = FakeQueue(visibility=30), FakeFunction(first_fails)
    queue.put(3)
    async with world(queue, function, batch_size=10):
        await until(lambda: len(queue.deleted) == 3)
    first, second = function.calls
    assert second.at - first.at == pytest.approx(30, abs=0.2)
    assert queue.released == []


@pytest.mark.parametrize(
    "outcome",
    [Refused(reason="throttled"), Unavailable(reason="502"), Unavailable(reason="no function", lasting=True)],
    ids=["throttled", "service error", "wrong configuration"],
)
@virtual
async def test_a_batch_that_did_not_reach_the_function_is_kept_and_tried_again_within_its_lease(outcome: Outcome):
    answers = itertools.chain([outcome, outcome], itertools.repeat(Replied()))
    queue, function = FakeQueue(visibility=60), FakeFunction(lambda call: next(answers))
    queue.put(3)
    async with world(queue, function, batch_size=10) as mapping:
        await until(lambda: len(queue.deleted) == 3)
    assert [call.sequences for call in function.calls] == [[1, 2, 3]] * 3
    assert {call.request_id for call in function.calls} == {"request-1"}
    assert [fact.attempt for fact in mapping.told(BatchInvoked)] == [1, 2, 3]
    assert queue.receives <= 60 + 2


@virtual
async def test_a_batch_is_never_sent_after_its_lease_ended():
    queue = FakeQueue(visibility=30)
    function = FakeFunction(lambda call: Refused(reason="throttled") if call.at < start + 100 else Replied())
    start = now()
    queue.put(1)
    async with world(queue, function, batch_size=1):
        await until(lambda: queue.deleted == ["1"], within=300)
    receipts = [call for call in function.calls if call.request_id == "request-1"]
    assert max(call.at for call in receipts) < start + 30.1


@virtual
async def test_an_idle_queue_costs_one_long_poll_at_a_time():
    queue, function = FakeQueue(wait=20), FakeFunction()
    most = 0
    async with world(queue, function, batch_size=10, poll_interval=20):
        for _ in range(600):
            await anyio.sleep(1)
            most = max(most, queue.receiving)
    assert most == 1
    assert queue.receives <= 32


@virtual
async def test_batches_of_a_standard_queue_are_in_flight_together_up_to_the_concurrency():
    queue, function = FakeQueue(visibility=600), FakeFunction(seconds=10)
    queue.put(200)
    async with world(queue, function, batch_size=10, concurrency=5):
        await until(lambda: len(queue.deleted) == 200)
    assert function.most_running == 5


@virtual
async def test_nothing_is_received_that_could_not_be_sent_at_once():
    queue, function = FakeQueue(visibility=600), FakeFunction(seconds=100)
    queue.put(200)
    async with world(queue, function, batch_size=10, concurrency=2):
        await anyio.sleep(50)
        assert len(queue.hidden) == 20


@virtual
async def test_a_slow_batch_does_not_delay_the_others():
    class Slow(FakeFunction):
        async def invoke(self, event: bytes, request_id: str, trace: Trace | None = None) -> Outcome:
            if b'"sequence": 1,' in event:
                await anyio.sleep(300)
            return await super().invoke(event, request_id, trace)

    queue = FakeQueue(visibility=600)
    queue.put(1)
    async with world(queue, Slow(), batch_size=1):
        await anyio.sleep(1)
        queue.put(50)
        await until(lambda: len(queue.deleted) == 50, within=60)
        await until(lambda: "1" in queue.deleted, within=600)


@virtual
async def test_a_batch_is_gathered_from_several_receives_until_its_window_closes():
    queue, function = FakeQueue(wait=1), FakeFunction()
    queue.put(25)
    async with world(queue, function, batch_size=100, window=5.0):
        await anyio.sleep(3)
        queue.put(10)
        await until(lambda: len(queue.deleted) == 35)
    assert [len(call.sequences) for call in function.calls] == [35]


@virtual
async def test_a_full_batch_does_not_wait_for_its_window():
    queue, function = FakeQueue(wait=1), FakeFunction()
    queue.put(25)
    async with world(queue, function, batch_size=25, window=300.0):
        await until(lambda: len(queue.deleted) == 25, within=5)


@virtual
async def test_a_stop_finishes_and_deletes_what_is_in_flight_and_gives_back_what_was_not_sent():
    queue, function = FakeQueue(visibility=600), FakeFunction(seconds=10)
    queue.put(10)
    async with world(queue, function, batch_size=100, window=5.0) as mapping:
        await anyio.sleep(6)
        queue.put(7)
        await anyio.sleep(2)
        mapping.stop.set()
    assert len(queue.deleted) == 10
    assert len(queue.released) == 7
    assert not queue.hidden
    (released,) = mapping.told(MessagesReleased)
    assert released.released == 7


@virtual
async def test_a_receive_under_way_at_the_stop_is_not_cancelled_and_its_messages_are_given_back():
    queue, function = FakeQueue(wait=20, visibility=600), FakeFunction()
    async with world(queue, function, batch_size=10) as mapping:
        await anyio.sleep(5)
        mapping.stop.set()
        await anyio.sleep(5)
        queue.put(4)
    assert function.calls == []
    assert sorted(queue.released) == ["1", "2", "3", "4"]
    assert not queue.hidden


@virtual
async def test_a_delete_that_fails_for_one_message_is_told_and_the_message_comes_again():
    queue, function = FakeQueue(visibility=30), FakeFunction()
    queue.refuse_delete = {"2"}
    queue.put(3)
    async with world(queue, function, batch_size=10) as mapping:
        await until(lambda: len(queue.deleted) == 2)
        queue.refuse_delete = set()
        await until(lambda: len(queue.deleted) == 3)
    assert [(fact.deleted, fact.failed) for fact in mapping.told(MessagesDeleted)] == [(2, 1), (1, 0)]
    assert function.succeeded == [1, 2, 3, 2]


@virtual
async def test_a_failed_message_group_stays_in_order_and_does_not_hold_up_the_others():
    attempts = itertools.count()

    def behave(call: Call) -> Outcome:
        return Failed(reason="Boom") if 1 in call.sequences and next(attempts) < 2 else Replied()

    queue, function = FakeQueue(visibility=30, fifo=True), FakeFunction(behave)
    for _ in range(5):
        queue.put(1, key="a")
        queue.put(1, key="b")
    async with world(queue, function, batch_size=1):
        await until(lambda: len(queue.deleted) == 10, within=300)
    assert [each for each in function.succeeded if each % 2] == [1, 3, 5, 7, 9]
    assert [each for each in function.succeeded if not each % 2] == [2, 4, 6, 8, 10]
    assert function.succeeded[:5] == [2, 4, 6, 8, 10]


@virtual
async def test_on_a_fifo_queue_no_batch_of_a_receive_is_sent_after_one_that_failed():
    queue, function = FakeQueue(visibility=30, fifo=True), FakeFunction(lambda call: Failed(reason="Boom"))
    queue.put(6, key="a", data="x" * 100)
    async with world(queue, function, batch_size=10, event_limit_bytes=450):
        await until(lambda: len(function.calls) == 1)
        await anyio.sleep(10)
        assert [call.sequences for call in function.calls] == [[1, 2, 3]]
        assert queue.released == ["4", "5", "6"]


@virtual
async def test_the_standing_of_a_queue_is_empty_once_everything_is_settled():
    queue, function = FakeQueue(), FakeFunction()
    queue.put(30)
    async with world(queue, function, batch_size=10) as mapping:
        await until(lambda: len(queue.deleted) == 30)
        await anyio.sleep(1)
    stands = mapping.told(ShardStands)
    assert max(fact.held for fact in stands) >= 10
    assert (stands[-1].held, stands[-1].oldest) == (0, None)
    assert mapping.tools.budget.used_bytes == 0
