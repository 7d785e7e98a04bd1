"""ParallelizationFactor: order for each key, a safe checkpoint, and lanes that do not wait for one another."""

import anyio

from poller.mapping.run import run_mapping
from poller.model.facts import CheckpointWritten
from poller.model.outcome import Failed, Replied
from poller.stores.memory import MemoryStore
from tests.pipeline.algorithm import lane_of
from tests.pipeline.doubles import EPOCH, FakeFunction, FakeStream, World, until, virtual, world

KEYS = [f"key-{number}" for number in range(40)]


def fill(stream: FakeStream, rounds: int) -> dict[str, list[int]]:
    """Records of many keys, one after the other; answers the sequences of each key."""
    put: dict[str, list[int]] = {key: [] for key in KEYS}
    for _ in range(rounds):
        for key in KEYS:
            put[key] += [int(record.id) for record in stream.put("shard-0", 1, key=key)]
    return put


def firsts(function: FakeFunction) -> list[int]:
    return list(dict.fromkeys(function.succeeded))


@virtual
async def test_batches_of_a_shard_are_in_flight_together_and_each_key_stays_in_order():
    stream, function = FakeStream(), FakeFunction(seconds=1)
    put = fill(stream, 25)
    async with world(stream, function, lanes=4, batch_size=10):
        await until(lambda: len(function.succeeded) == 1000, within=100)
    assert function.most_running == 4
    place = {sequence: index for index, sequence in enumerate(function.succeeded)}
    for sequences in put.values():
        assert sorted(sequences, key=place.__getitem__) == sequences


@virtual
async def test_a_key_that_is_stuck_does_not_hold_up_the_other_lanes():
    stream = FakeStream(page=100)
    put = fill(stream, 25)
    stuck = put[KEYS[0]][0]
    function = FakeFunction(lambda call: Failed(reason="Boom") if stuck in call.sequences else Replied())
    async with world(stream, function, lanes=10, batch_size=10) as mapping:
        await until(lambda: len(function.succeeded) > 700, within=60)
        assert {fact.position for fact in mapping.told(CheckpointWritten)} <= {"TRIM_HORIZON", str(stuck - 1)}


@virtual
async def test_the_checkpoint_is_the_highest_position_below_which_everything_is_settled():
    stream = FakeStream()
    fill(stream, 5)
    function = FakeFunction(lambda call: Failed(reason="Boom") if 57 in call.sequences else Replied())
    async with world(stream, function, lanes=10, batch_size=1) as mapping:
        await until(lambda: len(function.succeeded) > 150, within=60)
        assert mapping.told(CheckpointWritten)[-1].position == "56"


@virtual
async def test_a_restart_repeats_only_what_was_in_flight_though_lanes_stood_far_apart():
    stream = FakeStream()
    fill(stream, 20)
    function = FakeFunction(
        lambda call: Failed(reason="Boom") if 1 in call.sequences and call.at < EPOCH + 100 else Replied(), seconds=0.1
    )
    async with MemoryStore().open() as store:
        with anyio.move_on_after(8):
            await run_mapping(World(stream, function, store, lanes=4, batch_size=10).tools)
        before = list(function.succeeded)
        assert 300 < len(before) < 800
        await anyio.sleep(200)
        async with world(stream, function, store, lanes=4, batch_size=10):
            await until(lambda: len(set(function.succeeded)) == 800, within=100)
    assert len(function.succeeded) - len(set(function.succeeded)) <= 4 * 10


@virtual
async def test_another_factor_first_brings_the_lanes_level_and_no_key_overtakes_itself():
    stream = FakeStream()
    put = fill(stream, 20)
    function = FakeFunction(
        lambda call: Failed(reason="Boom") if 1 in call.sequences and call.at < EPOCH + 100 else Replied(), seconds=0.1
    )
    async with MemoryStore().open() as store:
        async with world(stream, function, store, lanes=4, batch_size=10):
            await anyio.sleep(5)
        stood_apart = len(function.succeeded)
        assert 300 < stood_apart < 800
        await anyio.sleep(200)
        async with world(stream, function, store, lanes=7, batch_size=10):
            await until(lambda: len(set(function.succeeded)) == 800, within=100)
    place = {sequence: index for index, sequence in enumerate(firsts(function))}
    for sequences in put.values():
        assert sorted(sequences, key=place.__getitem__) == sequences
    assert len(function.succeeded) == 800, "a clean stop repeats nothing"


@virtual
async def test_another_factor_repeats_nothing_though_what_one_lane_was_stuck_at_was_trimmed():
    stream, (stuck, moving) = FakeStream(), (next(key for key in KEYS if lane_of(0, key, 2) == lane) for lane in (0, 1))
    function = FakeFunction(lambda call: Failed(reason="Boom") if 1 in call.sequences else Replied())
    stream.put("shard-0", 1, key=stuck)
    stream.put("shard-0", 5, key=moving)
    async with MemoryStore().open() as store:
        async with world(stream, function, store, lanes=2):
            await until(lambda: function.succeeded == [2, 3, 4, 5, 6])
            await anyio.sleep(1)
        del stream.shards["shard-0"].records[0]
        async with world(stream, function, store, lanes=3):
            stream.put("shard-0", 1, key=moving)
            await until(lambda: 7 in function.succeeded)
    assert function.succeeded == [2, 3, 4, 5, 6, 7]


@virtual
async def test_children_wait_for_every_lane_of_their_parent():
    stream, function = FakeStream(), FakeFunction(seconds=1)
    fill(stream, 3)
    stream.split("shard-0", "left")
    stream.put("left", 5, key="key-0")
    async with world(stream, function, lanes=10, batch_size=5):
        await until(lambda: len(function.succeeded) == 125, within=100)
    assert set(function.succeeded[-5:]) == set(range(121, 126))


@virtual
async def test_a_stuck_lane_lets_the_shard_read_on_only_within_its_share_of_memory():
    stream = FakeStream(page=100)
    stream.put("shard-0", 20_000, key="stuck", data="x" * 1000)
    function = FakeFunction(lambda call: Failed(reason="Boom"))
    async with MemoryStore().open() as store:
        mapping = World(stream, function, store, lanes=4)
        mapping.tools.budget.ceiling_bytes = 8 * 1024 * 1024
        async with mapping.running():
            await anyio.sleep(600)
            assert mapping.tools.budget.used_bytes <= mapping.tools.budget.share_bytes
            assert len(stream.reads) < 100
