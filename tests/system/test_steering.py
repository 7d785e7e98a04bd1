"""An operator steers the running daemon with `poller` commands: paused over a kill, moved back, past a poison record."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

from tests.servers.processes import Server
from tests.system.cloud import clouded
from tests.system.daemon import Daemon, finished, started, write
from tests.system.functions import Delivery, Functions
from tests.system.settings import queue, settings, stream

_TOKEN = "a-token-of-the-tests"


async def test_a_pause_survives_a_kill_and_a_seek_back_delivers_its_range_again(
    ministack: Server, kinesis_local: Server, called: Functions, tmp_path: Path
):
    async with clouded(ministack.url, kinesis_local.url) as cloud:
        mappings = {
            "steered": stream(await cloud.stream("steered", shards=2), "taker"),
            "letters": queue(await cloud.queue("letters"), "reader"),
        }
        config = write(tmp_path / "c.yaml", settings(cloud, called, mappings, server={"port": 0, "token": "${TOKEN}"}))
        early, middle, late = ([f"{word}-{n}" for n in range(20)] for word in ("early", "middle", "late"))
        await cloud.put_many("steered", early)
        async with started(config, TOKEN=_TOKEN) as daemon:
            await called.given("taker", *early)
            await asyncio.sleep(1.1)
            moment = time.time()
            await cloud.put_many("steered", middle)
            await called.given("taker", *middle)
            for name in mappings:
                assert await told(daemon, "pause", name) == f"{name} is paused by"
            await daemon.line("operator's order: pause", mapping="steered")
            await paused(daemon)
            await daemon.line("shard let go", mapping="letters")  # its last receive has ended
            await daemon.kill()
        await cloud.put_many("steered", late)
        await cloud.send("letters", "one", "two")
        async with started(config, TOKEN=_TOKEN) as daemon:
            await daemon.line("shard opened", count=3)
            await paused(daemon)
            shards = (await daemon.mapping("steered"))["shards"]
            ages = await waited_ages(daemon, above=1.0)
            assert len(ages) == len(shards) == 2, "what waits in a paused shard grows old"
            assert await told(daemon, "seek", "steered", "--to", f"{moment:.3f}") == "steered goes to"
            await daemon.line("position moved by an operator", count=2, level="ERROR")
            assert not called.texts("reader")
            assert not set(late) & set(called.texts("taker"))
            assert await told(daemon, "resume", "letters") == "letters goes on"
            assert await told(daemon, "resume", "steered") == "steered goes on"
            await called.given("taker", *late)
            await called.given("reader", "one", "two")
            await daemon.stop()
            assert _TOKEN not in daemon.output()
    counts = Counter(called.texts("taker"))
    assert [counts[text] for text in early] == [1] * 20
    assert [counts[text] for text in middle] == [2] * 20
    assert [counts[text] for text in late] == [1] * 20


async def test_an_operator_seeks_past_a_poison_record(
    kinesis_local: Server, ministack: Server, called: Functions, tmp_path: Path
):
    async def poisoned(delivery: Delivery) -> int:
        return 500 if "poison" in delivery.texts else 200

    called.behave = poisoned
    async with clouded(ministack.url, kinesis_local.url) as cloud:
        mapping = stream(await cloud.stream("sick"), "patient", BatchSize=1)
        config = write(
            tmp_path / "c.yaml", settings(cloud, called, {"sick": mapping}, server={"port": 0, "token": _TOKEN})
        )
        await cloud.put("sick", "a", "poison", "b")
        async with started(config) as daemon:
            await daemon.line("function failed", mapping="sick")
            (blocked,) = called.of("patient", 500)[0].records
            shown = str(blocked.sequence)
            order = ("seek", "sick", "--shard", blocked.shard, "--to", shown, "--after")
            assert await told(daemon, *order) == f"sick {blocked.shard} goes"
            await called.given("patient", "b")
            assert called.texts("patient") == ["a", "b"]
            line = await daemon.line("position moved by an operator")
            assert line["last"] == shown
            assert "@" in line["who"]
            refused = await command(daemon, "seek", "sick", "--shard", "shardId-000000000009", "--to", "LATEST")
            assert refused == (1, "poller seek: the stream has no shard shardId-000000000009\n")
            await daemon.stop()


async def command(daemon: Daemon, *words: str) -> tuple[int, str]:
    """Exit code and output of an operator's command."""
    url = await daemon.address()
    done = await asyncio.to_thread(finished, *words, "--url", url, POLLER_TOKEN=_TOKEN)
    return done.returncode, done.stdout + done.stderr


async def told(daemon: Daemon, *words: str) -> str:
    """The first words that such a command prints, once it has succeeded."""
    code, output = await command(daemon, *words)
    assert code == 0, output
    mark = " by" if words[0] == "pause" else ""
    parts = output.split()
    return " ".join(parts[: 4 if mark else 3]).replace(" to:", " to")


async def paused(daemon: Daemon) -> None:
    """Wait until the status shows who paused the mappings."""
    for name in ("steered", "letters"):
        async with asyncio.timeout(20):
            while not (by := (await daemon.mapping(name))["paused"]):
                await asyncio.sleep(0.05)
        assert "@" in by["by"]
    await asyncio.sleep(0.5)


async def waited_ages(daemon: Daemon, *, above: float) -> list[float]:
    """The iterator ages of the shards of a stream, once all are above this."""
    async with asyncio.timeout(20):
        while True:
            shards = (await daemon.mapping("steered"))["shards"]
            ages = [shard["iterator_age_seconds"] for shard in shards if shard["iterator_age_seconds"] is not None]
            if ages and min(ages) > above:
                return ages
            await asyncio.sleep(0.1)
