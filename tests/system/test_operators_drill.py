"""An operator's drill: a poison record blocks a shard, the alert fires, the page names the record, and the age falls."""

from __future__ import annotations

import asyncio
import re
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


async def test_a_poison_record_blocks_a_shard_the_alert_fires_the_page_names_the_record_and_the_age_falls_once_it_passes(
    browser: Server, cloud: Cloud, called: Functions, tmp_path: Path
):
    async def refuse(delivery: Delivery) -> int:
        return 500 if "poison" in delivery.texts and not called.released.is_set() else 200

    called.behave = refuse
    mapping = stream(await cloud.stream("payments"), "f", BisectBatchOnFunctionError=True)
    sequences = [
        (await cloud.kinesis("PutRecord", StreamName="payments", PartitionKey="k", Data=encoded(text)))[
            "SequenceNumber"
        ]
        for text in ("good", "poison", "behind")
    ]
    async with started(write(tmp_path / "c.yaml", settings(cloud, called, {"payments": mapping}))) as daemon:
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
                assert alerts[_BLOCKED]["labels"]["shard"] == "shardId-000000000000"
                await view.until("document.querySelector('#blocked .line').getAttribute('d') !== 'M0 0'")
                called.released.set()
                await called.given("f", "good", "poison", "behind")
                await view.until("document.getElementById('attention').hidden")
                assert await view.text("#said") == "No shard is blocked any more"
                await view.until("document.querySelector('.head .age').innerText.startsWith('0.0 s')")
                await poll(watcher.alerts, is_=lambda found: _BLOCKED not in found)
                assert view.problems == []
        await daemon.stop()
    await waited("everything in order", lambda: called.texts("f") == ["good", "poison", "behind"])
