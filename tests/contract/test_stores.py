"""What every store promises, run on each of them."""

import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import pytest

from poller.model.errors import SettingsError, Superseded, Transient
from poller.model.ports import Store
from poller.stores.memory import MemoryStore
from poller.stores.sqlite import SqliteStore


def opened(kind: str, folder: Path) -> AbstractAsyncContextManager[Store]:
    return MemoryStore().open() if kind == "memory" else SqliteStore(path=str(folder / "deep" / "state.db")).open()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(request.param, tmp_path) as store:
        yield store


async def test_a_key_that_was_never_written_has_no_row(store: Store):
    assert await store.get("nothing") is None


async def test_a_written_value_is_read_back_with_the_version_that_put_answered(store: Store):
    version = await store.put("a/1", b"one", 0)
    row = await store.get("a/1")
    assert row is not None
    assert (row.value, row.version) == (b"one", version)
    assert await store.put("a/1", b"two", version) == version + 1


@pytest.mark.parametrize("expected", [0, 2, 7])
async def test_a_write_that_expects_another_version_changes_nothing(store: Store, expected: int):
    await store.put("a/1", b"one", 0)
    with pytest.raises(Superseded, match="a/1"):
        await store.put("a/1", b"stale", expected)
    row = await store.get("a/1")
    assert row is not None
    assert row.value == b"one"


async def test_a_write_to_a_missing_row_that_expects_one_is_superseded(store: Store):
    with pytest.raises(Superseded):
        await store.put("a/1", b"one", 3)
    assert await store.get("a/1") is None


async def test_of_many_writers_that_expect_the_same_version_one_wins(store: Store):
    await store.put("row", b"start", 0)
    won: list[int] = []

    async def write(writer: int) -> None:
        try:
            await store.put("row", str(writer).encode(), 1)
        except Superseded:
            return
        won.append(writer)

    async with anyio.create_task_group() as tasks:
        for writer in range(50):
            tasks.start_soon(write, writer)
    row = await store.get("row")
    assert row is not None
    assert [row.value, row.version] == [str(won[0]).encode(), 2]
    assert len(won) == 1


async def test_writes_that_share_a_transaction_succeed_and_fail_each_for_itself(store: Store):
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
    assert results == {row: row % 2 == 0 for row in range(40)}
    assert len([key async for key, _ in store.scan("row/")]) == 20


async def test_a_scan_yields_the_rows_below_a_prefix_in_key_order_and_no_others(store: Store):
    for key in ["m/b", "m/a", "m", "n/a", "m/\U0001f600", "ma"]:
        await store.put(key, key.encode(), 0)
    found = [(key, row.value) async for key, row in store.scan("m/")]
    assert found == [("m/a", b"m/a"), ("m/b", b"m/b"), ("m/\U0001f600", "m/\U0001f600".encode())]


async def test_a_row_is_removed_only_under_its_version(store: Store):
    await store.put("a", b"one", 0)
    with pytest.raises(Superseded):
        await store.delete("a", 2)
    await store.delete("a", 1)
    assert await store.get("a") is None


async def test_sqlite_keeps_what_was_written_when_it_is_opened_again(tmp_path: Path):
    async with opened("sqlite", tmp_path) as store:
        await store.put("a", b"one", 0)
    async with opened("sqlite", tmp_path) as store:
        row = await store.get("a")
    assert row is not None
    assert (row.value, row.version) == (b"one", 1)


async def test_a_second_process_is_kept_out_of_a_sqlite_file_with_one_clear_line(tmp_path: Path):
    async with opened("sqlite", tmp_path):
        with pytest.raises(SettingsError, match=r"state\.db is in use by another poller"):
            async with opened("sqlite", tmp_path):
                pass


@pytest.mark.parametrize("content", [b"this is not a database, it is a text of some length" * 10])
async def test_a_file_that_is_no_database_is_refused_with_one_clear_line(tmp_path: Path, content: bytes):
    path = tmp_path / "state.db"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"state\.db cannot be used: file is not a database"):
        async with SqliteStore(path=str(path)).open():
            pass


async def test_a_folder_that_cannot_be_made_is_refused_with_one_clear_line(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError, match=r"cannot be used: (Not a directory|File exists)"):
        async with SqliteStore(path=str(tmp_path / "file" / "state.db")).open():
            pass


class FailingDisk(sqlite3.Connection):
    """A connection whose commits fail once and cannot be rolled back at first."""

    commits_to_fail = 1
    rollbacks_to_fail = 1

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql == "COMMIT" and self.commits_to_fail:
            self.commits_to_fail -= 1
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *parameters)

    def rollback(self) -> None:
        if self.in_transaction and self.rollbacks_to_fail:
            self.rollbacks_to_fail -= 1
            raise sqlite3.OperationalError("disk I/O error")
        super().rollback()


async def test_no_write_of_a_transaction_that_failed_is_called_written_and_the_next_one_succeeds(tmp_path: Path):
    failed: list[str] = []
    async with SqliteStore(path=str(tmp_path / "state.db")).open(FailingDisk) as store:

        async def write(key: str) -> None:
            try:
                await store.put(key, b"x", 0)
            except Transient:
                failed.append(key)

        async with anyio.create_task_group() as tasks:
            for key in "abcdef":
                tasks.start_soon(write, key)
        assert failed
        assert [key async for key, _ in store.scan("")] == sorted(set("abcdef") - set(failed))
        for key in failed:
            assert await store.put(key, b"y", 0) == 1


async def test_a_full_disk_passes_and_nothing_is_called_written_that_is_not(tmp_path: Path):
    script = """
import resource, sys, anyio
from poller.model.errors import Transient
from poller.stores.sqlite import SqliteStore

async def main():
    async with SqliteStore(path=sys.argv[1]).open() as store:
        version = await store.put("row", b"one", 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, -1))
        try:
            for _ in range(100):
                version = await store.put("row", b"x" * 10_000, version)
        except Transient as error:
            print(error, file=sys.stderr)
        else:
            sys.exit("it was never full")
        assert (await store.get("row")).version == version
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
        assert await store.put("row", b"two", version) == version + 1

anyio.run(main)
"""
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path / "state.db")]
    ended = await anyio.run_process(command, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    assert b"store: " in ended.stderr
