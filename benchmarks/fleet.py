"""What the replicas of a store cost it, and what it costs when one of them goes.

`python -m benchmarks.fleet [--store sqlite|dynamodb|postgres] [--profile default|fast] [--rounds N] [--only events|writes]`

Events: three replicas read a stream under load; one stops, crashes, freezes, and is cut off from the store, in turn.
Told are, over the shards that it had, how long each was not served (between the end of its last success here and the
beginning of the next one elsewhere; a shard that nothing happens to waits a fifth of a second for its next record), and
how many records were delivered again. An offline check finds no loss, no record out of order and no checkpoint that
went back, or fails.

Writes: `--replicas N` share 1,000 idle shards, then a few busy ones, and the writes are counted at the store: the calls
of DynamoDB that go through a proxy, the rows that PostgreSQL says it wrote, the versions of SQLite's rows.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import signal
import sqlite3
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from tests.contract.stores import dynamo_address, schema, sql
from tests.servers.loaded import CREDENTIALS, Double, configuration, load
from tests.servers.postgres import postgres
from tests.servers.processes import DYNALITE, MINISTACK, serving
from tests.servers.proxy import proxy
from tests.system.cloud import clouded
from tests.system.daemon import Daemon, started, waited, write
from tests.system.functions import functions
from tests.system.replicas import Crew, Hurt, check, crew

NAMES = ("a", "b", "c")
_WRITES = frozenset({"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"})
_QUIET = 12.0
"""Seconds without a shard that changes hands after which the replicas are taken to be settled."""


_LOOK = 3.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """A store."""

    address: Callable[[int | None], str]
    """At a proxy's port."""
    port: int | None
    """Of its server; None: it is a file."""
    writes: Callable[[], Awaitable[int]]
    """How many there were."""


@asynccontextmanager
async def place(kind: str, folder: Path) -> AsyncIterator[Place]:
    """An empty store."""
    if kind == "sqlite":
        path = folder / "state.db"

        async def versions() -> int:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                return int(connection.execute("SELECT coalesce(sum(version), 0) FROM rows").fetchone()[0])

        yield Place(address=lambda _: f"sqlite://{path}", port=None, writes=versions)
    elif kind == "postgres":
        with postgres() as database:
            where = await schema(database)

            async def rows() -> int:
                counted = "coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)"
                found = await sql(database, f"SELECT {counted} FROM pg_stat_user_tables WHERE schemaname = '{where}'")
                return int(found[0][0])

            def at(port: int | None) -> str:
                return f"{database.address(port or database.port)}?search_path={where}"

            yield Place(address=at, port=database.port, writes=rows)
    else:
        with serving(DYNALITE) as server:
            port = int(server.url.rpartition(":")[2])
            async with proxy(port) as counting:

                async def calls() -> int:
                    return sum(each in _WRITES for each in counting.operations)

                yield Place(address=lambda at: dynamo_address(at or counting.port, "rows"), port=port, writes=calls)


async def hurt_each(crew: Crew, addresses: dict[str, str]) -> None:
    """A clean exit, a crash, a freeze and a partition, each with all replicas there again before the next."""
    await crew.hurt("clean exit", "a", lambda: crew.leave("a"), ("b", "c"))
    await crew.start("a", addresses["a"])
    await crew.settled(*NAMES)
    await crew.hurt("crash", "b", lambda: crew.kill("b"), ("a", "c"))
    await crew.start("b", addresses["b"])
    await crew.settled(*NAMES)
    await crew.hurt("freeze", "c", lambda: crew.freeze("c"), ("a", "b"))
    await crew.thaw("c")
    await crew.settled(*NAMES)
    if "a" in crew.proxies:

        async def cut() -> None:
            crew.proxies["a"].silent = True

        await crew.hurt("partition", "a", cut, ("b", "c"))
        crew.proxies["a"].silent = False
        await crew.settled(*NAMES)


async def one_round(kind: str, profile: str, shards: int, cloud_url: str, number: int) -> tuple[list[Hurt], str]:
    """All events once, from an empty store; and what the offline check found wrong."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as name:
        folder = Path(name)
        async with place(kind, folder) as store, functions() as called, clouded(cloud_url) as cloud:
            async with crew(
                NAMES,
                store.address,
                port=store.port,
                folder=folder,
                cloud=cloud,
                called=called,
                stream=f"fleet-{kind}-{number}",
                shards=shards,
                profile=profile,
            ) as (replicas, addresses):
                await hurt_each(replicas, addresses)
                replicas.produced.running = False
                await waited(
                    "all that was produced",
                    lambda: replicas.produced.homes.keys() <= {text for each in NAMES for text in called.texts(each)},
                )
                for each in NAMES:
                    await replicas.leave(each)
            wrong = ""
            try:
                check(replicas, called)
            except AssertionError as found:
                wrong = str(found)
            return replicas.hurts, wrong


async def events(kind: str, profile: str, rounds: int, shards: int) -> None:
    """Print what each event cost."""
    hurts: dict[str, list[Hurt]] = defaultdict(list)
    wrong: list[str] = []
    with serving(MINISTACK) as cloud:
        for number in range(rounds):
            found, complaint = await one_round(kind, profile, shards, cloud.url, number)
            for told in found:
                hurts[told.event].append(told)
                print(f"  round {number + 1}: {told}", flush=True)
            if complaint:
                wrong.append(f"round {number + 1}: {complaint}")
    print(f"{kind}, {profile} profile, {len(NAMES)} replicas, {shards} shards, {rounds} rounds")
    print("| event | gap of a shard, p50 | p99 | max | shards seen | duplicates |")
    print("|---|---|---|---|---|---|")
    for event, costs in hurts.items():
        gaps = sorted(gap for each in costs for gap in each.gaps)
        again = [each.duplicates for each in costs]
        p50, p99 = at(gaps, 0.5), at(gaps, 0.99)
        print(f"| {event} | {p50:.2f} s | {p99:.2f} s | {gaps[-1]:.2f} s | {len(gaps)} | {' '.join(map(str, again))} |")
    if wrong:
        raise SystemExit("the offline check failed:\n" + "\n".join(wrong))


def at(values: Sequence[float], share: float) -> float:
    """The value, of sorted ones, that this share of them does not exceed."""
    return values[math.ceil(share * len(values)) - 1]


async def settled(daemon: Daemon, shards: int) -> float:
    """Wait until all shards are owned and none moves any more; answers for how many seconds they moved."""
    began = changed = time.monotonic()
    before = -1.0
    while time.monotonic() - changed < _QUIET:
        series = await daemon.metrics()
        owned = series.get(("poller_shards", "load", "owned"), 0.0)
        moves = sum(value for key, value in series.items() if key[0] == "poller_shard_moves_total")
        if moves != before or owned != shards:
            print(f"  {time.monotonic() - began:.0f} s: {owned:.0f} owned, {moves:.0f} moves", flush=True)
            before, changed = moves, time.monotonic()
        await asyncio.sleep(_LOOK)
    return changed - began


async def counted(
    kind: str, profile: str, replicas: int, double: Double, seconds: float, *, records: int, shards: int
) -> None:
    """Print the writes per second of so many replicas over shards that hold nothing, or so many records each."""
    double.fill(0)
    with tempfile.TemporaryDirectory(prefix="fleet-") as name:
        folder = Path(name)
        async with place(kind, folder) as store:
            # Idle shards are read seldom: it is the store that is looked at, and the machine is small.
            document: dict[str, Any] = configuration(double, batch_size=10) | {
                "store": store.address(None),
                "server": {"port": 0},
                "fleet": {"profile": profile},
                "memory": f"{max(256, 32 * replicas)}MiB",
                "poll_interval": 1.0 if records else 30.0,
            }
            config = write(folder / "c.yaml", document)
            async with started(config, "--replicas", str(replicas)) as daemon:
                moved = await settled(daemon, shards)
                if records:
                    double.fill(records)
                    await asyncio.sleep(5.0)
                invoked, before = double.totals()["invocations"], await store.writes()
                began = time.monotonic()
                await asyncio.sleep(seconds)
                rate = (await store.writes() - before) / (time.monotonic() - began)
                calls = double.totals()["invocations"] - invoked
                series = await daemon.metrics()
                beats = series["poller_members", "up"] / (1.5 if profile == "default" else 0.5)
                await daemon.stop(within=90)
    busy = (
        f"{shards} busy shards ({calls / seconds / shards:.1f} batches/s each)" if records else f"{shards} idle shards"
    )
    rest = f", beyond the beats one write per shard every {shards / max(1e-9, rate - beats):.1f} s" if records else ""
    print(
        f"{kind}, {profile} profile, {replicas} replicas, {busy}: {rate:.2f} writes/s{rest}; settled in {moved:.0f} s"
    )


async def measure(asked: argparse.Namespace) -> None:
    if asked.only != "writes":
        await events(asked.store, asked.profile, asked.rounds, asked.shards)
    if asked.only != "events":
        with load(shards=asked.idle, record_bytes=64) as double:
            await counted(
                asked.store, asked.profile, asked.replicas, double, asked.seconds, records=0, shards=asked.idle
            )
        with load(shards=20, record_bytes=64, latency=0.2) as double:
            records = int((asked.seconds + 30) * 50)
            await counted(asked.store, asked.profile, asked.replicas, double, asked.seconds, records=records, shards=20)


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended in either case
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", choices=["sqlite", "dynamodb", "postgres"], default="sqlite")
    parser.add_argument("--profile", choices=["default", "fast"], default="default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shards", type=int, default=12, help="of the events")
    parser.add_argument("--replicas", type=int, default=10, help="whose writes are counted")
    parser.add_argument("--idle", type=int, default=1000, help="shards that hold nothing")
    parser.add_argument("--seconds", type=float, default=60.0, help="for which writes are counted")
    parser.add_argument("--only", choices=["events", "writes"])
    asked = parser.parse_args()
    os.environ.update(CREDENTIALS)
    anyio.run(measure, asked)


if __name__ == "__main__":
    main()
