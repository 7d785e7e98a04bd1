"""A task of a queue goes on with the next receive by itself: what that saves, and that it ends, in virtual time."""

from __future__ import annotations

import anyio
import pytest
import trio

from poller.model.outcome import Refused, Replied
from poller.model.policy import Scaling
from tests.pipeline.doubles import EPOCH, FakeFunction, FakeQueue, until, virtual, world


class Spawned(trio.abc.Instrument):
    """Counts the tasks that are begun."""

    def __init__(self) -> None:
        self.tasks = 0

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.tasks += 1


class Body(bytes):
    """A message's body that says when it leaves memory."""

    gone: list[bytes]

    def __del__(self) -> None:
        self.gone.append(bytes(self))


@virtual
async def test_neither_a_batch_of_a_busy_queue_nor_a_receive_of_an_idle_one_needs_a_task_of_its_own():
    queue, function, spawned = FakeQueue(), FakeFunction(), Spawned()
    queue.put(2000)
    async with world(queue, function, batch_size=10, scaling=Scaling(most=5)):
        trio.lowlevel.add_instrument(spawned)
        await until(lambda: len(queue.deleted) == 2000)
        assert len(function.calls) >= 200
        assert function.most_running == 5
        before = queue.receives
        await anyio.sleep(600)
        assert queue.receives > before + 500
        trio.lowlevel.remove_instrument(spawned)
    assert spawned.tasks < 30


@pytest.mark.parametrize("window", [0.0, 3.0])
@pytest.mark.parametrize("fifo", [False, True], ids=["standard", "FIFO"])
@virtual
async def test_a_task_that_goes_on_by_itself_ends_at_the_stop(fifo: bool, window: float):
    queue, function = FakeQueue(visibility=600, fifo=fifo), FakeFunction()
    for number in range(3000):
        queue.put(1, key=f"g{number % 40}")
    async with world(queue, function, batch_size=10, window=0.0 if fifo else window) as mapping:
        await anyio.sleep(1)
        receives, calls = queue.receives, len(function.calls)
        assert calls > 10
        mapping.stop.set()
    assert queue.receives == receives
    assert queue.messages, "there was more"
    assert queue.hidden == []
    assert sorted(map(int, queue.deleted)) == sorted(function.succeeded)


@virtual
async def test_a_message_that_is_deleted_leaves_memory_though_its_task_receives_again():
    gone: list[bytes] = []
    queue, function = FakeQueue(visibility=2, wait=20), FakeFunction()
    for number in range(1, 41):
        body = Body(b'{"sequence": %d}' % number)
        body.gone = gone
        queue.put_body(body)
    del body
    async with world(queue, function, batch_size=10):
        await until(lambda: len(queue.deleted) == 40)
        await anyio.sleep(5)
        assert queue.receiving
        assert len(gone) == 40


@virtual
async def test_a_place_that_the_recovering_function_gives_back_is_used_though_a_receive_is_waiting():
    queue = FakeQueue(visibility=6000, wait=20)
    function = FakeFunction(lambda call: Refused(reason="429") if call.at - EPOCH < 30 else Replied(), seconds=0.5)
    queue.put(10)
    async with world(queue, function, batch_size=1, scaling=Scaling(most=4)):
        await until(lambda: len(queue.deleted) == 10, within=300)
        queue.put(400)
        await until(lambda: function.running == 4, within=60)
