"""From the task that reads to the one that delivers: nothing is lost on the way, and nobody waits for somebody who is gone."""

import math

import anyio
import pytest

from poller.mapping.channel import Channel
from poller.stores.memory import MemoryStore
from tests.pipeline.doubles import FakeFunction, FakeStream, until, virtual, world


@virtual
async def test_what_was_put_is_taken_in_order_and_then_that_no_more_will_come():
    channel, taken = Channel[int](1), list[int | None]()

    async def put() -> None:
        for item in range(5):
            assert await channel.put(item)
        channel.close()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(put)
        for _ in range(7):
            taken.append(await channel.take())
            await anyio.sleep(1)
    assert taken == [0, 1, 2, 3, 4, None, None]


@virtual
async def test_a_put_waits_while_as_many_lie_there_as_may():
    channel, put = Channel[int](2), list[int]()

    async def fill() -> None:
        for item in range(5):
            await channel.put(item)
            put.append(item)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fill)
        await anyio.sleep(10)
        assert put == [0, 1]
        assert await channel.take() == 0
        await anyio.sleep(10)
        assert put == [0, 1, 2]
        tasks.cancel_scope.cancel()


@virtual
async def test_without_a_bound_a_put_never_waits():
    channel = Channel[int](math.inf)
    with anyio.fail_after(0):
        for item in range(1000):
            assert await channel.put(item)
    assert [await channel.take() for _ in range(1000)] == list(range(1000))


@virtual
async def test_what_was_put_while_a_take_is_cancelled_was_taken_or_is_there_for_the_next():
    channel, taken = Channel[int](1), list[int | None]()

    async def take() -> None:
        taken.append(await channel.take())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        await anyio.sleep(1)
        assert await channel.put(7)  # the one who waits is woken, and cancelled before it runs
        tasks.cancel_scope.cancel()
    assert taken == [7] or await channel.take() == 7


@virtual
async def test_a_take_that_was_over_before_anything_came_leaves_nothing_behind():
    channel = Channel[int](1)
    with anyio.move_on_after(5):
        await channel.take()
    assert await channel.put(7)
    assert await channel.take() == 7


@virtual
async def test_a_put_that_is_cancelled_puts_nothing():
    channel = Channel[int](1)
    await channel.put(1)
    with anyio.move_on_after(5):
        await channel.put(2)
    assert await channel.take() == 1
    channel.close()
    assert await channel.take() is None


@virtual
async def test_whoever_waits_for_room_learns_that_nobody_takes_any_more():
    channel, answers = Channel[int](1), list[bool]()

    async def put() -> None:
        answers.extend([await channel.put(1), await channel.put(2), await channel.put(3)])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(put)
        await anyio.sleep(1)
        channel.leave()
    assert answers == [True, False, False]


@virtual
async def test_whoever_waits_for_an_item_learns_that_no_more_will_come():
    channel, taken = Channel[int](1), list[int | None]()

    async def take() -> None:
        taken.append(await channel.take())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        await anyio.sleep(1)
        channel.close()
    assert taken == [None]


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("stopped", [moment / 4 for moment in range(1, 30)])
def test_a_stop_at_any_moment_ends_no_shard_before_its_last_record_is_settled(stopped: float, lanes: int):
    @virtual
    async def play() -> None:
        stream, function = FakeStream(page=1), FakeFunction(seconds=1)
        stream.put("shard-0", 6)
        stream.split("shard-0", "child")
        stream.put("child", 1)
        async with MemoryStore().open() as store:
            async with world(stream, function, store, lanes=lanes, batch_size=1) as mapping:
                await anyio.sleep(stopped)
                mapping.stop.set()
            begun = len(function.calls)
            assert len(function.succeeded) == begun, "what was in flight is finished"
            async with world(stream, function, store, lanes=lanes, batch_size=1):
                await until(lambda: 7 in function.succeeded, within=60)
        assert sorted(function.succeeded) == list(range(1, 8))
        assert function.succeeded[-1] == 7

    play()
