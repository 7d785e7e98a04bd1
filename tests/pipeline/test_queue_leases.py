"""How long a queue's messages are ours, and what becomes of them when that ends, in virtual time."""

import anyio
import pytest

from poller.model.errors import Denied, Transient, causes, told
from poller.model.facts import BatchInvoked, LeaseEnded, MessagesDeleted, MessagesReleased, SourceListed
from poller.model.outcome import Failed, Outcome, Partial, Refused, Replied
from poller.model.policy import Scaling
from poller.model.ports import Admit, Unsettled
from poller.model.record import Cursor, Page
from tests.pipeline.doubles import EPOCH, HOUR, Call, FakeFunction, FakeQueue, until, virtual, world

ONE = Scaling(least=1, start=1, most=1)


def refuse_until(moment: float) -> FakeFunction:
    return FakeFunction(lambda call: Refused(reason="429") if call.at < EPOCH + moment else Replied())


@virtual
async def test_a_large_batch_is_gathered_from_many_receives():
    queue, function = FakeQueue(visibility=600), FakeFunction()
    queue.put(10_050)
    async with world(queue, function, batch_size=10_000, window=30.0):
        await until(lambda: len(queue.deleted) == 10_050)
    assert [len(call.sequences) for call in function.calls] == [10_000, 50]


@virtual
async def test_messages_that_do_not_fit_wait_for_the_next_batch_under_the_same_receipt():
    queue, function = FakeQueue(visibility=600), FakeFunction()
    queue.put(25, data="x" * 1000)
    async with world(queue, function, batch_size=100, window=5.0, event_limit_bytes=20_000):
        await until(lambda: len(queue.deleted) == 25)
    first, second = function.calls
    assert (len(first.sequences), len(second.sequences)) == (19, 6)
    assert second.at - first.at == pytest.approx(5.0, abs=0.1), "the next window opened when the first batch left"
    assert all(message.receives == 1 for message in queue.messages.values())


@virtual
async def test_a_message_that_was_kept_leaves_with_its_own_lease_though_the_window_is_longer():
    queue, function = FakeQueue(visibility=30), FakeFunction()
    queue.put(25, data="x" * 1000)
    async with world(queue, function, batch_size=100, window=300.0, event_limit_bytes=20_000):
        await until(lambda: len(queue.deleted) == 25)
    assert [len(call.sequences) for call in function.calls] == [19, 6]
    assert function.calls[1].at - EPOCH < 16


@virtual
async def test_a_function_that_needs_less_time_lets_a_batch_be_gathered_longer():
    queue, function = FakeQueue(visibility=100), FakeFunction()
    queue.put(1)
    async with world(queue, function, batch_size=100, window=300.0, function_timeout=10.0):
        await until(lambda: len(queue.deleted) == 1, within=100)
    assert function.calls[0].at - EPOCH == pytest.approx(90, abs=0.2)


class SlowReceive(FakeQueue):
    """A queue whose answers wait for room in memory."""

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        page = await super().read(partition, cursor, limit, admit)
        if page.records and self.receives < 2:
            await anyio.sleep(29)
        return page


@virtual
async def test_what_was_received_and_could_not_be_sent_in_time_is_released_and_not_sent():
    queue, function = SlowReceive(visibility=30), FakeFunction()
    queue.put(5)
    async with world(queue, function, batch_size=10, scaling=ONE) as mapping:
        await until(lambda: len(queue.deleted) == 5)
    (fact,) = mapping.told(MessagesReleased)
    assert fact.released == 5
    assert "nearly over" in fact.reason or "before their visibility ended" in fact.reason
    assert [call.sequences for call in function.calls] == [[1, 2, 3, 4, 5]]


@virtual
async def test_a_throttled_batch_is_kept_for_its_lease_and_then_given_back():
    queue, function = FakeQueue(visibility=30), refuse_until(100)
    queue.put(3)
    async with world(queue, function, batch_size=10) as mapping:
        await until(lambda: len(queue.deleted) == 3, within=200)
    tries = [call.at for call in function.calls if call.request_id == "request-1"]
    assert tries[0] - EPOCH < 0.1
    assert 5 < len(tries) < 20
    assert tries[-1] - EPOCH < 28.1
    assert {fact.released for fact in mapping.told(MessagesReleased)} == {3}
    assert 3 <= len(mapping.told(MessagesReleased)) <= 4, "once for each lease, and not in a loop"
    refused = dict.fromkeys(fact.request_id for fact in mapping.told(BatchInvoked) if fact.retry_in is not None)
    assert {fact.request_id for fact in mapping.told(MessagesReleased)} <= refused.keys(), "it is told which batch"


@virtual
async def test_a_function_slower_than_the_lease_is_delivered_twice_and_the_reason_is_told():
    queue, function = FakeQueue(visibility=30), FakeFunction(seconds=40)
    queue.put(1)
    async with world(queue, function, batch_size=1) as mapping:
        await until(lambda: len(function.succeeded) == 2, within=100)
        queue.refuse_delete = set()
        await anyio.sleep(1)
    assert function.succeeded[:2] == [1, 1]
    reasons = [fact.reason for fact in mapping.told(LeaseEnded)]
    assert "the function took 10.0 s longer than the messages were hidden for" in reasons
    assert any(fact.failed and "ReceiptHandleIsInvalid" in fact.reason for fact in mapping.told(MessagesDeleted))


@virtual
async def test_with_one_receive_allowed_a_function_slower_than_the_lease_sends_its_messages_to_the_dead_letter_queue():
    queue, function = FakeQueue(visibility=30, max_receives=1), FakeFunction(seconds=40)
    queue.put(1)
    async with world(queue, function, batch_size=1) as mapping:
        await anyio.sleep(60)
    assert (function.succeeded, queue.dead) == ([1], ["1"])
    assert mapping.told(LeaseEnded)


@virtual
async def test_extended_visibility_keeps_them_from_it():
    queue, function = FakeQueue(visibility=30, max_receives=1), FakeFunction(seconds=3000)
    queue.put(12)
    async with world(queue, function, batch_size=10, extend_visibility=True) as mapping:
        await anyio.sleep(3100)
    assert (sorted(function.succeeded), queue.dead, len(queue.deleted)) == (list(range(1, 13)), [], 12)
    assert not mapping.told(LeaseEnded)
    assert max(seconds for _, seconds in queue.extended) == 30


@virtual
async def test_extended_visibility_holds_while_a_batch_is_gathered_and_while_it_is_throttled():
    queue, function = FakeQueue(visibility=30, max_receives=1), refuse_until(500)
    queue.put(3)
    async with world(queue, function, batch_size=100, window=200.0, extend_visibility=True):
        await until(lambda: len(queue.deleted) == 3, within=700)
    assert function.calls[0].at - EPOCH == pytest.approx(200, abs=0.2)
    assert {call.request_id for call in function.calls} == {"request-1"}


@virtual
async def test_extended_visibility_ends_with_the_batch_and_a_failed_one_comes_back_after_its_visibility():
    queue = FakeQueue(visibility=30)
    function = FakeFunction(lambda call: Failed(reason="Boom") if call.at == EPOCH + 0.01 else Replied(), seconds=100)
    queue.put(1)
    async with world(queue, function, batch_size=1, extend_visibility=True):
        await until(lambda: len(function.calls) == 2, within=200)
        beats = len(queue.extended)
        await until(lambda: len(queue.deleted) == 1, within=200)
        renewed = len(queue.extended)
        await anyio.sleep(300)
        assert len(queue.extended) == renewed
    assert 100 < function.calls[1].at - function.calls[0].at <= 131
    assert beats <= 100 / 5


@virtual
async def test_extended_visibility_stops_after_twelve_hours():
    queue, function = FakeQueue(visibility=600), FakeFunction(seconds=13 * HOUR)
    queue.put(1)
    async with world(queue, function, batch_size=1, extend_visibility=True) as mapping:
        await anyio.sleep(12 * HOUR - 10)
        assert (len(queue.hidden), len(function.calls)) == (1, 1)
        await anyio.sleep(20)
        assert len(function.calls) == 2, "it is visible again, as SQS wants it"
        await anyio.sleep(HOUR)
        assert len(mapping.told(LeaseEnded)) == 1
        mapping.stop.set()
        function.seconds = 0


class Unwilling(FakeQueue):
    """A queue that may not be asked to extend a visibility."""

    async def extend(self, records, seconds):
        raise Denied("sqs ChangeMessageVisibility: the role needs sqs:ChangeMessageVisibility")


@virtual
async def test_a_visibility_that_may_not_be_extended_is_told():
    queue, function = Unwilling(visibility=30), FakeFunction(seconds=25)
    queue.put(1)
    async with world(queue, function, batch_size=1, extend_visibility=True) as mapping:
        await until(lambda: len(queue.deleted) == 1)
    assert "sqs:ChangeMessageVisibility" in mapping.told(LeaseEnded)[0].reason


class Faltering(FakeQueue):
    """A queue that fails, for a while, to extend some of what it is asked to."""

    async def extend(self, records, seconds):
        failing = [each for each in records if each.id == "3" and anyio.current_time() < 20]
        left = await super().extend([each for each in records if each not in failing], seconds)
        return [*left, *(Unsettled(each, "InternalError", passing=True) for each in failing)]


@virtual
async def test_a_visibility_that_could_not_be_extended_for_now_is_extended_with_the_next_beat():
    queue, function = Faltering(visibility=30, max_receives=1), FakeFunction(seconds=100)
    queue.put(5)
    async with world(queue, function, batch_size=10, extend_visibility=True) as mapping:
        await until(lambda: len(queue.deleted) == 5, within=200)
    assert len(function.calls) == 1
    assert {(fact.messages, fact.reason) for fact in mapping.told(LeaseEnded)} == {
        (1, "their visibility could not be extended: InternalError")
    }


@virtual
async def test_a_visibility_that_was_changed_is_noticed():
    queue, function = FakeQueue(visibility=600), FakeFunction()
    async with world(queue, function, batch_size=10):
        queue.put(1)
        await until(lambda: len(queue.deleted) == 1)
        await anyio.sleep(120)
        queue.visibility = 30
        function.behave = lambda call: Refused(reason="429")
        queue.put(1)
        await until(lambda: len(queue.released) == 1, within=29)


@pytest.mark.parametrize("from_the_start", [True, False])
@virtual
async def test_a_queue_without_visibility_is_one_problem_and_no_loop(from_the_start: bool):
    queue, function = FakeQueue(visibility=0 if from_the_start else 30), FakeFunction()
    queue.put(3)

    async def live() -> None:
        async with world(queue, function, batch_size=10):
            await anyio.sleep(100)
            queue.visibility = 0
            queue.put(3)
            await anyio.sleep(1000)

    with pytest.raises(ExceptionGroup) as caught:
        await live()
    assert [type(error) for error in causes(caught.value)] == [Denied]
    assert "visibility timeout is 0 seconds" in told(caught.value)
    assert queue.receives < 120
    assert len(function.calls) == (0 if from_the_start else 1)


@virtual
async def test_only_what_the_function_did_not_list_is_deleted_and_the_rest_waits_out_its_visibility():
    def behave(call: Call) -> Outcome:
        failed = b'{"batchItemFailures": [{"itemIdentifier": "2"}, {"itemIdentifier": "4"}]}'
        return Replied(body=failed if 1 in call.sequences else b"")

    queue, function = FakeQueue(visibility=30), FakeFunction(behave)
    queue.put(5)
    async with world(queue, function, batch_size=10, partial=True) as mapping:
        await until(lambda: len(queue.deleted) == 3)
        assert sorted(queue.deleted) == ["1", "3", "5"]
        await until(lambda: len(queue.deleted) == 5)
    assert [call.sequences for call in function.calls] == [[1, 2, 3, 4, 5], [2, 4]]
    assert function.calls[1].at - function.calls[0].at == pytest.approx(30, abs=0.2)
    assert [type(fact.outcome) for fact in mapping.told(BatchInvoked)] == [Partial, Replied]


@virtual
async def test_a_delete_that_fails_says_why():
    queue, function = FakeQueue(visibility=30), FakeFunction()
    queue.refuse_delete = {"2", "3"}
    queue.put(3)
    async with world(queue, function, batch_size=10) as mapping:
        await until(lambda: len(mapping.told(MessagesDeleted)) == 1)
    (fact,) = mapping.told(MessagesDeleted)
    assert (fact.deleted, fact.failed, fact.reason) == (1, 2, "InternalError")


class Undeletable(FakeQueue):
    """A queue that cannot be reached when messages are to be deleted."""

    async def delete(self, records):
        raise Transient("sqs DeleteMessageBatch: connection reset")


@virtual
async def test_a_queue_that_cannot_be_reached_for_a_delete_says_why_and_its_messages_come_again():
    queue, function = Undeletable(visibility=30), FakeFunction()
    queue.put(3)
    async with world(queue, function, batch_size=10) as mapping:
        await until(lambda: len(function.calls) == 2)
    fact = mapping.told(MessagesDeleted)[0]
    assert (fact.deleted, fact.failed, fact.reason) == (0, 3, "sqs DeleteMessageBatch: connection reset")


@virtual
async def test_a_stop_gives_a_throttled_batch_back_at_once():
    queue = FakeQueue(visibility=600, wait=0.1)  # no receive is under way at the stop, which would take them again
    function = FakeFunction(lambda call: Refused(reason="429", after=300))
    queue.put(3)
    async with world(queue, function, batch_size=10) as mapping:
        await until(lambda: len(function.calls) == 1)
        await anyio.sleep(0.5)
        mapping.stop.set()
    assert len(queue.released) == 3
    assert anyio.current_time() < 5


@virtual
async def test_a_queues_retention_is_told_at_the_start_and_when_it_was_changed():
    queue = FakeQueue(visibility=30)
    async with world(queue, FakeFunction()) as mapping:
        await until(lambda: bool(mapping.told(SourceListed)))
        queue.retention = 14 * 24 * HOUR
        await anyio.sleep(61)
        queue.put(1)
        await until(lambda: len(mapping.told(SourceListed)) > 1)
    assert [fact.retention for fact in mapping.told(SourceListed)] == [4 * 24 * HOUR, 14 * 24 * HOUR]
