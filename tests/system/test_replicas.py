"""`poller run --replicas 3`: one command, one address, and a store that the three share."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from poller.stores.machine import slot
from tests.system.cloud import Cloud
from tests.system.daemon import Daemon, finished, started, waited, write
from tests.system.functions import Functions
from tests.system.replicas import Produced
from tests.system.settings import queue, settings, stream

SHARDS = 6


def children(daemon: Daemon) -> set[int]:
    """The processes that it started and that run now."""
    listed = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text()
    return {int(word) for word in listed.split()}


def runs(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def sockets(folder: Path) -> list[Path]:
    """What is left of the folder in which they serve their parent."""
    return list(folder.glob("poller-*"))


def totals(series: Mapping[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    return {key: value for key, value in series.items() if key[0].endswith(("_total", "_bucket", "_count", "_sum"))}


class Watch:
    """Scrapes again and again, and remembers what went down."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.before: dict[tuple[str, ...], float] = {}
        self.fell: list[str] = []
        self.looks = 0

    async def run(self) -> None:
        while True:
            now = totals(await self._daemon.metrics())
            self.fell += [
                f"{key}: {value} to {now.get(key)}" for key, value in self.before.items() if now.get(key, -1) < value
            ]
            self.before, self.looks = now, self.looks + 1
            await asyncio.sleep(0.1)


async def ready(daemon: Daemon) -> None:
    """Wait until all of them have read their source, or know that others do."""
    deadline = time.monotonic() + 20.0
    while (told := await daemon.get("/readyz"))[0] != 200:
        assert time.monotonic() < deadline, told
        await asyncio.sleep(0.1)


async def owned_by(daemon: Daemon, count: int, within: float = 20.0) -> set[str]:
    """The owners of all shards, once there are so many of them and no shard is without."""
    deadline = time.monotonic() + within
    while True:
        _, text = await daemon.get("/api/mappings")
        shards: list[dict[str, Any]] = next(
            (each["shards"] for each in json.loads(text) if each["name"] == "orders"), []
        )
        assert len({each["id"] for each in shards}) == len(shards)
        owners = {each["owner"] for each in shards if each["state"] == "owned"}
        if len(owners) == count and sum(each["state"] == "owned" for each in shards) == SHARDS:
            return owners
        assert time.monotonic() < deadline, f"not within {within:g} s: {count} owners of {SHARDS} shards: {shards}"
        await asyncio.sleep(0.1)


@asynccontextmanager
async def under_load(
    cloud: Cloud, called: Functions, folder: Path, name: str, **more: Any
) -> AsyncIterator[tuple[Daemon, Produced, dict[str, Any]]]:
    """Three replicas that read a stream into which records come all the time."""
    mappings = {"orders": stream(await cloud.stream(name, shards=SHARDS), "f", BatchSize=20)}
    document = settings(cloud, called, mappings, fleet={"profile": "fast"}, **more)
    produced = Produced()
    producing = asyncio.create_task(produced.run(cloud, name))
    try:
        async with started(write(folder / "c.yaml", document), "--replicas", "3", TMPDIR=str(folder)) as daemon:
            await ready(daemon)
            yield daemon, produced, document
            produced.running = False
            await producing
    finally:
        produced.running = False
        producing.cancel()


async def all_taken(called: Functions, produced: Produced) -> None:
    await produced.end()
    await waited("all that was produced", lambda: produced.homes.keys() <= set(called.texts("f")))


def in_order(called: Functions) -> bool:
    """The first delivery of each record of a shard comes behind that of the one before it."""
    seen: dict[str, list[int]] = {}
    for delivery in called.of("f", 200):
        for record in delivery.records:
            known = seen.setdefault(record.shard, [])
            if record.sequence not in known:
                known.append(record.sequence)
    return all(known == sorted(known) for known in seen.values())


async def test_one_that_is_killed_is_started_again_no_total_goes_down_and_a_stop_repeats_nothing(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    async with under_load(cloud, called, tmp_path, "killed-one") as (daemon, produced, _):
        owners = await owned_by(daemon, 3)
        before = children(daemon)
        assert len(before) == 3
        watch = Watch(daemon)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watch.run())
            await asyncio.sleep(0.5)
            victim = max(before)
            os.kill(victim, signal.SIGKILL)
            line = await daemon.line("replica ended, it is started again", reason="signal SIGKILL", again_in=1.0)
            assert line["level"] == "WARN"
            assert (await daemon.get("/healthz"))[0] == 200
            await waited("a third process", lambda: len(children(daemon) - {victim}) == 3)
            assert await owned_by(daemon, 3) == owners, "its slot was free, so that it has its name again"
            watching.cancel()
        assert watch.looks > 10
        assert not watch.fell, watch.fell[:5]
        assert (await daemon.get("/readyz"))[0] == 200
        told = json.loads((await daemon.get("/api/fleet"))[1])
        assert {each["name"] for each in told["members"]} == owners
        assert sum(each["moves"] for each in told["members"]) > 0
        assert {each["address"].rstrip("/") for each in told["members"]} == {await daemon.address()}
        series = await daemon.metrics()
        assert series["poller_shards", "orders", "owned"] == SHARDS
        assert series["poller_members", "up"] == 3
        shown = finished("status", "--url", await daemon.address())
        assert shown.returncode == 0
        assert shown.stdout.count("shardId-") == SHARDS
        before_stop = len(called.deliveries)
        await daemon.stop()
        repeated = [text for each in called.deliveries[before_stop:] for text in each.texts]
        earlier = {text for each in called.deliveries[:before_stop] for text in each.texts}
        assert len(repeated) == len(set(repeated))
        assert not earlier & set(repeated)
        assert not [line for line in daemon.lines() if line["level"] == "ERROR"]
        assert not sockets(tmp_path)
    async with started(write(tmp_path / "d.yaml", json.loads((tmp_path / "c.yaml").read_text()))) as alone:
        await all_taken(called, produced)
        await alone.stop()
    assert in_order(called)


async def test_one_that_cannot_be_started_again_at_once_leaves_the_others_alone(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    async with under_load(cloud, called, tmp_path, "no-room") as (daemon, produced, _):
        await owned_by(daemon, 3)
        parent, before = daemon.process.pid, children(daemon)
        allowed = resource.prlimit(parent, resource.RLIMIT_NOFILE)
        resource.prlimit(parent, resource.RLIMIT_NOFILE, (open_files(parent), allowed[1]))
        victim = max(before)
        os.kill(victim, signal.SIGKILL)
        await daemon.line("replica cannot be started, it is tried again")
        assert children(daemon) == before - {victim}
        resource.prlimit(parent, resource.RLIMIT_NOFILE, allowed)
        await waited("a third process", lambda: len(children(daemon) - {victim}) == 3)
        await owned_by(daemon, 3)
        await all_taken(called, produced)
        await daemon.stop()
    assert in_order(called)


async def test_they_end_with_their_parent_however_it_ends_and_hand_their_names_back(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    async with under_load(cloud, called, tmp_path, "killed-parent") as (daemon, produced, document):
        left = children(daemon)
        assert len(left) == 3
        await daemon.kill()
        await waited("the end of all of them", lambda: not any(runs(pid) for pid in left), within=15)
        with slot(tmp_path / "state.db") as number:
            assert number == 1
        assert not sockets(tmp_path), "the last one removed them"
        async with started(write(tmp_path / "c.yaml", document)) as again:
            await all_taken(called, produced)
            await again.stop()
    assert in_order(called)
    texts = called.texts("f")
    assert len(texts) == len(set(texts)), "they finished what was in flight, so nothing is repeated"


async def test_all_follow_a_changed_file_and_a_bad_one_changes_nothing(cloud: Cloud, called: Functions, tmp_path: Path):
    async with under_load(cloud, called, tmp_path, "reloaded") as (daemon, produced, document):
        config, first = tmp_path / "c.yaml", await daemon.address()
        config.write_text(config.read_text().replace('"BatchSize": 20', '"BatchSize": "many"'))
        daemon.send(signal.SIGHUP)
        await daemon.line("configuration refused")
        assert len(daemon.lines("configuration refused")) == 1, "one tells it"
        await daemon.metric("poller_config_last_reload_successful", is_=lambda value: value == 0)
        mappings = document["mappings"] | {"mail": queue(await cloud.queue("reloaded"), "mail")}
        functions = document["functions"] | {"mail": {"url": f"{called.url}/mail"}}
        write(
            config,
            document | {"mappings": mappings, "functions": functions, "server": {"port": 0, "host": "localhost"}},
        )
        daemon.send(signal.SIGHUP)
        await daemon.line("listening", count=2)
        assert await daemon.address() != first
        await cloud.send("reloaded", "letter")
        await called.given("mail", "letter")
        await daemon.metric("poller_config_last_reload_successful", is_=lambda value: value == 1)
        status, _ = await daemon.get("/api/mappings/none")
        assert status == 404, "one of them is asked what it knows"
        await all_taken(called, produced)
        daemon.send(signal.SIGSTOP)  # what a whole group is sent reaches the replicas before their parent forwards it
        for pid in children(daemon):
            os.kill(pid, signal.SIGTERM)
        daemon.send(signal.SIGTERM)
        daemon.send(signal.SIGCONT)
        assert await daemon.exit_code() == 0
    assert len(daemon.lines("stopping")) == 4
    assert not daemon.lines("stopped at once")


async def test_a_changed_token_and_a_changed_host_are_followed_at_the_same_port(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    def server(token: str, host: str) -> dict[str, Any]:
        return settings(cloud, called, mappings, server={"port": port, "host": host, "token": token})

    async def order(token: str) -> subprocess.CompletedProcess[str]:
        url = f"http://127.0.0.1:{port}"
        return await asyncio.to_thread(finished, "resume", "mail", "--url", url, "--token", token)

    mappings = {"mail": queue(await cloud.queue("tokens"), "f")}
    config = write(tmp_path / "c.yaml", server("a-first-token-of-many", "127.0.0.1"))
    async with started(config, "--replicas", "2", TMPDIR=str(tmp_path)) as daemon:
        await ready(daemon)
        assert (await order("a-first-token-of-many")).returncode == 0
        write(config, server("another-token-of-many", "127.0.0.1"))
        daemon.send(signal.SIGHUP)
        await daemon.line("configuration read", count=6)
        assert len(daemon.lines("listening")) == 1, "nobody is turned away at the door"
        assert "token is missing or wrong" in (await order("a-first-token-of-many")).stderr
        assert (await order("another-token-of-many")).returncode == 0
        write(config, server("another-token-of-many", "0.0.0.0"))
        daemon.send(signal.SIGHUP)
        await daemon.line("listening", address=f"http://0.0.0.0:{port}/")
        await daemon.line("configuration read", count=9)  # by all: the file is about to be written anew
        write(config, server("another-token-of-many", "192.0.2.1"))
        daemon.send(signal.SIGHUP)
        await daemon.line("configuration refused")
        assert (await daemon.get("/healthz", f"http://127.0.0.1:{port}"))[0] == 200, "it went back"
        assert (await order("another-token-of-many")).returncode == 0
        await daemon.stop()
    assert len(daemon.lines("configuration refused")) == 1


async def test_a_second_signal_stops_all_at_once(cloud: Cloud, called: Functions, tmp_path: Path):
    async with under_load(cloud, called, tmp_path, "at-once", shutdown_grace=60) as (daemon, produced, _):
        called.behave = called.hold
        await waited("a call under way", lambda: [each for each in called.of("f") if each.status is None])
        daemon.send(signal.SIGTERM)
        await daemon.line("stopping", count=4)
        status, text = await daemon.get("/readyz")
        assert (status, "SIGTERM" in text) == (503, True)
        produced.running = False
        began = time.monotonic()
        daemon.send(signal.SIGINT)
        assert await daemon.exit_code() == 1
        assert time.monotonic() - began < 10.0
        assert daemon.lines("stopped at once")


_STREAM = {
    "EventSourceArn": "arn:aws:kinesis:eu-west-1:123456789012:stream/s",
    "FunctionName": "f",
    "StartingPosition": "TRIM_HORIZON",
}
_FINE = {"store": "sqlite://./state.db", "server": {"port": 0}, "mappings": {"m": _STREAM}}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"store": "memory://"}, "replicas need a store that they share", id="a store of one process"),
        pytest.param({"memory": "64MiB"}, "memory: 64MiB is for 3 replicas together", id="too little memory for all"),
        pytest.param({"mappings": {}, "shutdown_grace": -1}, "shutdown_grace", id="a mistake in the file"),
        pytest.param(
            {"store": "sqlite:///proc/none/state.db"}, "/proc/none", id="a store that only a replica finds out"
        ),
    ],
)
def test_a_configuration_that_cannot_be_used_is_told_once(changed: dict[str, Any], said: str, tmp_path: Path):
    done = finished("run", str(write(tmp_path / "c.yaml", _FINE | changed)), "--replicas", "3", "--log-level", "error")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count(said) == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
