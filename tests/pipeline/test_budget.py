"""The ceiling of the bytes held: who waits, for whom, and for how long."""

from __future__ import annotations

from dataclasses import replace

import anyio
import msgspec
import pytest

from poller.mapping import steer
from poller.mapping.budget import COPIES, PAGES, STANDING_BYTES, Budget, Holder, asked_for
from poller.mapping.run import run_mapping
from poller.model.facts import ShardStands
from poller.model.outcome import Failed, Outcome, Partial, Replied
from poller.model.ports import Admit
from poller.model.record import Cursor, Page
from poller.stores.memory import MemoryStore
from tests.pipeline.doubles import Call, FakeFunction, FakeQueue, FakeStream, Shard, World, until, virtual, world

MIB = 1_048_576


async def read(holder: Holder, *, records: int, answer_bytes: int, more: bool = True) -> None:
    """What a reader does around a read."""
    await holder.expect(records)
    await holder.admit(answer_bytes)
    holder.took(records, answer_bytes, more=more)


@virtual
async def test_a_first_read_asks_for_so_little_that_records_of_1_mib_fit_the_share():
    budget = Budget(256 * MIB)
    with budget.join() as holder, budget.join():
        assert holder.limit * MIB <= budget.share_bytes


@virtual
async def test_a_later_read_asks_for_pages_that_fit_the_share_together():
    budget = Budget(64 * MIB)
    with budget.join(10_000) as holder, budget.join():
        await read(holder, records=1, answer_bytes=512)
        assert holder.limit == 10_000
        await read(holder, records=1, answer_bytes=MIB)
        assert holder.limit * (MIB / 4) * COPIES * PAGES <= budget.share_bytes


@pytest.mark.parametrize(
    ("room_bytes", "record_bytes", "together", "records"),
    [
        (8 * MIB, 1024.0, 1, 1024),
        (8 * MIB, 1024.0, 100, 1000),
        (8 * MIB, 1024.0, 3000, 3000),
        (2 * MIB, 1024.0, 3000, 2048),
        (8 * MIB, 100.0, 100, 10_000),
        (80 * MIB, 1024.0, 10_000, 10_000),
        (80 * MIB, 1024.0, 100_000, 10_000),
        (8 * MIB, 4.0 * MIB, 100, 2),
        (8 * MIB, 16.0 * MIB, 100, 1),
    ],
    ids=[
        "what stays in a cache",
        "whole batches of that",
        "a batch, where that is more",
        "no more than there is room for",
        "no more than a read may bring",
        "a batch as large as that",
        "batches of ten lanes that are larger",
        "large records for which there is room",
        "one, though there is no room",
    ],
)
def test_a_read_asks_for(room_bytes: int, record_bytes: float, together: int, records: int):
    assert asked_for(room_bytes, record_bytes, together) == records


@virtual
async def test_what_partitions_take_besides_their_records_is_kept_free_of_them():
    budget = Budget(32 * MIB)
    with budget.join(), budget.join():
        assert budget.room_bytes == 32 * MIB - 2 * STANDING_BYTES


@virtual
async def test_a_thousand_partitions_leave_half_of_the_ceiling_to_records():
    budget = Budget(32 * MIB)
    joined = [budget.join() for _ in range(1000)]
    for each in joined:
        each.__enter__()
    assert budget.room_bytes == 16 * MIB
    for each in joined:
        each.__exit__(None, None, None)


@virtual
async def test_an_answer_larger_than_the_ceiling_is_let_in_alone():
    budget = Budget(32 * MIB)
    with budget.join() as holder:
        await read(holder, records=1, answer_bytes=100 * MIB)
        holder.settle(100 * MIB)
    assert budget.used_bytes == 0


@virtual
async def test_a_large_answer_is_passed_by_small_ones_but_not_for_ever():
    budget = Budget(32 * MIB)
    passed = 0
    with budget.join() as large, budget.join() as small:
        await read(small, records=1, answer_bytes=MIB)

        async def pass_again_and_again() -> None:
            nonlocal passed
            while True:
                await read(small, records=1, answer_bytes=MIB)
                passed += 1
                small.settle(MIB)  # one stays in memory all the while, until nobody may pass
                if passed > 100:
                    return

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_and_settle, large, 15 * MIB + MIB // 2)
            await anyio.sleep(1)
            tasks.start_soon(pass_again_and_again)
            await anyio.sleep(1)
            assert 0 < passed <= 3
            small.settle(MIB)
    assert passed == 101


async def read_and_settle(holder: Holder, answer_bytes: int) -> None:
    await read(holder, records=1, answer_bytes=answer_bytes)
    holder.settle(answer_bytes)


@virtual
async def test_two_that_need_more_than_they_expected_do_not_wait_for_each_other():
    budget = Budget(32 * MIB)
    with budget.join() as one, budget.join() as other:
        for holder in (one, other):
            await read(holder, records=1, answer_bytes=7 * MIB)
            holder.settle(7 * MIB)
        for holder in (one, other):
            await holder.expect(1)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for holder in (one, other):
                    tasks.start_soon(admit_and_settle, holder, 9 * MIB)
    assert budget.used_bytes == 0


async def admit_and_settle(holder: Holder, answer_bytes: int) -> None:
    await holder.admit(answer_bytes)
    holder.took(1, answer_bytes, more=True)
    await anyio.sleep(1)
    holder.settle(answer_bytes)


@virtual
async def test_a_partition_that_expects_records_does_not_ask_for_them_before_there_is_room():
    budget = Budget(32 * MIB)
    with budget.join() as busy, budget.join() as full:
        await read(busy, records=1, answer_bytes=10 * MIB)
        busy.settle(10 * MIB)
        await read(full, records=1, answer_bytes=10 * MIB)
        with anyio.move_on_after(60) as waited:
            await busy.expect(1)
        assert waited.cancelled_caught
        full.settle(10 * MIB)
        with anyio.fail_after(60):
            await busy.expect(1)


@virtual
async def test_a_quiet_partition_is_looked_at_though_memory_is_full():
    budget = Budget(32 * MIB)
    with budget.join() as quiet, budget.join() as full:
        await read(quiet, records=1, answer_bytes=10 * MIB, more=False)
        quiet.settle(10 * MIB)
        await read(full, records=1, answer_bytes=15 * MIB)
        with anyio.fail_after(1):
            await read(quiet, records=0, answer_bytes=100, more=False)


@virtual
async def test_a_reader_that_is_cancelled_while_it_waits_leaves_nothing_behind():
    budget = Budget(32 * MIB)
    with budget.join() as one, budget.join() as other:
        await read(one, records=1, answer_bytes=15 * MIB)
        with anyio.move_on_after(1):
            await other.admit(15 * MIB)
        one.settle(15 * MIB)
    assert budget.used_bytes == 0


@virtual
async def test_poison_in_one_mapping_leaves_another_the_memory_to_read_with():
    poison, healthy = FakeStream(), FakeStream()
    poison.shards = {f"shard-{number}": Shard() for number in range(20)}
    for shard in poison.shards:
        poison.put(shard, 20, data="x" * 1_000_000)
    stuck, function = FakeFunction(lambda call: Failed(reason="Boom")), FakeFunction()
    async with MemoryStore().open() as store:
        first = World(poison, stuck, store, batch_size=10)
        first.tools.budget.ceiling_bytes = 64 * 1024 * 1024
        second = World(healthy, function, store)
        second.tools = replace(second.tools, budget=first.tools.budget, mapping="healthy")
        async with first.running():
            await anyio.sleep(600)
            async with second.running():
                for _ in range(50):
                    healthy.put("shard-0", 10)
                    await anyio.sleep(2)
                await until(lambda: len(function.succeeded) == 500, within=30)


@virtual
async def test_a_queue_that_is_cut_off_while_it_receives_leaves_nothing_behind():
    queue, function = FakeQueue(wait=20.0), FakeFunction()
    queue.put(100, data="x" * 10_000)
    async with MemoryStore().open() as store:
        mapping = World(queue, function, store, batch_size=10)
        with anyio.move_on_after(1):
            await run_mapping(mapping.tools)
    assert len(queue.deleted) == 100
    assert mapping.tools.budget.used_bytes == 0


@pytest.mark.parametrize("lanes", [1, 3])
@virtual
async def test_batches_that_a_restart_interrupted_are_delivered_though_there_is_no_room_for_all_of_one_any_more(
    lanes: int,
):
    stream, healed = FakeStream(), False
    function = FakeFunction(lambda call: Replied() if healed else Failed(reason="Boom"))
    for number in range(100 * lanes):
        stream.put("shard-0", 1, key=str(number % 50), data="x" * 20_000)
    async with MemoryStore().open() as store:
        async with World(stream, function, store, lanes=lanes, window=5.0).running():
            await anyio.sleep(20)
        assert max(len(call.sequences) for call in function.calls) == 100
        healed = True
        again = World(stream, function, store, lanes=lanes, window=5.0)
        again.tools = replace(again.tools, budget=Budget(3 * MIB))
        async with again.running():
            await until(lambda: len(function.succeeded) == 100 * lanes, within=120)
    assert sorted(function.succeeded) == list(range(1, 100 * lanes + 1))
    for key in range(50):
        mine = [sequence for sequence in function.succeeded if sequence % 50 == key]
        assert mine == sorted(mine)


class Body(bytes):
    """A record's body that says when it leaves memory."""

    gone: list[bytes]

    def __del__(self) -> None:
        self.gone.append(bytes(self))


class Weighed(FakeStream):
    """A stream that knows how many of the records that it handed out are still in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.came = 0
        self.gone: list[bytes] = []

    @property
    def held(self) -> int:
        return self.came - len(self.gone)

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        page = await super().read(partition, cursor, limit, admit)
        body = type("_Body", (Body,), {"gone": self.gone})
        self.came += len(page.records)
        records = tuple(msgspec.structs.replace(each, body=body(each.body)) for each in page.records)
        return msgspec.structs.replace(page, records=records)


def poison(call: Call) -> Outcome:
    """Fails with record 100, which it names if it can."""
    return Failed(reason="Boom") if call.sequences[0] == 100 else Partial(failed=("100",))


@virtual
async def test_of_a_batch_that_is_retried_only_the_part_that_is_left_stays_in_memory():
    stream = Weighed()
    stream.put("shard-0", 100)
    async with world(stream, FakeFunction(poison), partial=True):
        await anyio.sleep(60)
        assert stream.held == 1


@virtual
async def test_of_a_batch_whose_first_records_grew_too_old_only_the_others_stay_in_memory():
    stream = Weighed()
    stream.put("shard-0", 99)
    await anyio.sleep(50)
    stream.put("shard-0", 1)
    await anyio.sleep(20)
    async with world(stream, FakeFunction(lambda call: Failed(reason="Boom")), record_age=60.0):
        await anyio.sleep(30)
        assert stream.held == 1


@virtual
async def test_of_batches_that_a_restart_interrupted_only_what_is_left_stays_in_memory():
    stream, function = Weighed(), FakeFunction(lambda call: Failed(reason="Boom"))
    stream.put("shard-0", 100)
    async with MemoryStore().open() as store:
        async with world(stream, function, store, partial=True):
            await anyio.sleep(10)
        function.behave = poison
        stream.put("shard-0", 50)
        async with world(stream, function, store, partial=True):
            await anyio.sleep(60)
            assert stream.held == 51


@virtual
async def test_of_a_shard_that_is_paused_nothing_stays_in_memory():
    stream, function = Weighed(), FakeFunction()
    stream.put("shard-0", 3)
    async with MemoryStore().open() as store:
        wished = steer.pause(steer.Wishes(), "", steer.Pause("ann", 0.0))
        await store.put(steer.key("m"), steer.encode(wished), 0)
        async with world(stream, function, store) as mapping:
            await anyio.sleep(30)
            assert mapping.told(ShardStands)[-1].oldest is not None
            assert (stream.came, stream.held) == (1, 0)
