"""A real Prometheus scrapes the running daemon: what it finds, what it alerts on, what the dashboard shows of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from poller.service.families import FAMILIES, PROCESS
from tests.servers.prometheus import Prometheus, prometheus
from tests.system.cloud import Cloud
from tests.system.daemon import started, write
from tests.system.functions import Delivery, Functions
from tests.system.settings import settings, stream
from tests.unit.promql import queries
from tools.dashboard import dashboard

T = TypeVar("T")
_OF_MANY = {"Members A", "Member beat age A"}
"""Panels that may be empty where one process has its store to itself."""


async def poll(look: Callable[[], Awaitable[T]], is_: Callable[[T], Any], within: float = 20.0) -> T:
    """What `look` answers, once it is as asked for."""
    found = await look()
    try:
        async with asyncio.timeout(within):
            while not is_(found):
                await asyncio.sleep(0.1)
                found = await look()
    except TimeoutError:
        raise AssertionError(f"not within {within:g} s, it is {found}") from None
    return found


async def test_prometheus_finds_every_metric_of_the_table_and_alerts_on_what_is_lost_and_what_is_blocked(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    async def fail(_: Delivery) -> int:
        return 500

    called.behave = fail
    mappings = {
        "loses": stream(await cloud.stream("loses"), "f", MaximumRetryAttempts=0),
        "retries": stream(await cloud.stream("retries"), "f"),
    }
    async with started(write(tmp_path / "c.yaml", settings(cloud, called, mappings))) as daemon:
        address = (await daemon.address()).removeprefix("http://")
        with prometheus(tmp_path, address) as watcher:
            await poll(lambda: watcher.query("poller_drops_total == 0"), is_=bool)
            await poll(watcher.alerts, is_=lambda alerts: not alerts)
            await cloud.put("loses", "poison")
            await cloud.put("retries", "poison")
            await _alerts(watcher)
            await _types(watcher)
            await _dashboard(watcher)
        await daemon.stop()


async def _alerts(watcher: Prometheus) -> None:
    """Rules as they are shipped: one that does not wait fires, those that wait for minutes have begun to.

    Copies of these, whose `for` is a second, fire.
    """
    lost, blocked = ("PollerRecordsDropped", "loses"), ("PollerShardBlocked", "retries")
    failing = ("PollerErrorRatioHigh", "retries")
    alerts = await poll(watcher.alerts, is_=lambda alerts: {lost, blocked, failing} <= alerts.keys())
    assert alerts[lost]["state"] == "firing"
    assert alerts[lost]["labels"]["condition"] == "RetryAttemptsExhausted"
    assert alerts[lost]["labels"]["severity"] == "critical"
    assert alerts[lost]["annotations"]["summary"] == "loses has lost records: RetryAttemptsExhausted"
    assert alerts[blocked]["state"] == "pending"
    assert alerts[blocked]["labels"]["shard"] == "shardId-000000000000"
    assert "times in a row" in alerts[blocked]["annotations"]["description"]
    assert alerts[failing]["state"] == "pending"
    assert alerts[failing]["labels"]["outcome"] == "function_error"
    expected = {lost, blocked, failing, ("PollerErrorRatioHigh", "loses")}
    assert alerts.keys() <= expected
    waited = await poll(
        lambda: watcher.alerts(soon=True),
        is_=lambda alerts: {name for name, alert in alerts.items() if alert["state"] == "firing"} >= {blocked, failing},
    )
    assert waited.keys() <= expected
    assert waited[blocked]["annotations"]["runbook"] == "docs/alerts.md#pollershardblocked"


async def _types(watcher: Prometheus) -> None:
    """It asked for OpenMetrics, where a counter's family has no `_total`."""
    wanted = {(family.name.removesuffix("_total"), family.kind) for family in (*FAMILIES, *PROCESS)}
    metadata = await watcher.ask("metadata")
    found = {(name, told[0]["type"]) for name, told in metadata.items()}
    assert found == wanted
    for family in FAMILIES:
        (told,) = metadata[family.name.removesuffix("_total")]
        assert told["help"] == family.help


async def _dashboard(watcher: Prometheus) -> None:
    empty = {
        place: expr
        for place, expr in queries(dashboard((*FAMILIES, *PROCESS))).items()
        if not await watcher.query(expr)
    }
    assert empty.keys() <= _OF_MANY, empty
