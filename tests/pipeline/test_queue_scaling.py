"""How many receives and batches of a queue are under way, in virtual time."""

import anyio

from poller.model.outcome import Failed, Refused, Replied
from poller.model.policy import Scaling
from tests.pipeline.doubles import EPOCH, FakeFunction, FakeQueue, until, virtual, world


@virtual
async def test_a_backlog_is_begun_with_five_batches_and_grows_by_three_hundred_in_a_minute():
    queue, function = FakeQueue(visibility=6000), FakeFunction(seconds=1000)
    queue.put(20_000)
    async with world(queue, function, batch_size=10):
        await anyio.sleep(0.1)
        assert function.running == 5
        await anyio.sleep(60)
        assert 290 <= function.running <= 306
        await anyio.sleep(240)
        assert function.running == 1250


@virtual
async def test_maximum_concurrency_is_never_exceeded():
    queue, function = FakeQueue(visibility=600), FakeFunction(seconds=3)
    queue.put(3000)
    async with world(queue, function, batch_size=10, scaling=Scaling(most=7)):
        await until(lambda: len(queue.deleted) == 3000, within=300)
    assert function.most_running == 7


@virtual
async def test_provisioned_pollers_begin_with_ten_batches_each():
    queue, function = FakeQueue(visibility=600), FakeFunction(seconds=60)
    queue.put(3000)
    rule = Scaling(least=30, start=30, most=50, per_minute=1000)
    async with world(queue, function, batch_size=10, scaling=rule):
        await anyio.sleep(0.2)
        assert 30 <= function.running <= 33
        await anyio.sleep(10)
        assert function.running == 50


@virtual
async def test_a_throttled_function_is_asked_by_fewer_and_fewer_and_by_more_when_it_recovers():
    queue = FakeQueue(visibility=600)
    function = FakeFunction(lambda call: Refused(reason="429") if 20 < call.at - EPOCH < 200 else Replied(), seconds=1)
    queue.put(30_000)
    async with world(queue, function, batch_size=10):
        await anyio.sleep(20)
        assert function.running > 50
        await anyio.sleep(179)
        calls = len(function.calls)
        await until(lambda: len(function.calls) > calls + 1000, within=200)
        assert function.running > 20
        await until(lambda: not queue.messages, within=3000)
    assert sorted(function.succeeded) == list(range(1, 30_001)), "each once, though it was throttled for minutes"


@virtual
async def test_a_failing_function_shrinks_to_two_batches_but_not_under_report_batch_item_failures():
    running = {}
    for partial in (False, True):
        queue, function = FakeQueue(visibility=10), FakeFunction(lambda call: Failed(reason="Boom"), seconds=1)
        queue.put(30_000)
        async with world(queue, function, batch_size=10, partial=partial):
            await anyio.sleep(60)
            running[partial] = function.running
    assert running[False] <= 8
    assert running[True] > 100


@virtual
async def test_receives_run_in_parallel_only_while_they_come_back_full():
    queue, function = FakeQueue(visibility=600, wait=20), FakeFunction()
    queue.put(3000)
    async with world(queue, function, batch_size=10, poll_interval=20):
        await until(lambda: len(queue.deleted) == 3000)
        assert queue.most_receiving > 3
        await anyio.sleep(25)
        queue.most_receiving = 0
        for _ in range(20):
            queue.put(3)
            await anyio.sleep(13)
        assert queue.most_receiving == 1
        before = queue.receives
        await anyio.sleep(600)
        assert queue.receives - before <= 31
    assert len(queue.deleted) == 3060


@virtual
async def test_a_batch_of_thousands_is_received_in_parallel():
    queue, function = FakeQueue(visibility=600), FakeFunction()
    queue.put(5000)
    async with world(queue, function, batch_size=5000, window=60.0):
        await until(lambda: len(queue.deleted) == 5000, within=2)
    assert [len(call.sequences) for call in function.calls] == [5000]


@virtual
async def test_a_queue_shrinks_to_where_it_began_when_it_is_idle():
    queue, function = FakeQueue(visibility=6000), FakeFunction(seconds=10)
    queue.put(10_000)
    async with world(queue, function, batch_size=10):
        await until(lambda: not queue.messages, within=300)
        assert function.most_running > 50
        await anyio.sleep(60)
        function.most_running, function.seconds = 0, 1000
        queue.put(1000)
        await anyio.sleep(0.1)
        assert function.most_running == 5
