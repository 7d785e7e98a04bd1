"""FIFO: order within a message group, one batch of a group in flight, groups in parallel. In virtual time."""

import json
from collections import Counter

import anyio

from poller.model.facts import LeaseEnded, MessagesReleased
from poller.model.outcome import Failed, Outcome, Replied
from poller.model.trace import Trace
from tests.pipeline.doubles import EPOCH, Call, FakeFunction, FakeQueue, until, virtual, world


class Watching(FakeFunction):
    """A function that notes how many batches with a group ran at once."""

    def __init__(self, queue: FakeQueue, **more: object) -> None:
        super().__init__(**more)  # type: ignore[arg-type]
        self.queue = queue
        self.groups: Counter[str] = Counter()
        self.most_of_a_group = 0
        self.most_groups = 0

    async def invoke(self, event: bytes, request_id: str, trace: Trace | None = None) -> Outcome:
        groups = {json.loads(each["data"])["group"] for each in json.loads(event)["Records"]}
        self.groups.update(groups)
        self.most_of_a_group = max(self.most_of_a_group, *self.groups.values())
        self.most_groups = max(self.most_groups, sum(1 for count in self.groups.values() if count))
        try:
            return await super().invoke(event, request_id, trace)
        finally:
            self.groups.subtract(groups)


def fill(queue: FakeQueue, groups: str, each: int) -> None:
    for _ in range(each):
        for group in groups:
            queue.put(1, key=group, data=json.dumps({"group": group}))


@virtual
async def test_groups_run_in_parallel_and_each_of_them_one_batch_at_a_time_in_order():
    queue = FakeQueue(visibility=600, fifo=True)
    function = Watching(queue, seconds=5)
    fill(queue, "abcdefgh", 20)
    async with world(queue, function, batch_size=3):
        await until(lambda: len(queue.deleted) == 160, within=600)
    assert function.most_of_a_group == 1
    assert function.most_groups >= 5
    for place in range(8):
        mine = [each for each in function.succeeded if each % 8 == (place + 1) % 8]
        assert mine == sorted(mine)
    assert len(function.succeeded) == 160


@virtual
async def test_a_group_that_is_handed_out_again_while_its_function_still_runs_waits_for_it():
    queue = FakeQueue(visibility=30, fifo=True)
    function = Watching(queue, seconds=50)
    fill(queue, "a", 3)
    async with world(queue, function, batch_size=10) as mapping:
        await anyio.sleep(40)
        assert len(queue.hidden) == 3, "it has been handed out again"
        assert len(function.calls) == 1
        await until(lambda: len(function.calls) == 2)
        function.seconds = 1
        await until(lambda: len(queue.deleted) == 3, within=300)
    assert function.most_of_a_group == 1
    assert all(call.sequences == [1, 2, 3] for call in function.calls)
    assert mapping.told(LeaseEnded)


@virtual
async def test_a_group_that_waits_for_its_function_does_not_hold_up_others_of_the_same_receive():
    queue = FakeQueue(visibility=30, fifo=True)
    function = Watching(queue, seconds=50)
    fill(queue, "a", 1)
    async with world(queue, function, batch_size=10):
        await anyio.sleep(29)
        function.seconds = 1
        fill(queue, "b", 1)
        await anyio.sleep(0.5)
        fill(queue, "bc", 2)
        await until(lambda: len(queue.deleted) == 5, within=5)
        assert len(function.calls) >= 2


@virtual
async def test_a_failed_group_holds_back_its_own_messages_of_the_same_receive_and_no_others():
    queue = FakeQueue(visibility=30, fifo=True)

    def behave(call: Call) -> Outcome:
        return Failed(reason="Boom") if 1 in call.sequences and call.at < EPOCH + 10 else Replied()

    function = Watching(queue, behave=behave)
    for group, size in (("a", 300), ("a", 300), ("b", 10), ("a", 300), ("b", 10)):
        queue.put(1, key=group, data=json.dumps({"group": group, "x": "x" * size}))
    async with world(queue, function, batch_size=10, event_limit_bytes=800) as mapping:
        await anyio.sleep(10)
        assert [call.sequences for call in function.calls[:1]] == [[1, 2]]
        assert sorted(queue.deleted) == ["3", "5"]
        await until(lambda: len(queue.deleted) == 5, within=100)
    assert [each for each in function.succeeded if each in {1, 2, 4}] == [1, 2, 4]
    assert mapping.told(MessagesReleased)[0].reason == "a message before them in their group was not settled"


@virtual
async def test_on_a_fifo_queue_too_every_message_that_the_function_did_not_list_is_deleted():
    queue = FakeQueue(visibility=30, fifo=True)
    failures = [b'{"batchItemFailures": [{"itemIdentifier": "2"}]}']
    function = Watching(queue, behave=lambda call: Replied(body=failures.pop() if failures else b""))
    fill(queue, "a", 4)
    async with world(queue, function, batch_size=10, partial=True):
        await until(lambda: len(queue.deleted) == 3)
        assert queue.deleted == ["1", "3", "4"]
        await until(lambda: len(queue.deleted) == 4)
    assert [call.sequences for call in function.calls] == [[1, 2, 3, 4], [2]]


@virtual
async def test_a_delete_that_fails_keeps_the_next_messages_of_its_group_back():
    queue = FakeQueue(visibility=30, fifo=True)
    function = Watching(queue)
    queue.refuse_delete = {"2"}
    for _ in range(4):
        queue.put(1, key="a", data=json.dumps({"group": "a", "x": "x" * 100}))
    async with world(queue, function, batch_size=10, event_limit_bytes=400):
        await anyio.sleep(5)
        assert [call.sequences for call in function.calls] == [[1, 2]]
        queue.refuse_delete = set()
        await until(lambda: len(queue.deleted) == 4)
    assert function.succeeded == [1, 2, 2, 3, 4]
