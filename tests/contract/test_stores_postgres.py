"""The store in a database: its table, who may use it, crashes of a real server, many checkpoints in one statement."""

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import asyncpg
import pytest

from poller.model.errors import SettingsError, Superseded, Transient
from poller.model.ports import Store
from poller.stores.postgres_session import TABLE
from tests.contract.stores import opened, patiently, schema, sql, through
from tests.servers.postgres import Postgres, postgres
from tests.servers.proxy import proxy

ROOT = Path(__file__).parent.parent.parent
COUNTER = """
CREATE TABLE {0}.statements (at timestamptz);
CREATE FUNCTION {0}.count() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO {0}.statements VALUES (now()); RETURN NULL; END $$;
CREATE TRIGGER count AFTER UPDATE ON {0}.poller_rows FOR EACH STATEMENT EXECUTE FUNCTION {0}.count();
"""


async def _execute(database: Postgres, script: str) -> None:
    connection = await asyncpg.connect(database.url)
    try:
        await connection.execute(script)
    finally:
        await connection.close()


async def _user(database: Postgres, name: str, grants: str) -> str:
    """The address of a user who may no more than this."""
    role = f"{name}_user"
    await _execute(database, f"CREATE ROLE {role} LOGIN; {grants.format(role)}")
    return database.url.replace("poller:secret", role) + f"?search_path={name}"


async def test_many_checkpoints_share_a_statement(database: Postgres):
    name = await schema(database)
    async with opened(f"{database.url}?search_path={name}") as store:
        async with anyio.create_task_group() as tasks:
            for row in range(200):
                tasks.start_soon(store.put, f"m/{row}", b"one", 0)
        await _execute(database, COUNTER.format(name))
        async with anyio.create_task_group() as tasks:
            for row in range(200):
                tasks.start_soon(store.put, f"m/{row}", b"two", 1)
        assert [row.version async for _, row in store.scan("m/")] == [2] * 200
    (count,) = await sql(database, f"SELECT count(*) AS statements FROM {name}.statements")
    assert count["statements"] <= 3


async def test_a_beat_does_not_wait_behind_checkpoints_and_reads_that_hang(database: Postgres):
    name = await schema(database)
    async with opened(f"{database.url}?search_path={name}") as store:
        await store.put("m/row", b"one", 0)
        connection = await asyncpg.connect(database.url)
        try:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(f"SELECT FROM {name}.poller_rows WHERE key = 'm/row' FOR UPDATE")
            async with anyio.create_task_group() as tasks:
                written = anyio.Event()

                async def write() -> None:
                    await patiently(lambda: store.put("m/row", b"two", 1))
                    written.set()

                tasks.start_soon(write)
                for version in range(3):
                    assert await store.put("@members/1", b"beat", version) == version + 1
                assert [key async for key, _ in store.scan("@members/")] == ["@members/1"]
                assert not written.is_set()
                await transaction.rollback()
        finally:
            await connection.close()
        assert await store.get("m/row") == (b"two", 2)


async def test_groups_that_want_the_same_rows_in_another_order_do_not_block_one_another(database: Postgres):
    address = f"{database.url}?search_path={await schema(database)}"
    won: list[str] = []
    async with opened(address) as one, opened(address) as other:
        for version in range(5):
            won.clear()

            async def write(store: Store, key: str, version: int = version) -> None:
                try:
                    await store.put(key, str(id(store)).encode(), version)
                except Superseded:
                    return
                won.append(key)

            async with anyio.create_task_group() as tasks:
                for row in range(50):
                    tasks.start_soon(write, one, f"m/{row:02}")
                    tasks.start_soon(write, other, f"m/{49 - row:02}")
            assert sorted(won) == [f"m/{row:02}" for row in range(50)]


async def test_replicas_that_start_together_make_one_table(database: Postgres):
    address = f"{database.url}?search_path={await schema(database)}"

    async def start(number: int) -> None:
        async with opened(address) as store:
            await store.put(f"a/{number}", b"x", 0)

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(start, number)
    async with opened(address) as store:
        assert len([key async for key, _ in store.scan("a/")]) == 6


async def test_a_user_who_may_make_no_table_uses_the_one_of_the_template(database: Postgres):
    name = await schema(database)
    template = (ROOT / "deploy" / "postgres" / "table.sql").read_text()
    assert TABLE.strip() in template
    await _execute(database, f"SET search_path = {name}; {template}")
    grants = f"GRANT USAGE ON SCHEMA {name} TO {{0}}; "
    grants += f"GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.poller_rows TO {{0}}"
    address = await _user(database, name, grants)
    async with opened(address) as store:
        await store.put("a/1", b"one", 0)
        await store.put("a/1", b"two", 1)
        await store.delete("a/1", 2)


@pytest.mark.parametrize(
    ("grants", "message"),
    [
        (
            "GRANT USAGE ON SCHEMA {name} TO {{0}}",
            "store: postgresql: permission denied for schema .*make the table with deploy/postgres/table.sql",
        ),
        ("ALTER ROLE {{0}} NOLOGIN", "store: postgresql: role .* is not permitted to log in"),
    ],
    ids=["no table and no right to make one", "no right to log in"],
)
async def test_a_database_that_may_not_be_used_is_one_clear_line(database: Postgres, grants: str, message: str):
    name = await schema(database)
    address = await _user(database, name, grants.format(name=name))
    with pytest.raises(SettingsError, match=message):
        async with opened(address):
            pass


async def test_a_database_that_is_not_there_is_one_clear_line(database: Postgres):
    with pytest.raises(SettingsError, match='store: postgresql: database "none" does not exist'):
        async with opened(database.address(database.port, "none")):
            pass


async def test_a_write_is_durable_where_the_database_says_otherwise(database: Postgres):
    name = await schema(database)
    address = await _user(
        database, name, f"GRANT ALL ON SCHEMA {name} TO {{0}}; ALTER ROLE {{0}} SET synchronous_commit = off"
    )
    async with opened(address) as store:
        await store.put("a/1", b"x", 0)
        script = f"""
        CREATE FUNCTION {name}.tell() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.value = convert_to(current_setting('synchronous_commit'), 'UTF8'); RETURN NEW; END $$;
        CREATE TRIGGER tell BEFORE UPDATE ON {name}.poller_rows FOR EACH ROW EXECUTE FUNCTION {name}.tell();
        """
        await _execute(database, script)
        await store.put("a/1", b"y", 1)
        assert await store.get("a/1") == (b"on", 2)


async def test_a_server_that_is_killed_comes_back_with_everything_that_was_acknowledged():
    context = postgres()
    server = await anyio.to_thread.run_sync(context.__enter__)
    try:
        async with opened(server.url) as store, anyio.create_task_group() as tasks:
            acknowledged = [0]
            stop = anyio.Event()

            async def write() -> None:
                while not stop.is_set():
                    version = acknowledged[-1]
                    put = partial(store.put, "m/row", str(version).encode(), version)
                    acknowledged.append(await patiently(put, patience=30))

            tasks.start_soon(write)
            for sign in (signal.SIGKILL, signal.SIGINT):
                seen = len(acknowledged)
                while len(acknowledged) < seen + 20:
                    await anyio.sleep(0.01)
                await anyio.to_thread.run_sync(server.stop, sign)
                with pytest.raises(Transient):
                    await store.get("m/row")
                await anyio.to_thread.run_sync(server.start)
            seen = len(acknowledged)
            while len(acknowledged) < seen + 20:
                await anyio.sleep(0.01)
            stop.set()
        async with opened(server.url) as store:
            assert acknowledged == list(range(len(acknowledged)))
            assert await store.get("m/row") == (str(acknowledged[-1] - 1).encode(), acknowledged[-1])
    finally:
        await anyio.to_thread.run_sync(context.__exit__, None, None, None)


async def test_who_waits_is_woken_again_after_the_connection_was_lost(database: Postgres):
    address = f"{database.url}?search_path={await schema(database)}"
    async with (
        proxy(database.port) as between,
        opened(address) as other,
        opened(through(address, between.port, database.port)) as store,
    ):
        await _woken(store, other)
        await between.down()
        with anyio.fail_after(10):
            await store.wait(0.1)
        await between.up()
        for _ in range(2):  # the loss of the connection counts as a notice, for one may have been lost with it
            await _woken(store, other)


async def _woken(store: Store, other: Store) -> None:
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            await store.wait(600)
            tasks.cancel_scope.cancel()

        tasks.start_soon(wait)
        with anyio.fail_after(20):
            while True:
                await anyio.sleep(0.05)
                await other.wake()


def test_without_the_driver_a_line_says_what_to_install(tmp_path: Path):
    script = """
import sys, anyio
sys.modules["asyncpg"] = None  # as where the extra is not installed
from poller.model.errors import SettingsError
from poller.stores.postgres import PostgresStore

async def main():
    async with PostgresStore(address="postgresql://host/db").open():
        pass

try:
    anyio.run(main)
except SettingsError as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ended.stdout == (
        "store: postgresql:// needs a driver that is not installed, needed: pip install 'poller[postgres]'\n"
    )
