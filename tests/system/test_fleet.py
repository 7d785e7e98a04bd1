"""Three replicas share a stream on every store; each is hurt in turn, and the others go on with its shards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.stores import dynamo_address, port_of, schema
from tests.servers.postgres import Postgres
from tests.servers.processes import Server
from tests.system.cloud import clouded
from tests.system.daemon import waited
from tests.system.functions import Functions
from tests.system.replicas import Crew, Hurt, check, crew

NAMES = ("a", "b", "c")
_CRASH = 10.0
"""Seconds within which somebody has the shards again; the fast profile promises 4, a busy machine may double that."""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["sqlite", "dynalite", "postgres"])
async def test_replicas_that_leave_crash_freeze_or_are_cut_off_lose_nothing(
    kind: str, request: pytest.FixtureRequest, ministack: Server, called: Functions, tmp_path: Path
):
    port = None if kind == "sqlite" else port_of(kind, request)
    table = f"fleet-{kind}"
    database = request.getfixturevalue("database") if kind == "postgres" else None
    where = await schema(database) if database else ""

    def address(at: int | None) -> str:
        if kind == "sqlite":
            return f"sqlite://{tmp_path}/state.db"
        if isinstance(database, Postgres):
            return f"{database.address(at or 0)}?search_path={where}"
        return dynamo_address(at or 0, table)

    async with clouded(ministack.url) as cloud:
        async with crew(NAMES, address, port=port, folder=tmp_path, cloud=cloud, called=called, stream=table) as (
            replicas,
            addresses,
        ):
            left = await _hurt_each(replicas, addresses)
            await replicas.produced.end()
            await waited(
                "all that was produced",
                lambda: replicas.produced.homes.keys() <= {text for name in NAMES for text in called.texts(name)},
            )
            for name in NAMES:
                await replicas.leave(name)
        check(replicas, called)
    for told in replicas.hurts:
        print(f"{kind}: {told}")  # noqa: T201  # what each event cost
    assert left.duplicates == 0, left
    assert max(told.gap for told in replicas.hurts) < _CRASH


async def _hurt_each(replicas: Crew, addresses: dict[str, str]) -> Hurt:
    left = await replicas.hurt("SIGTERM", "a", lambda: replicas.leave("a"), ("b", "c"))
    await replicas.start("a", addresses["a"])
    await replicas.settled(*NAMES)
    await replicas.hurt("SIGKILL", "b", lambda: replicas.kill("b"), ("a", "c"))
    await replicas.start("b", addresses["b"])
    await replicas.settled(*NAMES)
    await replicas.hurt("SIGSTOP", "c", lambda: replicas.freeze("c"), ("a", "b"))
    await replicas.thaw("c")
    await replicas.settled(*NAMES)
    if "a" in replicas.proxies:
        await replicas.hurt("partition", "a", lambda: _cut(replicas, "a"), ("b", "c"))
        replicas.proxies["a"].silent = False
        await replicas.settled(*NAMES)
    return left


async def _cut(replicas: Crew, name: str) -> None:
    replicas.proxies[name].silent = True


async def test_of_two_replicas_with_one_name_the_older_stops_with_one_line_and_nothing_is_lost(
    ministack: Server, called: Functions, tmp_path: Path
):
    async with clouded(ministack.url) as cloud:
        async with crew(
            ("a",),
            lambda _: f"sqlite://{tmp_path}/state.db",
            port=None,
            folder=tmp_path,
            cloud=cloud,
            called=called,
            stream="namesakes",
            shards=2,
        ) as (replicas, addresses):
            older = replicas.daemons["a"]
            await replicas.start("a", addresses["a"])
            assert await older.exit_code() == 1
            assert older.lines("another process has the name of this replica")
            await replicas.produced.end()
            await waited("all that was produced", lambda: replicas.produced.homes.keys() <= set(called.texts("a")))
            await replicas.leave("a")
        check(replicas, called)
