"""The row of a shard that several want to write: one write at a time, which those share who ask meanwhile."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from poller.mapping.commit import Checkpoint
from poller.mapping.row import ShardRow, decode_shard
from poller.model.errors import Superseded
from poller.model.ports import Store
from poller.model.record import After, TrimHorizon
from poller.stores.memory import MemoryStore
from tests.pipeline.doubles import FakeFunction, FakeStream, StoreAround, World, virtual

KEY = "m/stream/shard-0"


class SlowStore(StoreAround):
    """Takes a second for each write, and knows what was written and how many wrote at once."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.positions: list[str] = []
        self.writing = 0
        self.most_writing = 0

    async def put(self, key: str, value: bytes, expected: int) -> int:
        self.writing += 1
        self.most_writing = max(self.most_writing, self.writing)
        try:
            await anyio.sleep(1)
            version = await super().put(key, value, expected)
        finally:
            self.writing -= 1
        position = decode_shard(value).position
        self.positions.append(position.sequence if isinstance(position, After) else "")
        return version


@asynccontextmanager
async def a_row() -> AsyncIterator[tuple[SlowStore, Checkpoint]]:
    async with MemoryStore().open() as store:
        slow = SlowStore(store)
        tools = World(FakeStream(), FakeFunction(), slow).tools
        yield slow, Checkpoint(tools, KEY, "shard-0", ShardRow(position=TrimHorizon()), 0)


def at(sequence: int) -> Callable[[], ShardRow]:
    return lambda: ShardRow(position=After(str(sequence)))


@virtual
async def test_whoever_asks_while_a_write_is_under_way_shares_the_next_one():
    async with a_row() as (store, checkpoint):
        async with anyio.create_task_group() as tasks:
            for sequence in range(1, 6):
                tasks.start_soon(checkpoint.save, at(sequence))
                await anyio.sleep(0.1)
        assert store.positions == ["1", "5"]
        assert store.most_writing == 1
        assert checkpoint.position == After("5")
        assert anyio.current_time() == 2.0


@virtual
async def test_nobody_waits_longer_than_for_the_write_that_covers_what_it_asked_for():
    ended: dict[int, float] = {}
    async with a_row() as (_, checkpoint):

        async def save(sequence: int) -> None:
            await checkpoint.save(at(sequence))
            ended[sequence] = anyio.current_time()

        async with anyio.create_task_group() as tasks:
            for sequence in range(1, 12):
                tasks.start_soon(save, sequence)
                await anyio.sleep(0.5)  # half of them come when a write ends
    assert all(end - 0.5 * (sequence - 1) <= 2.0 for sequence, end in ended.items())


@virtual
async def test_a_write_that_is_cancelled_lets_the_next_one_write():
    async with a_row() as (store, checkpoint):
        async with anyio.create_task_group() as tasks:
            with anyio.move_on_after(0.5):
                tasks.start_soon(checkpoint.save, at(2))
                await checkpoint.save(at(1))
        assert store.positions[-1] == "2"
        assert store.most_writing == 1
        assert checkpoint.position == After("2")


@virtual
async def test_when_another_has_the_row_everybody_who_asked_learns_it():
    refused: list[int] = []
    async with a_row() as (store, checkpoint):
        await store.store.put(KEY, b"{}", 0)

        async def save(sequence: int) -> None:
            try:
                await checkpoint.save(at(sequence))
            except Superseded:
                refused.append(sequence)

        async with anyio.create_task_group() as tasks:
            for sequence in range(1, 4):
                tasks.start_soon(save, sequence)
                await anyio.sleep(0.1)
    assert sorted(refused) == [1, 2, 3]


@virtual
async def test_a_jump_waits_for_the_write_under_way_and_nothing_is_written_beside_it():
    async with a_row() as (store, checkpoint):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(checkpoint.save, at(7))
            await anyio.sleep(0.1)
            tasks.start_soon(checkpoint.jump, After("3"), 1)
            await anyio.sleep(0.1)
            tasks.start_soon(checkpoint.flush)
        assert store.positions == ["7", "3"]
        assert store.most_writing == 1
