"""SIGHUP: what changed is followed, what did not change is not touched, a bad file changes nothing."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path
from typing import Any

from tests.system.cloud import Cloud
from tests.system.daemon import Daemon, started, write
from tests.system.functions import Functions
from tests.system.settings import queue, settings, stream

_SUCCESSFUL = "poller_config_last_reload_successful"


async def _reload(daemon: Daemon, config: Path, document: dict[str, Any]) -> None:
    """Write a good file, and wait until it is followed."""
    await daemon.line("configuration read")
    before = len(daemon.lines("configuration read"))
    write(config, document)
    daemon.send(signal.SIGHUP)
    await daemon.line("configuration read", count=before + 1)


def _states(daemon: Daemon, mapping: str) -> list[str]:
    return [line["state"] for line in daemon.lines("mapping changed its state", mapping=mapping)]


async def test_a_mapping_that_is_added_starts_and_one_that_is_removed_ends_and_takes_its_series_along(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    first = queue(await cloud.queue("add-first"), "first")
    second = queue(await cloud.queue("add-second"), "second")
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"first": first}))
    async with started(config) as daemon:
        await daemon.line("mapping changed its state", mapping="first", state="Enabled")
        await _reload(daemon, config, settings(cloud, called, {"first": first, "second": second}))
        await cloud.send("add-second", "welcome")
        await called.given("second", "welcome")
        assert _states(daemon, "first") == ["Enabling", "Enabled"]
        await _reload(daemon, config, settings(cloud, called, {"second": second}))
        await daemon.line("mapping removed", mapping="first")
        await cloud.send("add-first", "too late")
        await cloud.send("add-second", "still here")
        await called.given("second", "still here")
        assert not [series for series in await daemon.metrics() if "first" in series]
        assert _states(daemon, "second") == ["Enabling", "Enabled"]
        await daemon.stop()
    assert not called.texts("first", None)
    assert await cloud.receive("add-first") == ["too late"]


async def test_a_mapping_that_is_changed_restarts_alone_and_another_ones_invocation_is_not_disturbed(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    steady = stream(await cloud.stream("steady"), "steady")
    changing = queue(await cloud.queue("changing"), "changing", BatchSize=10)
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"steady": steady, "changing": changing}))
    called.behave = called.hold
    await cloud.put("steady", "held")
    async with started(config) as daemon:
        await called.given("steady", "held", status=None)
        await daemon.line("mapping changed its state", mapping="changing", state="Enabled")
        await _reload(
            daemon, config, settings(cloud, called, {"steady": steady, "changing": changing | {"BatchSize": 1}})
        )
        await daemon.line("mapping changed its state", mapping="changing", state="Enabled", count=2)
        assert _states(daemon, "changing") == ["Enabling", "Enabled", "Disabling", "Enabling", "Enabled"]
        assert (await daemon.mapping("changing"))["configuration"]["BatchSize"] == 1
        assert _states(daemon, "steady") == ["Enabling", "Enabled"]
        assert [delivery.ended for delivery in called.of("steady")] == [None], "it still runs, for the first time"
        called.released.set()
        await cloud.send("changing", "1", "2", "3")
        await called.given("changing", "1", "2", "3")
        assert {len(delivery.records) for delivery in called.of("changing")} == {1}
        await cloud.put("steady", "next")
        await called.given("steady", "next")
        await daemon.stop()
    assert called.texts("steady", None) == ["held", "next"]


async def test_a_changed_mapping_finishes_what_is_in_flight_before_it_begins_anew(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    mapping = stream(await cloud.stream("finish"), "finish")
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"finish": mapping}))
    called.behave = called.hold
    await cloud.put("finish", "held")
    async with started(config) as daemon:
        await called.given("finish", "held", status=None)
        await _reload(daemon, config, settings(cloud, called, {"finish": mapping | {"BatchSize": 3}}))
        await cloud.put("finish", "next")
        assert _states(daemon, "finish") == ["Enabling", "Enabled"]
        called.released.set()
        await called.given("finish", "held", "next")
        assert _states(daemon, "finish") == ["Enabling", "Enabled", "Disabling", "Enabling", "Enabled"]
        await daemon.stop()
    assert called.texts("finish", None) == ["held", "next"]


async def test_a_mapping_that_is_disabled_rests_until_it_is_enabled_again(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    mapping = stream(await cloud.stream("rest"), "rest")
    other = queue(await cloud.queue("awake"), "awake")
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"rest": mapping, "awake": other}))
    async with started(config) as daemon:
        await cloud.put("rest", "before")
        await called.given("rest", "before")
        disabled = settings(cloud, called, {"rest": mapping | {"Enabled": False}, "awake": other})
        await _reload(daemon, config, disabled)
        await daemon.line("mapping changed its state", mapping="rest", state="Disabled")
        assert (await daemon.mapping("rest"))["State"] == "Disabled"
        assert (await daemon.metrics())["poller_mapping_state", "rest", "Disabled"] == 1
        await cloud.put("rest", "meanwhile")
        await cloud.send("awake", "letter")
        await called.given("awake", "letter")
        assert called.texts("rest", None) == ["before"]
        await _reload(daemon, config, settings(cloud, called, {"rest": mapping, "awake": other}))
        await called.given("rest", "meanwhile")
        assert (await daemon.get("/readyz"))[0] == 200
        await daemon.stop()
    assert called.texts("rest", None) == ["before", "meanwhile"]


async def test_a_bad_file_changes_nothing_and_the_gauge_says_so_until_the_file_is_good_again(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    good = settings(cloud, called, {"good": queue(await cloud.queue("good"), "good")})
    config = write(tmp_path / "c.yaml", good)
    async with started(config) as daemon:
        await daemon.metric(_SUCCESSFUL, is_=lambda value: value == 1)
        when = (await daemon.metrics())["poller_config_last_reload_success_timestamp_seconds",]
        for number, bad in enumerate(["mappings: [", "mappings: {good: {BatchSize: 10001}}\nserver: {prot: 1}"]):
            config.write_text(bad)
            daemon.send(signal.SIGHUP)
            line = await daemon.line("configuration refused", count=number + 1)
            assert line["reason"].startswith(f"{config}:"), line
            await daemon.metric(_SUCCESSFUL, is_=lambda value: value == 0)
        await cloud.send("good", "goes on")
        await called.given("good", "goes on")
        assert (await daemon.metrics())["poller_config_last_reload_success_timestamp_seconds",] == when
        await _reload(daemon, config, good)
        await daemon.metric(_SUCCESSFUL, is_=lambda value: value == 1)
        assert (await daemon.metrics())["poller_config_last_reload_success_timestamp_seconds",] > when
        assert _states(daemon, "good") == ["Enabling", "Enabled"]
        await daemon.stop()


async def test_a_changed_port_is_followed(cloud: Cloud, called: Functions, tmp_path: Path):
    mapping = {"moved": queue(await cloud.queue("moved"), "moved")}
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = write(tmp_path / "c.yaml", settings(cloud, called, mapping))
    async with started(config) as daemon:
        before = await daemon.address()
        await _reload(daemon, config, settings(cloud, called, mapping, server={"port": port}))
        assert await daemon.address() == f"http://127.0.0.1:{port}" != before
        await daemon.metric(_SUCCESSFUL, is_=lambda value: value == 1)
        await cloud.send("moved", "letter")
        await called.given("moved", "letter")
        await daemon.stop()


async def test_a_mapping_that_is_removed_while_everything_begins_anew_takes_its_series_along(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    first = queue(await cloud.queue("port-first"), "first")
    second = queue(await cloud.queue("port-second"), "second")
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"first": first, "second": second}))
    async with started(config) as daemon:
        await daemon.line("mapping changed its state", mapping="first", state="Enabled")
        changed = settings(cloud, called, {"second": second}) | {"shutdown_grace": 29}
        await _reload(daemon, config, changed)
        await daemon.line("mapping removed", mapping="first")
        assert not [series for series in await daemon.metrics() if "first" in series]
        await daemon.stop()


async def test_a_changed_port_that_is_taken_keeps_the_daemon_where_it_was(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    mapping = {"stays": queue(await cloud.queue("stays"), "stays")}
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = write(tmp_path / "c.yaml", settings(cloud, called, mapping, server={"port": port}))
    async with started(config) as daemon:
        address = await daemon.address()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            number = taken.getsockname()[1]
            write(config, settings(cloud, called, mapping, server={"port": number}))
            daemon.send(signal.SIGHUP)
            line = await daemon.line("configuration refused")
            assert f"127.0.0.1:{number} is already in use" in line["reason"]
            await daemon.line("listening", count=2)
            assert await daemon.address() == address
            await cloud.send("stays", "letter")
            await called.given("stays", "letter")
            assert (await daemon.metrics())[_SUCCESSFUL,] == 0
        daemon.send(signal.SIGHUP)  # the port is free now
        await daemon.line("listening", count=3)
        assert await daemon.address() == f"http://127.0.0.1:{number}"
        await daemon.metric(_SUCCESSFUL, is_=lambda value: value == 1)
        await daemon.stop()


async def test_a_changed_host_that_is_none_keeps_the_daemon_where_it_was(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    mapping = {"hosted": queue(await cloud.queue("hosted"), "hosted")}
    config = write(tmp_path / "c.yaml", settings(cloud, called, mapping))
    async with started(config) as daemon:
        await daemon.address()
        write(config, settings(cloud, called, mapping, server={"port": 0, "host": "a..b"}))
        daemon.send(signal.SIGHUP)
        assert "server.host 'a..b' is not a name" in (await daemon.line("configuration refused"))["reason"]
        await daemon.line("listening", count=2)
        await cloud.send("hosted", "letter")
        await called.given("hosted", "letter")
        await daemon.stop()


async def test_a_changed_port_waits_for_what_is_in_flight(cloud: Cloud, called: Functions, tmp_path: Path):
    mapping = {"moving": stream(await cloud.stream("moving"), "f")}
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = write(tmp_path / "c.yaml", settings(cloud, called, mapping))
    called.behave = called.hold
    await cloud.put("moving", "held")
    async with started(config) as daemon:
        await called.given("f", "held", status=None)
        write(config, settings(cloud, called, mapping, server={"port": port}))
        daemon.send(signal.SIGHUP)
        await asyncio.sleep(1.0)
        assert len(daemon.lines("listening")) == 1, "it did not wait"
        called.released.set()
        await daemon.line("listening", count=2)
        await cloud.put("moving", "next")
        await called.given("f", "held", "next")
        await daemon.stop()
    assert called.texts("f", None) == ["held", "next"]
