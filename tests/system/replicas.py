"""Several daemons that share a store, hurt one after the other under load; and what came of it, checked offline."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sqlite3
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.servers.proxy import Proxy, proxy
from tests.system.cloud import REGION, Cloud
from tests.system.daemon import Daemon, started, write
from tests.system.functions import Delivery, Functions

MAPPING = "orders"
_ON_ITS_WAY = 1.0
"""Seconds after a process goes on in which a call of its past may arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hurt:
    """What one event cost."""

    event: str
    gaps: tuple[float, ...]
    """The longest time for which each shard of the victim was not served, seconds."""
    duplicates: int

    @property
    def gap(self) -> float:
        """The longest of them."""
        return max(self.gaps)

    def __str__(self) -> str:
        return f"{self.event}: gap {self.gap:.2f} s, {self.duplicates} duplicates"


@dataclass(slots=True)
class Produced:
    """What was put into the stream."""

    homes: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Shard and sequence number by text."""
    running: bool = True
    _whole: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, cloud: Cloud, stream: str) -> None:
        try:
            for number in itertools.count():
                if not self.running:
                    return
                self.homes |= await cloud.put_many(stream, [f"{stream}-{number}-{index}" for index in range(12)])
                await asyncio.sleep(0.1)
        finally:
            self._whole.set()

    async def end(self) -> None:
        """Put no more, and know of everything that was put: the last call may be under way."""
        self.running = False
        await self._whole.wait()


class Crew:
    """Replicas by name."""

    def __init__(
        self,
        folder: Path,
        cloud: Cloud,
        called: Functions,
        stream_arn: str,
        *,
        shards: int,
        profile: str,
        more: Any = None,
    ) -> None:
        self._folder = folder
        self._cloud = cloud
        self._called = called
        self._arn = stream_arn
        self._profile = profile
        self._more = more or {}
        self.shards = shards
        self._ends = AsyncExitStack()
        self.daemons: dict[str, Daemon] = {}
        self._stores: dict[str, str] = {}
        self.proxies: dict[str, Proxy] = {}
        self.produced = Produced()
        self.hurts: list[Hurt] = []
        self._thawed: list[tuple[str, float]] = []
        self.folders: list[Path] = []

    async def start(self, name: str, store: str) -> None:
        """Start a replica, or start it again."""
        folder = self._folder / name
        if folder not in self.folders:
            folder.mkdir()
            self.folders.append(folder)
        self._stores[name] = store
        config = write(folder / "c.yaml", self._settings(name, store))
        self.daemons[name] = await self._ends.enter_async_context(started(config, "--log-level", "debug"))

    def _settings(self, name: str, store: str) -> dict[str, Any]:
        return {
            "aws": {"region": REGION, "endpoint_url": self._cloud.url},
            "store": store,
            "server": {"port": 0},
            "fleet": {"id": name, "profile": self._profile},
            "poll_interval": 0.2,
            "functions": {"orders": {"url": f"{self._called.url}/{name}", "timeout": 10}},
            "mappings": {
                MAPPING: {
                    "EventSourceArn": self._arn,
                    "FunctionName": "orders",
                    "StartingPosition": "TRIM_HORIZON",
                    "BatchSize": 20,
                }
                | self._more
            },
        }

    async def close(self) -> None:
        """End all that still run, without ceremony."""
        await self._ends.aclose()

    async def owned(self, name: str) -> int:
        """Shards in a replica's hands."""
        series = await self.daemons[name].metrics()
        return int(series.get(("poller_shards", MAPPING, "owned"), 0))

    async def settled(self, *names: str, fair: bool = True, within: float = 60.0) -> None:
        """Wait until these have all shards, each its share."""
        deadline = time.monotonic() + within
        while True:
            counts = [await self.owned(name) for name in names]
            if sum(counts) == self.shards and (not fair or max(counts) - min(counts) <= 1):
                return
            assert time.monotonic() < deadline, f"not within {within:g} s: {self.shards} shards on {names}: {counts}"
            await asyncio.sleep(0.1)

    async def shards_of(self, name: str) -> set[str]:
        """The shards in a replica's hands."""
        told = await self.daemons[name].mapping(MAPPING)
        return {shard["id"] for shard in told["shards"] if shard["state"] == "owned"}

    async def hurt(self, event: str, victim: str, deed: Callable[[], Any], others: Sequence[str]) -> Hurt:
        """Do something to a replica, wait until the others have its shards, and see what it cost."""
        shards = await self.shards_of(victim)
        before, began = len(self._called.deliveries), time.time()
        await deed()
        await self.settled(*others, fair=False)
        await asyncio.sleep(1.0)
        deliveries = self._called.deliveries
        told = Hurt(
            event=event,
            gaps=tuple(_gap(deliveries, shard, began) for shard in sorted(shards)),
            duplicates=_repeated(deliveries) - _repeated(deliveries[:before]),
        )
        self.hurts.append(told)
        return told

    async def leave(self, name: str) -> None:
        """SIGTERM, and a clean end."""
        await self.daemons[name].stop()

    async def kill(self, name: str) -> None:
        """SIGKILL."""
        await self.daemons[name].kill()

    async def freeze(self, name: str) -> None:
        """SIGSTOP; on SQLite not in the middle of a write, for nobody can take the file's lock from a frozen process."""
        self.daemons[name].send(signal.SIGSTOP)
        while await asyncio.to_thread(_is_locked, self._stores[name]):
            self.daemons[name].send(signal.SIGCONT)
            await asyncio.sleep(0.05)
            self.daemons[name].send(signal.SIGSTOP)

    async def thaw(self, name: str) -> None:
        """SIGCONT."""
        self._thawed.append((name, time.time()))
        self.daemons[name].send(signal.SIGCONT)

    def recalls(self, delivery: Delivery) -> bool:
        """Whether it may have left a process before it froze, between its last look and the wire: nobody can recall it."""
        return self.went_on(delivery.function, delivery.began)

    def went_on(self, name: str, moment: float) -> bool:
        """Whether a replica had been frozen until then, so that it may do or tell what belongs before."""
        return any(name == frozen and at - 0.1 <= moment <= at + _ON_ITS_WAY for frozen, at in self._thawed)


def _is_locked(store: str) -> bool:
    """Whether a store is a file that somebody keeps locked for longer than a write takes."""
    scheme, _, path = store.partition("://")
    if scheme != "sqlite":
        return False
    with closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        connection.execute("ROLLBACK")
        return False


def _gap(deliveries: Sequence[Delivery], shard: str, began: float) -> float:
    """The longest time between the end of one success and the beginning of the next, from shortly before a moment on."""
    ours = sorted(
        (each.began, each.ended)
        for each in deliveries
        if each.ended and each.status == 200 and any(record.shard == shard for record in each.records)
    )
    around = [pair for pair in ours if pair[1] >= began - 1.0]
    return max((after[0] - before[1] for before, after in itertools.pairwise(around)), default=0.0)


def _repeated(deliveries: Sequence[Delivery]) -> int:
    texts = [text for each in deliveries if each.status == 200 for text in each.texts]
    return len(texts) - len(set(texts))


def check(replicas: Crew, called: Functions) -> None:
    """Nothing is lost, order is kept, nobody repeats what was checkpointed, and no checkpoint goes back."""
    done = [each for each in called.deliveries if each.status == 200]
    delivered = {text for each in done for text in each.texts}
    lost = replicas.produced.homes.keys() - delivered
    assert not lost, f"{len(lost)} records were never delivered, such as {sorted(lost)[:5]}"
    _order_is_kept(done)
    _checkpoints_never_go_back(replicas, done)


def _order_is_kept(done: Sequence[Delivery]) -> None:
    """The first delivery of each record comes behind the first delivery of the one before it in its shard."""
    reached: dict[str, int] = defaultdict(int)
    for each in sorted(done, key=lambda each: each.ended or 0.0):
        sequences = [(record.shard, record.sequence) for record in each.records]
        assert sequences == sorted(sequences), f"a batch out of order: {sequences}"
        for shard, sequence in sequences:
            reached[shard] = max(reached[shard], sequence)
    first: dict[tuple[str, int], float] = {}
    for each in done:
        for record in each.records:
            key = (record.shard, record.sequence)
            first[key] = min(first.get(key, float("inf")), each.began)
    for shard in reached:
        moments = [moment for (of, _), moment in sorted(first.items()) if of == shard]
        assert moments == sorted(moments), f"{shard}: a record overtook another"


def _checkpoints_never_go_back(replicas: Crew, done: Sequence[Delivery]) -> None:
    """Over all replicas; and what is begun after a checkpoint lies behind it."""
    told = sorted(
        (line["time"], line["shard"], int(line["position"]), folder.name)
        for folder in replicas.folders
        for line in lines_of(folder, "checkpoint written")
        if line["position"].isdigit()
    )
    # A replica that froze behind its write tells of it when it goes on; the next owner has begun there meanwhile.
    known: dict[tuple[str, int], str] = {}
    written = [
        (moment, shard, position)
        for moment, shard, position, name in told
        if known.setdefault((shard, position), name) == name or not replicas.went_on(name, _seconds(moment))
    ]
    reached: dict[str, int] = defaultdict(int)
    for _, shard, position in written:
        assert position >= reached[shard], f"{shard} went back from {reached[shard]} to {position}"
        reached[shard] = position
    for each in done:
        if replicas.recalls(each):
            continue
        for shard in {record.shard for record in each.records}:
            stood = [
                position for moment, of, position in written if of == shard and _seconds(moment) < each.began - 0.2
            ]
            first = min(record.sequence for record in each.records if record.shard == shard)
            assert not stood or first > stood[-1], f"{shard}: {first} was sent again behind the checkpoint {stood[-1]}"


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def lines_of(folder: Path, message: str) -> list[dict[str, Any]]:
    """Lines of all logs of one replica, over all its lives."""
    texts = [log.read_text(errors="replace") for log in sorted(folder.glob("daemon-*.stderr"))]
    lines = [line for text in texts for line in text.split("\n") if message in line and line.startswith("{")]
    return [json.loads(line) for line in lines if line.endswith("}")]


@asynccontextmanager
async def crew(
    names: Sequence[str],
    store: Callable[[int | None], str],
    *,
    port: int | None,
    folder: Path,
    cloud: Cloud,
    called: Functions,
    stream: str,
    shards: int = 6,
    profile: str = "fast",
) -> AsyncIterator[tuple[Crew, dict[str, str]]]:
    """Replicas under load, each behind a proxy of its own to the store where that has a port.

    Args:
        store: the address of the store at a port; None: the store is a file.
        port: of the store's server.
    """
    arn = await cloud.stream(stream, shards=shards)
    async with AsyncExitStack() as proxies:
        found = Crew(folder, cloud, called, arn, shards=shards, profile=profile)
        addresses: dict[str, str] = {}
        for name in names:
            if port is None:
                addresses[name] = store(None)
            else:
                found.proxies[name] = await proxies.enter_async_context(proxy(port))
                addresses[name] = store(found.proxies[name].port)
        producing = asyncio.create_task(found.produced.run(cloud, stream))
        try:
            for name in names:
                await found.start(name, addresses[name])
            await found.settled(*names)
            yield found, addresses
        finally:
            found.produced.running = False
            await producing
            await found.close()
