"""Tumbling windows: state from invocation to invocation, one final invocation, and a restart in between."""

import json
from datetime import datetime
from typing import Any

import anyio
import pytest

from poller.model.facts import CheckpointWritten, RecordsDiverted, RecordsDropped
from poller.model.outcome import Failed, Outcome, Replied
from poller.model.trace import Trace
from poller.stores.memory import MemoryStore
from tests.pipeline.doubles import EPOCH, FakeDestination, FakeFunction, FakeStream, now, until, virtual, world


class Summing(FakeFunction):
    """Adds up how many records its window had; keeps every event it was sent."""

    def __init__(self, fails: Any = lambda event: False) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []
        self.fails = fails

    async def invoke(self, event: bytes, request_id: str, trace: Trace | None = None) -> Outcome:
        seen = json.loads(event)
        self.events.append(seen)
        outcome = await super().invoke(event, request_id, trace)
        if self.fails(seen):
            return Failed(reason="Boom")
        if not isinstance(outcome, Replied) or outcome.body:
            return outcome
        total = seen["state"].get("total", 0) + len(seen["Records"])
        return Replied(body=json.dumps({"state": {"total": total}}).encode())

    def sums(self) -> list[tuple[str, int]]:
        finals = [event for event in self.events if event["isFinalInvokeForWindow"]]
        return [(event["window"]["start"], event["state"].get("total", 0)) for event in finals]


def summing(fails: Any = lambda event: False) -> Summing:
    function = Summing(fails)
    function.behave = lambda call: Replied()
    return function


@virtual
async def test_the_state_goes_from_invocation_to_invocation_and_a_final_one_without_records_ends_the_window():
    stream, function = FakeStream(), summing()
    await anyio.sleep(60 - EPOCH % 60)  # to the beginning of a window
    async with world(stream, function, tumbling=60.0) as mapping:
        for _ in range(5):
            stream.put("shard-0", 3)
            await anyio.sleep(2)
        await anyio.sleep(100)
    finals = [event for event in function.events if event["isFinalInvokeForWindow"]]
    assert sum(total for _, total in function.sums()) == 15
    assert all(event["Records"] == [] and not event["isWindowTerminatedEarly"] for event in finals)
    first = function.events[0]
    assert first["state"] == {}
    assert first["shardId"] == "shard-0"
    assert first["eventSourceARN"].startswith("arn:aws:kinesis")
    assert set(first["window"]) == {"start", "end"}
    assert mapping.told(CheckpointWritten)[-1].position == "15"


@virtual
async def test_a_record_of_a_later_window_ends_the_open_one_first():
    stream, function = FakeStream(), summing()
    for _ in range(4):
        stream.put("shard-0", 2)
        await anyio.sleep(30)
    async with world(stream, function, tumbling=30.0):
        await until(lambda: len(function.sums()) == 4, within=100)
    assert [total for _, total in function.sums()] == [2, 2, 2, 2]
    starts = [start for start, _ in function.sums()]
    assert starts == sorted(set(starts))
    for event in function.events:
        assert len(event["Records"]) in (0, 2)


@virtual
async def test_a_backlog_does_not_close_its_window_before_all_of_it_is_read():
    stream, function = FakeStream(page=1), summing()
    stream.put("shard-0", 20)
    await anyio.sleep(3600)
    async with world(stream, function, tumbling=900.0, batch_size=1):
        await until(lambda: bool(function.sums()), within=600)
    assert [total for _, total in function.sums()] == [20]


@virtual
async def test_a_restart_continues_the_window():
    stream, function = FakeStream(), summing()
    stream.put("shard-0", 3)
    async with MemoryStore().open() as store:
        async with world(stream, function, store, tumbling=900.0):
            await until(lambda: len(function.succeeded) == 3)
        stream.put("shard-0", 4)
        async with world(stream, function, store, tumbling=900.0):
            await until(lambda: bool(function.sums()), within=2000)
    assert sum(total for _, total in function.sums()) == 7
    assert len(function.sums()) == 1


@virtual
async def test_the_end_of_a_shard_ends_its_window_and_the_child_begins_with_an_empty_state():
    stream, function = FakeStream(), summing()
    stream.put("shard-0", 3)
    stream.split("shard-0", "left")
    stream.put("left", 2)
    async with world(stream, function, tumbling=900.0):
        await until(lambda: len(function.succeeded) == 5, within=20)
    assert [event["shardId"] for event in function.events] == ["shard-0", "shard-0", "left"]
    assert function.events[1]["isFinalInvokeForWindow"]
    assert function.events[2]["state"] == {}


@virtual
async def test_a_failing_final_invocation_is_retried_and_its_document_has_no_records():
    stream, destination = FakeStream(), FakeDestination()
    function = summing(lambda event: event["isFinalInvokeForWindow"])
    stream.put("shard-0", 3)
    async with world(stream, function, destination=destination, tumbling=10.0, retry_attempts=2) as mapping:
        await until(lambda: bool(destination.accounts), within=100)
        stream.put("shard-0", 1)
        await until(lambda: 4 in function.succeeded, within=100)
    finals = [event for event in function.events if event["isFinalInvokeForWindow"]]
    assert [event["state"] for event in finals[:3]] == [{"total": 3}] * 3
    (document,) = destination.documents[:1]
    assert set(document["KinesisBatchInfo"]) == {"shardId", "streamArn"}
    assert document["timeWindowInfo"]["isFinalInvokeForWindow"] is True
    assert mapping.told(RecordsDiverted)[0].records == 0


@virtual
async def test_what_is_given_up_of_a_window_is_kept_as_the_event_that_the_function_was_sent():
    stream, destination = FakeStream(), FakeDestination()
    function = summing(lambda event: len(event["Records"]) == 1 or event["isFinalInvokeForWindow"])
    stream.put("shard-0", 3)
    async with world(stream, function, destination=destination, tumbling=60.0, batch_size=2, retry_attempts=1):
        await until(lambda: len(destination.accounts) == 2, within=200)
    one, last = (json.loads(account.event) for account in destination.accounts)
    assert [one, last] == [function.events[2], function.events[-1]]
    assert (len(one["Records"]), one["state"]) == (1, {"total": 2})
    assert (last["Records"], last["isFinalInvokeForWindow"]) == ([], True)


@pytest.mark.parametrize(("record_age", "condition"), [(60.0, "RecordAgeExceeded"), (None, "Expired")])
@virtual
async def test_a_final_invocation_that_fails_is_given_up_when_its_window_is_too_old(
    record_age: float | None, condition: str
):
    stream, destination = FakeStream(retention=300), FakeDestination()
    function = summing(lambda event: event["isFinalInvokeForWindow"])
    stream.put("shard-0", 3)
    async with world(stream, function, destination=destination, tumbling=10.0, record_age=record_age) as mapping:
        await anyio.sleep(400)
        stream.put("shard-0", 1)
        await until(lambda: 4 in function.succeeded)
    given_up = [fact for fact in mapping.facts if isinstance(fact, RecordsDiverted | RecordsDropped)]
    assert [(fact.condition, fact.records) for fact in given_up] == [(condition, 0)]
    assert len(destination.accounts) == (record_age is not None)
    assert len(function.calls) > 5, "it was tried until then"


@virtual
async def test_the_document_of_records_that_were_too_old_for_the_function_names_their_window():
    stream, destination = FakeStream(), FakeDestination()
    await anyio.sleep(60 - EPOCH % 60)
    stream.put("shard-0", 3)
    began = now()
    await anyio.sleep(100)
    async with world(stream, summing(), destination=destination, tumbling=10.0, record_age=60.0):
        await until(lambda: bool(destination.accounts))
    (document,) = destination.documents
    start = datetime.fromisoformat(document["timeWindowInfo"]["window"]["start"])
    assert start.timestamp() == began


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b'{"total": 1}', b'{"state": 7}', b"no json"])
@virtual
async def test_an_answer_without_a_state_is_a_failed_invocation(body: bytes):
    stream, function, destination = FakeStream(), FakeFunction(lambda call: Replied(body=body)), FakeDestination()
    stream.put("shard-0", 1)
    async with world(stream, function, destination=destination, tumbling=10.0, retry_attempts=1):
        await until(lambda: bool(destination.accounts), within=10)
    assert len(function.calls) == 2


@virtual
async def test_a_state_above_a_mebibyte_ends_the_window_at_once_with_both_flags():
    large = json.dumps({"state": {"x": "y" * 1_048_640}}).encode()
    stream, function = FakeStream(), summing()
    function.behave = lambda call: Replied(body=large if 2 in call.sequences else b"")
    stream.put("shard-0", 3)
    async with world(stream, function, tumbling=900.0, batch_size=1):
        await until(lambda: 3 in function.succeeded, within=20)
    early = function.events[2]
    assert early["isFinalInvokeForWindow"]
    assert early["isWindowTerminatedEarly"]
    assert early["Records"] == []
    assert len(early["state"]["x"]) == 1_048_640
    assert function.events[3]["state"] == {}


@virtual
async def test_a_state_above_a_mebibyte_that_came_with_a_stop_ends_its_window_after_the_restart():
    large = json.dumps({"state": {"x": "y" * 1_048_640}}).encode()
    stream, function = FakeStream(), summing()
    function.behave = lambda call: Replied(body=large if 1 in call.sequences else b"")
    function.seconds = 1.0
    stream.put("shard-0", 2)
    async with MemoryStore().open() as store:
        async with world(stream, function, store, tumbling=900.0, batch_size=1):
            await until(lambda: len(function.events) == 1)
        async with world(stream, function, store, tumbling=900.0, batch_size=1):
            await until(lambda: 2 in function.succeeded, within=20)
    _, early, second, *_ = function.events
    assert early["isWindowTerminatedEarly"]
    assert early["Records"] == []
    assert len(early["state"]["x"]) == 1_048_640
    assert second["state"] == {}


@virtual
async def test_a_failed_batch_is_retried_with_the_state_it_was_first_sent_with():
    stream = FakeStream()
    tries = iter([True, True])
    function = summing(lambda event: len(event["Records"]) == 2 and next(tries, False))
    stream.put("shard-0", 1)
    async with world(stream, function, tumbling=900.0, batch_size=2):
        await until(lambda: len(function.events) == 1)
        stream.put("shard-0", 2)
        await until(lambda: len(function.events) == 4, within=30)
    assert [event["state"] for event in function.events[1:]] == [{"total": 1}] * 3


@virtual
async def test_lanes_that_stood_apart_before_the_mapping_had_windows_hand_on_one_state_one_after_the_other():
    stream = FakeStream()
    before = FakeFunction(
        lambda call: Failed(reason="Boom") if any(each % 4 == 0 for each in call.sequences) else Replied()
    )
    for number in range(200):
        stream.put("shard-0", 1, key=str(number % 40))
    async with MemoryStore().open() as store:
        async with world(stream, before, store, lanes=4, batch_size=5):
            await anyio.sleep(20)
        function = summing()
        async with world(stream, function, store, tumbling=10.0, batch_size=5):
            await anyio.sleep(100)
    assert before.succeeded
    assert sorted(before.succeeded + function.succeeded) == list(range(1, 201))
    assert function.succeeded == sorted(function.succeeded)
    assert sum(total for _, total in function.sums()) == len(function.succeeded)
    assert function.most_running == 1
