"""What every store promises, run on each of them against its real server."""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from poller.model.errors import Superseded
from poller.model.ports import Store
from tests.contract.stores import EVERY, SHARED, address_of, opened

UNUSUAL = ["%", "_", "a'b", 'a"b', "a\\b", "a b", "a/b", "a#b", "\n", "é", "\U0001f600", "shardId-000000000001", "~"]


@pytest.fixture(params=EVERY)
async def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return await address_of(request.param, request, tmp_path)


@pytest.fixture
async def store(address: str) -> AsyncIterator[Store]:
    async with opened(address) as store:
        yield store


async def test_a_key_that_was_never_written_has_no_row(store: Store):
    assert await store.get("a/nothing") is None


async def test_a_written_value_is_read_back_with_the_version_that_put_answered(store: Store):
    version = await store.put("a/1", b"one", 0)
    row = await store.get("a/1")
    assert row is not None
    assert (row.value, row.version) == (b"one", version)
    assert await store.put("a/1", b"two", version) == version + 1


async def test_a_write_that_expects_another_version_changes_nothing(store: Store):
    await store.put("a/1", b"one", 0)
    for expected in (0, 2, 7):
        with pytest.raises(Superseded, match=f"a/1 has version 1, not {expected}"):
            await store.put("a/1", b"stale", expected)
    row = await store.get("a/1")
    assert row is not None
    assert row.value == b"one"


async def test_a_write_to_a_missing_row_that_expects_one_is_superseded(store: Store):
    with pytest.raises(Superseded, match="a/1 has version 0, not 3"):
        await store.put("a/1", b"one", 3)
    assert await store.get("a/1") is None


@pytest.mark.parametrize("expected", [0, 1])
async def test_of_many_writers_that_expect_the_same_version_one_wins(store: Store, expected: int):
    if expected:
        await store.put("a/row", b"start", 0)
    won: list[int] = []

    async def write(writer: int) -> None:
        try:
            await store.put("a/row", b"the same of each" if writer % 2 else str(writer).encode(), expected)
        except Superseded:
            return
        won.append(writer)

    async with anyio.create_task_group() as tasks:
        for writer in range(30):
            tasks.start_soon(write, writer)
    row = await store.get("a/row")
    assert row is not None
    assert row.version == expected + 1
    assert len(won) == 1
    assert row.value == (b"the same of each" if won[0] % 2 else str(won[0]).encode())


async def test_writes_that_come_together_succeed_and_fail_each_for_itself(store: Store):
    await store.put("row/0", b"there", 0)
    results: dict[int, bool] = {}

    async def write(row: int) -> None:
        try:
            await store.put(f"row/{row}", b"x", row % 2)
        except Superseded:
            results[row] = False
        else:
            results[row] = True

    async with anyio.create_task_group() as tasks:
        for row in range(40):
            tasks.start_soon(write, row)
    assert results == {row: row % 2 == 0 and row > 0 for row in range(40)}
    assert len([key async for key, _ in store.scan("row/")]) == 20


async def test_a_scan_yields_the_rows_below_a_prefix_in_key_order_and_no_others(store: Store):
    keys = ["m/b", "m/a", "n/a", "m/\U0001f600", "m/b/c", "ma/a", "@m/a"]
    for key in keys:
        await store.put(key, key.encode(), 0)
    found = [(key, row.value) async for key, row in store.scan("m/")]
    assert found == [(key, key.encode()) for key in ["m/a", "m/b", "m/b/c", "m/\U0001f600"]]
    assert [key async for key, _ in store.scan("m/b")] == ["m/b", "m/b/c"]


async def test_unusual_characters_in_keys_mean_nothing(store: Store):
    for rest in UNUSUAL:
        await store.put(f"folder %_'/{rest}", rest.encode(), 0)
    assert [key async for key, _ in store.scan("folder %_'/")] == sorted(f"folder %_'/{rest}" for rest in UNUSUAL)
    for rest in UNUSUAL:
        assert await store.get(f"folder %_'/{rest}") == (rest.encode(), 1)
    assert [key async for key, _ in store.scan("folder %_'/%")] == ["folder %_'/%"]


async def test_a_scan_of_more_than_one_page_misses_nothing(store: Store):
    values = {f"m/{number:02}": os.urandom(300_000) for number in range(15)}
    for key, value in values.items():
        await store.put(key, value, 0)
    assert [(key, row.value) async for key, row in store.scan("m/")] == list(values.items())


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_scan_of_many_rows_misses_nothing(kind: str, request: pytest.FixtureRequest, tmp_path: Path):
    async with opened(await address_of(kind, request, tmp_path)) as store:
        keys = [f"m/{number:04}" for number in range(1_100)]
        async with anyio.create_task_group() as tasks:
            for key in reversed(keys):
                tasks.start_soon(store.put, key, b"x", 0)
        assert [key async for key, _ in store.scan("m/")] == keys


async def test_a_row_is_removed_only_under_its_version_and_may_be_made_anew(store: Store):
    await store.put("a/1", b"one", 0)
    with pytest.raises(Superseded):
        await store.delete("a/1", 2)
    with pytest.raises(Superseded):
        await store.delete("a/1", 0)
    await store.delete("a/1", 1)
    assert await store.get("a/1") is None
    with pytest.raises(Superseded):
        await store.delete("a/1", 1)
    assert await store.put("a/1", b"anew", 0) == 1


async def test_a_large_value_comes_back_whole_and_is_replaced_by_a_small_one(address: str):
    async with opened(address) as store:
        version = 0
        for size in (0, 380_000, 380_001, 1_200_000, 800_000, 10):
            value = os.urandom(size)
            version = await store.put("a/large", value, version)
            assert await store.get("a/large") == (value, version)
            assert [row async for row in store.scan("a/")] == [("a/large", (value, version))]
        await store.put("a/large", os.urandom(900_000), version)
        await store.delete("a/large", version + 1)
        assert [key async for key, _ in store.scan("a/")] == []


async def test_a_cancelled_write_is_not_made_later_behind_the_back_of_who_asked_for_it(store: Store):
    async with anyio.create_task_group() as tasks:
        for row in range(5):
            tasks.start_soon(store.put, f"a/{row}", b"in the way", 0)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.put("a/mine", b"cancelled", 0)
    found = await store.get("a/mine")
    version = found.version if found else 0
    assert await store.put("a/mine", b"other", version) == version + 1
    await store.put("a/0", b"later", 1)
    assert await store.get("a/mine") == (b"other", version + 1)


async def test_a_wait_ends_by_itself(store: Store):
    with anyio.fail_after(10):
        await store.wait(0.05)


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres"])
async def test_a_wake_ends_the_wait_of_others(kind: str, request: pytest.FixtureRequest, tmp_path: Path):
    address = await address_of(kind, request, tmp_path)
    async with opened(address) as store, opened(address) as other, anyio.create_task_group() as tasks:
        waiting = store if kind == "memory" else other

        async def wait() -> None:
            await waiting.wait(600)
            await waiting.wait(600)
            tasks.cancel_scope.cancel()

        tasks.start_soon(wait)
        with anyio.fail_after(20):
            while True:
                await store.wake()
                await anyio.sleep(0.05)


@pytest.mark.parametrize("kind", SHARED)
async def test_what_one_process_wrote_another_reads(kind: str, request: pytest.FixtureRequest, tmp_path: Path):
    address = await address_of(kind, request, tmp_path)
    async with opened(address) as one, opened(address) as other:
        assert one.shared
        for version in range(20):
            writer, reader = (one, other) if version % 2 else (other, one)
            assert await writer.put("a/row", str(version).encode(), version) == version + 1
            assert await reader.get("a/row") == (str(version).encode(), version + 1)
            assert [row async for row in reader.scan("a/")] == [("a/row", (str(version).encode(), version + 1))]
    async with opened(address) as again:
        assert await again.get("a/row") == (b"19", 20)


@pytest.mark.parametrize("kind", SHARED)
async def test_processes_that_count_in_one_row_lose_no_count(kind: str, request: pytest.FixtureRequest, tmp_path: Path):
    address = await address_of(kind, request, tmp_path)
    command = [sys.executable, "-W", "error", "-m", "tests.contract.contender", address, "@members/count", "20", "3"]
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(anyio.run_process, command)
    async with opened(address) as store:
        assert await store.get("@members/count") == (b"60", 60)
