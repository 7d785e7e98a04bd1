"""A poison record on the running daemon: isolated, told to the destination, and the rest goes on; over a restart too."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from pathlib import Path
from typing import Any

from tests.system.cloud import Cloud
from tests.system.daemon import started, waited, write
from tests.system.functions import Delivery, Functions
from tests.system.settings import settings, stream


async def poisoned(delivery: Delivery) -> int:
    return 500 if any(text.startswith("poison") for text in delivery.texts) else 200


async def slowly(delivery: Delivery) -> int:
    await asyncio.sleep(0.05)
    return 200


async def test_a_poison_record_is_bisected_out_and_its_document_reaches_the_destination(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    called.behave = poisoned
    arn = await cloud.stream("bisected")
    destination = await cloud.queue("given-up")
    mapping = stream(
        arn,
        "sorter",
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=1,
        DestinationConfig={"OnFailure": {"Destination": destination}},
    )
    await cloud.put("bisected", "a", "b", "poison", "c", "d")
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"poisoned": mapping}))
    async with started(config) as daemon:
        await called.given("sorter", "a", "b", "c", "d")
        (document,) = await documents(cloud, "given-up")
        counted = "poller_records_on_failure_delivered_total"
        await daemon.metric(counted, "poisoned", is_=lambda value: value == 1)
        await daemon.stop()
    assert called.texts("sorter") == ["a", "b", "c", "d"]
    assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert document["requestContext"]["approximateInvokeCount"] == 2
    assert document["KinesisBatchInfo"]["batchSize"] == 1
    assert document["KinesisBatchInfo"]["streamArn"] == arn


async def test_a_crash_loop_does_not_renew_the_budget(cloud: Cloud, called: Functions, tmp_path: Path):
    called.behave = poisoned
    arn = await cloud.stream("crashing")
    destination = await cloud.queue("crashed")
    more = {"MaximumRetryAttempts": 6, "DestinationConfig": {"OnFailure": {"Destination": destination}}}
    await cloud.put("crashing", "poison", "b")
    config = write(
        tmp_path / "c.yaml", settings(cloud, called, {"crashing": stream(arn, "crasher", BatchSize=1, **more)})
    )
    for life in range(1, 4):
        async with started(config) as daemon:
            await waited("an attempt", lambda: len(called.of("crasher", 500)) >= 2 * life)  # noqa: B023
            daemon.send(signal.SIGKILL)
            await daemon.exit_code()
    async with started(config) as daemon:
        await called.given("crasher", "b")
        (document,) = await documents(cloud, "crashed")
        await daemon.stop()
    assert document["requestContext"]["approximateInvokeCount"] == 7
    attempts = [delivery for delivery in called.deliveries if delivery.texts == ["poison"]]
    assert 7 <= len(attempts) <= 7 + 3, "an attempt that a kill cut short is made again, and no other"


async def test_lanes_of_a_running_daemon_keep_each_key_in_order_over_a_changed_factor(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    called.behave = slowly
    arn = await cloud.stream("laned")
    texts = [f"{key}-{number:03}" for number in range(30) for key in "abcdefgh"]
    for text in texts:
        await cloud.kinesis("PutRecord", StreamName="laned", PartitionKey=text[0], Data=encoded(text))
    config = tmp_path / "c.yaml"
    for factor in (4, 1, 10):
        mapping = stream(arn, "keeper", ParallelizationFactor=factor, BatchSize=5)
        write(config, settings(cloud, called, {"laned": mapping}))
        async with started(config) as daemon:
            seen = len(called.texts("keeper"))
            goal = min(len(texts), seen + 80)
            await waited("some are delivered", lambda: len(called.texts("keeper")) >= goal)  # noqa: B023
            await daemon.stop()
    async with started(config) as daemon:
        await daemon.line("shard opened")
        await called.given("keeper", *texts)
        await daemon.stop()
    delivered = called.texts("keeper")
    assert len(delivered) == len(texts), "clean stops repeat nothing"
    for key in "abcdefgh":
        mine = [text for text in delivered if text[0] == key]
        assert mine == sorted(mine)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def documents(cloud: Cloud, queue: str) -> list[dict[str, Any]]:
    """What arrives at a destination, once something does."""
    found: list[str] = []
    async with asyncio.timeout(20):
        while not found:
            found = await cloud.receive(queue)
            await asyncio.sleep(0.1)
    return [json.loads(text) for text in found]
