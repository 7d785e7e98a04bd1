"""An operator's drill: a poison record blocks a shard, the alert fires, the page names it, it is sought past, and later replayed."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

from tests.servers.chromium import page
from tests.servers.processes import Server
from tests.servers.prometheus import prometheus
from tests.system.cloud import Cloud
from tests.system.daemon import finished, started, waited, write
from tests.system.functions import Delivery, Functions
from tests.system.settings import settings, stream
from tests.system.test_poison import encoded
from tests.system.test_prometheus import poll

_BLOCKED = ("PollerShardBlocked", "payments")
_SHARD = "shardId-000000000000"
_TOKEN = "0123456789abcdef"
_APART = 2.2
"""Seconds between two records, so that a span of time holds one of them alone: servers stamp whole seconds, too."""


async def test_a_poison_record_blocks_a_shard_the_alert_fires_the_page_names_it_it_is_sought_past_and_later_replayed(
    browser: Server, cloud: Cloud, called: Functions, tmp_path: Path
):
    async def refuse(delivery: Delivery) -> int:
        return 500 if "poison" in delivery.texts and not called.released.is_set() else 200

    called.behave = refuse
    mapping = stream(await cloud.stream("payments"), "f", BisectBatchOnFunctionError=True)
    sequences, moments = [], []
    for text in ("good", "poison", "behind"):
        moments.append(time.time())
        put = await cloud.kinesis("PutRecord", StreamName="payments", PartitionKey="k", Data=encoded(text))
        sequences.append(put["SequenceNumber"])
        await asyncio.sleep(_APART)
    server = {"port": 0, "token": _TOKEN}
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"payments": mapping}, server=server))
    async with started(config) as daemon:
        address = await daemon.address()
        with prometheus(tmp_path, address.removeprefix("http://")) as watcher:
            async with page(browser, address) as view:
                await called.given("f", "good")
                await view.until("/Failed\\s+[2-9]/.test(document.getElementById('blocked').innerText)")
                told = await view.text("#blocked")
                assert re.search(rf"Record\s+{sequences[1]}\s", told), "the one record, after bisecting"
                assert re.search(r"Last error\s+function_error: .*as told", told)
                done = await asyncio.to_thread(finished, "status", "--url", address)
                assert f"failed with {sequences[1]}: " in re.sub(r"\s+", " ", done.stdout)
                alerts = await poll(
                    lambda: watcher.alerts(soon=True),
                    is_=lambda found: found.get(_BLOCKED, {}).get("state") == "firing",
                )
                assert alerts[_BLOCKED]["labels"]["shard"] == _SHARD
                await view.until("document.querySelector('#blocked .line').getAttribute('d') !== 'M0 0'")
                past = ("seek", "payments", "--shard", _SHARD, "--to", sequences[1], "--after")
                done = await asyncio.to_thread(finished, *past, "--url", address, POLLER_TOKEN=_TOKEN)
                assert done.returncode == 0, done.stderr
                await called.given("f", "good", "behind")
                assert daemon.lines(level="ERROR", shard=_SHARD), "a jump of a position is an ERROR"
                await view.until("document.getElementById('attention').hidden")
                assert await view.text("#said") == "No shard is blocked any more"
                await view.until("document.querySelector('.head .age').innerText.startsWith('0.0 s')")
                await poll(watcher.alerts, is_=lambda found: _BLOCKED not in found)
                assert view.problems == []
        assert called.texts("f") == ["good", "behind"]
        called.released.set()  # the function was mended
        span = ("--from", str(int(moments[1]) - 0.1), "--to", str(moments[1] + 1.0))
        done = await asyncio.to_thread(finished, "replay", str(config), "payments", *span)
        assert done.returncode == 0, done.stderr
        assert "poison" in called.texts("f"), done.stderr
        await waited("the record", lambda: called.texts("f") == ["good", "behind", "poison"])
        await daemon.stop()
