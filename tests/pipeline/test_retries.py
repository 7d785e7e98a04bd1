"""The facts of Lambda's retry rules, each as the exact sequence of invocations that follows.

A sequence is written as the records sent, "x" behind those that failed; request ids are compared where they matter.
"""

import json
from collections.abc import Iterable

import anyio
import pytest

from poller.model.errors import Denied
from poller.model.facts import BatchInvoked, CheckpointWritten, DestinationFailed, RecordsDiverted, RecordsDropped
from poller.model.outcome import Failed, Outcome, Refused, Replied, Unavailable
from poller.stores.memory import MemoryStore
from tests.pipeline.doubles import (
    EPOCH,
    HOUR,
    Call,
    FakeDestination,
    FakeFunction,
    FakeStream,
    Shard,
    until,
    virtual,
    world,
)


def raises_on(*poison: int) -> FakeFunction:
    return FakeFunction(lambda call: Failed(reason="Boom") if set(poison) & set(call.sequences) else Replied())


def reports(*poison: int) -> FakeFunction:
    """A function that names the poison records of its batch."""

    def behave(call: Call) -> Outcome:
        failures = [{"itemIdentifier": str(each)} for each in call.sequences if each in poison]
        return Replied(body=json.dumps({"batchItemFailures": failures}).encode())

    return FakeFunction(behave)


def sequence(function: FakeFunction, failed: Iterable[BatchInvoked]) -> list[str]:
    outcomes = [not isinstance(fact.outcome, Replied) for fact in failed]
    return [
        "".join(str(each) for each in call.sequences) + ("x" if bad else "")
        for call, bad in zip(function.calls, outcomes, strict=True)
    ]


async def story(function: FakeFunction, records: int, seconds: float = 30, **policy):
    stream, destination = FakeStream(), FakeDestination()
    stream.put("shard-0", records)
    async with world(stream, function, destination=destination, **policy) as mapping:
        await anyio.sleep(seconds)
    return mapping, destination


@virtual
async def test_bisecting_isolates_a_poison_record_left_half_first_and_retries_it_alone():
    function = raises_on(2)
    mapping, destination = await story(function, 4, retry_attempts=1, bisect=True)
    assert sequence(function, mapping.told(BatchInvoked)) == ["1234x", "12x", "1", "2x", "2x", "34"]
    (document,) = destination.documents
    assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert document["requestContext"]["approximateInvokeCount"] == 2
    assert document["requestContext"]["requestId"] == function.calls[3].request_id
    info = document["KinesisBatchInfo"]
    assert (info["startSequenceNumber"], info["endSequenceNumber"], info["batchSize"]) == ("2", "2", 1)
    assert mapping.told(CheckpointWritten)[-1].position == "4"


@virtual
async def test_a_retry_of_an_unchanged_batch_keeps_its_request_id_and_a_changed_batch_has_a_new_one():
    function = raises_on(2)
    await story(function, 4, retry_attempts=1, bisect=True)
    ids = [call.request_id for call in function.calls]
    assert ids[3] == ids[4]
    assert len(set(ids)) == 5


@virtual
async def test_a_failing_last_record_is_invoked_once_in_its_batch_and_then_as_often_as_its_own_budget_says():
    function = reports(4)
    mapping, destination = await story(function, 4, retry_attempts=3, partial=True)
    assert sequence(function, mapping.told(BatchInvoked)) == ["1234x", "4x", "4x", "4x", "4x"]
    assert destination.documents[0]["requestContext"]["approximateInvokeCount"] == 4
    assert destination.documents[0]["responseContext"]["functionError"] is None


@virtual
async def test_a_partial_answer_naming_the_first_record_is_an_ordinary_failure_of_the_same_batch():
    function = reports(1)
    mapping, destination = await story(function, 3, retry_attempts=2, partial=True)
    assert sequence(function, mapping.told(BatchInvoked)) == ["123x", "123x", "123x"]
    assert len({call.request_id for call in function.calls}) == 1
    assert destination.documents[0]["KinesisBatchInfo"]["batchSize"] == 3


@virtual
async def test_bisecting_halves_what_a_partial_answer_left():
    function = reports(2)
    mapping, _ = await story(function, 4, retry_attempts=0, bisect=True, partial=True)
    assert sequence(function, mapping.told(BatchInvoked)) == ["1234x", "2x", "34"]
    assert mapping.told(CheckpointWritten)[-1].position == "4"


@virtual
async def test_a_function_error_bisects_though_partial_answers_are_on():
    function = raises_on(3)
    mapping, _ = await story(function, 4, retry_attempts=0, bisect=True, partial=True)
    assert sequence(function, mapping.told(BatchInvoked)) == ["1234x", "12", "34x", "3x", "4"]


@virtual
async def test_without_bisect_a_failing_batch_is_retried_whole_and_given_up_whole():
    function = raises_on(2)
    mapping, destination = await story(function, 3, retry_attempts=2)
    assert sequence(function, mapping.told(BatchInvoked)) == ["123x", "123x", "123x"]
    assert destination.documents[0]["KinesisBatchInfo"]["batchSize"] == 3
    (told,) = mapping.told(RecordsDiverted)
    assert (told.records, told.condition) == (3, "RetryAttemptsExhausted")
    assert not mapping.told(RecordsDropped)


@virtual
async def test_no_retries_means_one_attempt():
    function = raises_on(1)
    mapping, destination = await story(function, 1, retry_attempts=0)
    assert sequence(function, mapping.told(BatchInvoked)) == ["1x"]
    assert destination.documents[0]["requestContext"]["approximateInvokeCount"] == 1


@virtual
async def test_progress_renews_the_budget_and_pauses_for_nothing():
    function = reports(2, 3)
    mapping, destination = await story(function, 4, retry_attempts=1, partial=True)
    assert sequence(function, mapping.told(BatchInvoked)) == ["1234x", "234x", "234x"]
    assert function.calls[1].at - function.calls[0].at < 0.1
    assert function.calls[2].at - function.calls[1].at > 0.2
    assert destination.documents[0]["KinesisBatchInfo"]["batchSize"] == 3


@pytest.mark.parametrize(
    "outcome", [Refused(reason="429"), Unavailable(reason="502")], ids=["throttle", "service error"]
)
@virtual
async def test_a_call_that_did_not_reach_the_function_spends_no_attempt_and_does_not_bisect(outcome: Outcome):
    function = FakeFunction(lambda call: outcome if call.at < EPOCH + 20 else Failed(reason="Boom"))
    stream, destination = FakeStream(), FakeDestination()
    stream.put("shard-0", 1)
    async with world(stream, function, destination=destination, retry_attempts=2, bisect=True) as mapping:
        await anyio.sleep(300)
    late = [call for call in function.calls if call.at >= EPOCH + 20]
    assert len(late) == 3
    assert len(function.calls) > 6
    assert len({fact.request_id for fact in mapping.told(BatchInvoked)}) == 1
    assert destination.documents[0]["requestContext"]["approximateInvokeCount"] == 3


@virtual
async def test_throttles_let_the_record_age_run():
    function = FakeFunction(lambda call: Refused(reason="429"))
    mapping, destination = await story(function, 2, seconds=400, record_age=60.0)
    assert destination.documents[0]["requestContext"]["condition"] == "RecordAgeExceeded"
    assert max(call.at for call in function.calls) < EPOCH + 60
    assert mapping.told(CheckpointWritten)[-1].position == "2"


@virtual
async def test_a_record_that_grew_too_old_is_told_with_as_many_invocations_as_there_were():
    function = raises_on(1)
    _, destination = await story(function, 1, seconds=400, record_age=60.0)
    assert len(function.calls) > 3
    assert destination.documents[0]["requestContext"]["approximateInvokeCount"] == len(function.calls)


@virtual
async def test_a_batch_too_large_spends_its_budget_and_the_next_record_is_delivered():
    big = Failed(reason="413", ran=False, error=None)
    function = FakeFunction(lambda call: big if 1 in call.sequences else Replied())
    mapping, destination = await story(function, 2, retry_attempts=2, batch_size=1)
    assert sequence(function, mapping.told(BatchInvoked)) == ["1x", "1x", "1x", "2"]
    (document,) = destination.documents
    assert "responseContext" not in document
    assert document["requestContext"]["approximateInvokeCount"] == 3


@virtual
async def test_only_the_expired_head_of_a_batch_is_given_up_and_the_rest_is_delivered():
    stream, destination, function = FakeStream(), FakeDestination(), FakeFunction()
    stream.put("shard-0", 1)
    await anyio.sleep(100)
    stream.put("shard-0", 5)
    async with world(stream, function, destination=destination, record_age=60.0) as mapping:
        await until(lambda: len(function.succeeded) == 5)
    (document,) = destination.documents
    assert document["KinesisBatchInfo"]["batchSize"] == 1
    assert document["requestContext"]["approximateInvokeCount"] == 1
    assert document["requestContext"]["requestId"]
    assert "responseContext" not in document
    assert [call.sequences for call in function.calls] == [[2, 3, 4, 5, 6]]
    assert mapping.told(RecordsDiverted)[0].condition == "RecordAgeExceeded"


@virtual
async def test_a_record_too_old_at_the_start_is_never_invoked():
    stream, destination, function = FakeStream(), FakeDestination(), FakeFunction()
    stream.put("shard-0", 3)
    await anyio.sleep(100)
    async with world(stream, function, destination=destination, record_age=60.0) as mapping:
        await until(lambda: bool(destination.accounts))
        await anyio.sleep(1)
    assert function.calls == []
    assert mapping.told(CheckpointWritten)[-1].position == "3"


@virtual
async def test_records_expire_while_a_batching_window_is_open():
    stream, destination, function = FakeStream(), FakeDestination(), FakeFunction()
    stream.put("shard-0", 1)
    async with world(stream, function, destination=destination, record_age=60.0, window=300.0) as mapping:
        await anyio.sleep(70)
        assert [fact.condition for fact in mapping.told(RecordsDiverted)] == ["RecordAgeExceeded"]
    assert function.calls == []


@virtual
async def test_records_too_old_are_given_up_in_order_though_full_batches_and_a_rest_of_them_wait_together():
    stream, destination, function = FakeStream(), FakeDestination(), FakeFunction()
    stream.put("shard-0", 5)
    await anyio.sleep(100)
    async with world(stream, function, destination=destination, record_age=60.0, batch_size=2) as mapping:
        await until(lambda: len(destination.accounts) == 3)
        await anyio.sleep(1)
    assert [fact.last for fact in mapping.told(RecordsDiverted)] == ["2", "4", "5"]
    assert [fact.position for fact in mapping.told(CheckpointWritten)] == ["TRIM_HORIZON", "2", "4", "5"]


@virtual
async def test_about_eight_attempts_fit_in_a_minute_of_age():
    function = raises_on(1)
    await story(function, 1, seconds=200, record_age=60.0)
    assert 7 <= len(function.calls) <= 9


@virtual
async def test_a_destination_that_fails_does_not_hold_up_the_shard_and_its_records_count_as_dropped():
    stream, function, destination = FakeStream(), raises_on(1), FakeDestination()
    destination.refusals = [Denied("not authorized to sqs:SendMessage")]
    stream.put("shard-0", 2)
    async with world(stream, function, destination=destination, retry_attempts=0, batch_size=1) as mapping:
        await until(lambda: function.succeeded == [2])
    (failed,) = mapping.told(DestinationFailed)
    assert failed.reason == "not authorized to sqs:SendMessage"
    (dropped,) = mapping.told(RecordsDropped)
    assert (dropped.condition, dropped.records) == ("RetryAttemptsExhausted", 1)


@virtual
async def test_what_the_source_itself_dropped_has_no_document():
    stream, function, destination = FakeStream(), raises_on(1), FakeDestination()
    stream.put("shard-0", 1)
    async with world(stream, function, destination=destination, poll_interval=300) as mapping:
        await anyio.sleep(25 * HOUR)
    assert destination.accounts == []
    assert [fact.condition for fact in mapping.told(RecordsDropped)] == ["Expired"]


@pytest.mark.parametrize("kill_at", [0.5, 1.0, 2.0, 5.0])
@virtual
async def test_a_restart_goes_on_with_the_same_batch_the_same_request_id_and_the_same_budget(kill_at: float):
    stream, function, destination = FakeStream(), raises_on(3), FakeDestination()
    stream.put("shard-0", 4)
    async with MemoryStore().open() as store:
        with anyio.move_on_after(kill_at):
            async with world(stream, function, store, destination=destination, retry_attempts=5):
                await anyio.sleep_forever()
        stream.put("shard-0", 3)
        async with world(stream, function, store, destination=destination, retry_attempts=5):
            await until(lambda: 7 in function.succeeded)
    stuck = [call for call in function.calls if 3 in call.sequences]
    assert {tuple(call.sequences) for call in stuck} == {(1, 2, 3, 4)}
    assert len({call.request_id for call in stuck}) == 1
    assert 6 <= len(stuck) <= 7, "at most the attempt that the kill cut short is made again"
    assert destination.documents[0]["requestContext"]["approximateInvokeCount"] == 6


@virtual
async def test_a_restart_in_the_middle_of_a_bisection_goes_on_with_its_halves():
    stream, function, destination = FakeStream(page=3), raises_on(2), FakeDestination()
    stream.put("shard-0", 8)
    options = {"destination": destination, "retry_attempts": 3, "bisect": True}
    async with MemoryStore().open() as store:
        stream.page = 1000
        with anyio.move_on_after(0.5):
            async with world(stream, function, store, **options):
                await anyio.sleep_forever()
        before = [call.sequences for call in function.calls]
        assert before[:4] == [[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4], [1, 2], [1]]
        stream.page = 3
        async with world(stream, function, store, **options):
            await until(lambda: 8 in function.succeeded)
    after = [call.sequences for call in function.calls[len(before) :]]
    assert [each for each in after if each != [2]] == [[3, 4], [5, 6, 7, 8]]
    assert sorted(function.succeeded) == [1, 3, 4, 5, 6, 7, 8]
    assert [call.sequences for call in function.calls].count([2]) in (4, 5)


@virtual
async def test_a_poison_record_given_up_in_one_shard_leaves_the_others_alone():
    stream, function = FakeStream(), raises_on(1)
    stream.shards = {"a": Shard(), "b": Shard()}
    stream.put("a", 2)
    stream.put("b", 2)
    async with world(stream, function, retry_attempts=1, bisect=True) as mapping:
        await until(lambda: sorted(function.succeeded) == [2, 3, 4])
    assert [(fact.shard, fact.records) for fact in mapping.told(RecordsDropped)] == [("a", 1)]


@virtual
async def test_a_day_of_failures_costs_one_invocation_for_each_step_of_the_back_off():
    function = raises_on(1)
    stream = FakeStream(retention=48 * HOUR)
    stream.put("shard-0", 1)
    async with world(stream, function, poll_interval=300):
        await anyio.sleep(24 * HOUR)
    assert len(function.calls) <= 24 * 60 + 12
