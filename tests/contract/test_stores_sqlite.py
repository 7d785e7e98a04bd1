"""The store in a file: processes of one machine, disks that fail, and the numbers that the kernel frees."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import pytest

from poller.model.errors import SettingsError, Transient
from poller.stores.machine import network_file_system
from poller.stores.sqlite import SqliteStore

HOLDER = """
import subprocess, sys, anyio
from poller.stores.sqlite import SqliteStore

async def main():
    async with SqliteStore(path=sys.argv[1]).slot() as number:
        child = subprocess.Popen(["sleep", "60"])  # as a local function: it outlives a poller that is killed
        print(number, child.pid, flush=True)
        sys.stdin.read()

anyio.run(main)
"""
LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


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
    with pytest.raises(SettingsError, match=r"state\.db\.slots cannot be used: (Not a directory|File exists)"):
        async with SqliteStore(path=str(tmp_path / "file" / "state.db")).slot():
            pass


@pytest.mark.parametrize(
    ("kind", "expected"), [("nfs4", "nfs4"), ("cifs", "cifs"), ("fuse.sshfs", "fuse.sshfs"), ("ext4", ""), ("9p", "")]
)
def test_a_network_file_system_is_told_from_a_disk(tmp_path: Path, kind: str, expected: str):
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"21 1 0:1 / /other rw,relatime shared:1 - nfs4 elsewhere:/x rw\n"
        f"22 1 {number} / /here rw,relatime shared:2 master:1 - {kind} server:/export rw\n"
    )
    assert network_file_system(tmp_path, mounts) == expected


def test_where_the_table_of_mounts_is_not_there_every_folder_counts_as_a_disk(tmp_path: Path):
    assert network_file_system(tmp_path, tmp_path / "none") == ""


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
    async with SqliteStore(path=str(tmp_path / "state.db")).open(kind=FailingDisk) as store:

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


async def test_many_processes_may_make_the_file_at_once(tmp_path: Path):
    async def put(number: int) -> None:
        async with SqliteStore(path=str(tmp_path / "state.db")).open() as store:
            await store.put(f"a/{number}", b"x", 0)

    script = """
import sys, anyio
from poller.stores.sqlite import SqliteStore

async def main():
    sys.stdin.readline()
    async with SqliteStore(path=sys.argv[1]).open() as store:
        await store.put("b/" + sys.argv[2], b"x", 0)

anyio.run(main)
"""
    processes = [_started(script, str(tmp_path / "state.db"), str(number)) for number in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("now\n")
        process.stdin.flush()
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(put, number)
    assert [await anyio.to_thread.run_sync(_ended, process) for process in processes] == [0] * 4
    async with SqliteStore(path=str(tmp_path / "state.db")).open() as store:
        assert [key async for key, _ in store.scan("")] == [f"{name}/{number}" for name in "ab" for number in range(4)]


async def test_a_file_that_another_process_keeps_locked_fails_in_passing_and_can_still_be_read(tmp_path: Path):
    path = tmp_path / "state.db"
    async with SqliteStore(path=str(path)).open() as store:
        await store.put("a/row", b"one", 0)
        with _started(LOCKER, str(path)) as locker:
            assert locker.stdout is not None
            assert await anyio.to_thread.run_sync(locker.stdout.readline) == "locked\n"
            with pytest.raises(Transient, match="locked"):
                await store.put("a/row", b"two", 1)
            assert await store.get("a/row") == (b"one", 1)
            locker.send_signal(signal.SIGKILL)
        assert await store.put("a/row", b"two", 1) == 2


async def test_each_process_has_the_lowest_free_number_and_a_killed_one_gives_it_back(tmp_path: Path):
    store = SqliteStore(path=str(tmp_path / "state.db"))
    async with store.slot() as mine:
        assert mine == 1
        with _holding(store.path) as first, _holding(store.path) as second:
            numbers = {first.number: first, second.number: second}
            assert sorted(numbers) == [2, 3]
            numbers[2].process.kill()
            numbers[2].process.wait()
            with _holding(store.path) as third:
                assert third.number == 2
                os.kill(numbers[2].child, 0)  # it has outlived its parent
    async with store.slot() as one, store.slot() as two:
        assert [one, two] == [1, 2]


class Holder(NamedTuple):
    process: subprocess.Popen[str]
    number: int
    child: int


@contextmanager
def _holding(path: str) -> Iterator[Holder]:
    """A process that holds a number, with a child; both are gone afterwards."""
    with _started(HOLDER, path) as process:
        assert process.stdout is not None
        number, child = (int(word) for word in process.stdout.readline().split())
        try:
            yield Holder(process, number, child)
        finally:
            os.kill(child, signal.SIGKILL)
            process.kill()


def _started(script: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _ended(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=30)
    return process.returncode
