"""Signals: SIGTERM and SIGINT finish what is in flight within the grace, a second one does not wait."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from pathlib import Path

import pytest

from tests.system.cloud import Cloud
from tests.system.daemon import started, waited, write
from tests.system.functions import Delivery, Functions
from tests.system.settings import checkpoints, queue, settings, stream


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_a_stop_lets_the_function_finish_and_writes_its_checkpoint(
    number: signal.Signals, cloud: Cloud, called: Functions, tmp_path: Path
):
    name = f"drain-{number.name}"
    config = write(tmp_path / "c.yaml", settings(cloud, called, {name: stream(await cloud.stream(name), name)}))
    called.behave = called.hold
    await cloud.put(name, "slow")
    async with started(config) as daemon:
        await called.given(name, "slow", status=None)
        await cloud.put(name, "later")
        daemon.send(number)
        await daemon.line("stopping", reason=number.name)
        status, text = await daemon.get("/readyz")
        assert status == 503
        assert number.name in text
        await asyncio.sleep(0.5)
        assert daemon.process.poll() is None, "it did not wait for its function"
        called.released.set()
        assert await daemon.exit_code() == 0
    assert called.texts(name) == ["slow"]
    (settled,) = checkpoints(tmp_path, name).values()
    assert settled == called.deliveries[0].records[0].sequence
    async with started(config) as daemon:
        await called.given(name, "later")
        await daemon.stop()
    assert called.texts(name) == ["slow", "later"]


async def test_work_that_outlasts_the_grace_is_cut_and_delivered_again_at_the_next_start(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    mapping = stream(await cloud.stream("cut"), "cut")
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"cut": mapping}, shutdown_grace=1))
    called.behave = called.hold
    await cloud.put("cut", "endless")
    async with started(config) as daemon:
        await called.given("cut", "endless", status=None)
        began = time.monotonic()
        daemon.send(signal.SIGTERM)
        assert await daemon.exit_code() == 1
        assert 1.0 <= time.monotonic() - began < 8.0
        await daemon.line("shutdown_grace is over")
    assert set(checkpoints(tmp_path, "cut").values()) == {0}
    called.released.set()
    async with started(config) as daemon:
        await waited("the second delivery", lambda: len(called.of("cut")) == 2)
        await called.given("cut", "endless")
        await daemon.stop()


def holds(pid: int, number: signal.Signals) -> bool:
    """Whether the process lets this signal wait."""
    (mask,) = re.findall(r"^SigBlk:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("options", [(), ("--replicas", "2"), ("--dry-run",)], ids=["one", "two", "dry run"])
async def test_a_signal_that_comes_during_the_start_is_obeyed_after_it(
    options: tuple[str, ...], cloud: Cloud, called: Functions, tmp_path: Path
):
    mapping = queue(await cloud.queue("early"), "early")
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"early": mapping}))
    async with started(config, *options) as daemon:
        await waited("the start", lambda: holds(daemon.process.pid, signal.SIGHUP))
        if "--dry-run" not in options:  # which reloads nothing
            daemon.send(signal.SIGHUP)
            await daemon.line("configuration read", count=2)
            assert not holds(daemon.process.pid, signal.SIGHUP)
        await daemon.stop()
    async with started(config, *options) as daemon:
        await waited("the start", lambda: holds(daemon.process.pid, signal.SIGTERM))
        await daemon.stop()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_a_second_signal_stops_at_once(second: signal.Signals, cloud: Cloud, called: Functions, tmp_path: Path):
    name = f"twice-{second.name}"
    mapping = stream(await cloud.stream(name), name)
    config = write(tmp_path / "c.yaml", settings(cloud, called, {name: mapping}, shutdown_grace=60))
    called.behave = called.hold
    await cloud.put(name, "endless")
    async with started(config) as daemon:
        await called.given(name, "endless", status=None)
        daemon.send(signal.SIGTERM)
        await daemon.line("stopping")
        began = time.monotonic()
        daemon.send(second)
        assert await daemon.exit_code() == 1
        assert time.monotonic() - began < 5.0
        assert daemon.lines("stopped at once")
    assert set(checkpoints(tmp_path, name).values()) == {0}


async def test_messages_received_and_not_sent_are_visible_again_at_once_after_a_stop(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    arn = await cloud.queue("gathered", visibility=600)
    mapping = queue(arn, "gathered", BatchSize=100, MaximumBatchingWindowInSeconds=60)
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"gathered": mapping}))
    await cloud.send("gathered", "1", "2", "3")
    async with started(config) as daemon:
        await daemon.metric("poller_records_polled_total", "gathered", is_=lambda value: value == 3)
        assert not await cloud.receive("gathered"), "the messages are not ours to take yet"
        await daemon.stop()
        assert daemon.lines("unsent messages given back", released=3)
    assert not called.deliveries
    assert sorted(await cloud.receive("gathered")) == ["1", "2", "3"]


async def test_messages_in_flight_at_a_stop_are_deleted_when_the_function_has_taken_them(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"mail": queue(await cloud.queue("taken"), "mail")}))

    async def slow(delivery: Delivery) -> int:
        await asyncio.sleep(1.0)
        return 200

    called.behave = slow
    await cloud.send("taken", "letter")
    async with started(config) as daemon:
        await called.given("mail", "letter", status=None)
        await daemon.stop()
    assert called.texts("mail") == ["letter"]
    assert await cloud.left("taken") == 0


async def test_a_frozen_process_goes_on_where_it_was_when_it_is_woken(cloud: Cloud, called: Functions, tmp_path: Path):
    mappings = {
        "ice-stream": stream(await cloud.stream("ice"), "s", BatchSize=1),
        "ice-queue": queue(await cloud.queue("ice", visibility=2), "q"),
    }
    called.behave = called.hold
    async with started(write(tmp_path / "c.yaml", settings(cloud, called, mappings))) as daemon:
        await cloud.put("ice", "1", "2", "3")
        await cloud.send("ice", "letter")
        await called.given("s", "1", status=None)
        await called.given("q", "letter", status=None)
        daemon.send(signal.SIGSTOP)
        called.released.set()
        await asyncio.sleep(3.0)  # the letter is visible again by now
        daemon.send(signal.SIGCONT)
        await called.given("s", "1", "2", "3")
        await called.given("q", "letter")
        await daemon.metric("poller_messages_deleted_total", "ice-queue", is_=lambda value: value >= 1)
        await daemon.stop()
    assert called.texts("s", None) == ["1", "2", "3"], "its only reader lost no shard and repeats nothing"
    assert await cloud.left("ice") == 0
