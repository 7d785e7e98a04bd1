"""What a mapping does when its surroundings misbehave for long, in virtual time: it waits, and it loses nothing."""

import anyio
import pytest

from poller.model.errors import NotFound, PollerError, ShardGone, Trimmed
from poller.model.facts import BatchInvoked, MappingProblem, RecordsDropped
from poller.model.outcome import Failed, Outcome, Replied
from poller.model.ports import Admit
from poller.model.record import Cursor, Page
from tests.pipeline.doubles import EPOCH, HOUR, Call, FakeFunction, FakeQueue, FakeStream, now, until, virtual, world


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
