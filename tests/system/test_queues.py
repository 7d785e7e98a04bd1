"""Queues on a server, standard and FIFO, through the running daemon."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.system.cloud import Cloud
from tests.system.daemon import finished, started, waited, write
from tests.system.functions import Delivery, Functions
from tests.system.settings import queue, settings


async def create(cloud: Cloud, name: str, **attributes: str) -> str:
    """Create a queue; answers its ARN."""
    fifo = {"FifoQueue": "true", "ContentBasedDeduplication": "true"} if name.endswith(".fifo") else {}
    answer = await cloud.sqs("CreateQueue", QueueName=name, Attributes=fifo | attributes)
    return (await cloud.queue_attributes(answer["QueueUrl"]))["QueueArn"]


async def fill(cloud: Cloud, name: str, texts: list[str], groups: int = 0) -> None:
    """Send in tens; a FIFO queue's text is dealt to the groups in turn."""
    url = await cloud.queue_url(name)
    for first in range(0, len(texts), 10):
        entries: list[dict[str, Any]] = []
        for place, text in enumerate(texts[first : first + 10], start=first):
            more = {"MessageGroupId": f"g{place % groups}"} if groups else {}
            entries.append({"Id": str(place), "MessageBody": text, **more})
        await cloud.sqs("SendMessageBatch", QueueUrl=url, Entries=entries)


@pytest.mark.parametrize("fifo", [False, True], ids=["standard", "FIFO"])
@pytest.mark.parametrize("reports", [False, True], ids=["whole batches", "ReportBatchItemFailures"])
async def test_every_message_is_processed_though_the_function_fails_now_and_then(
    fifo: bool, reports: bool, cloud: Cloud, called: Functions, tmp_path: Path
):
    dice = random.Random(3)
    name = f"mixed-{reports}" + (".fifo" if fifo else "")

    async def behave(delivery: Delivery) -> int | dict[str, Any]:
        if dice.random() < 0.9:
            return 200
        failed = {"batchItemFailures": [{"itemIdentifier": delivery.records[-1].id}]}
        return failed if reports else 500 if dice.random() < 0.5 else 429

    called.behave = behave
    arn = await create(cloud, name, VisibilityTimeout="2")
    texts = [str(number) for number in range(200)]
    await fill(cloud, name, texts, groups=10 if fifo else 0)
    more = {"FunctionResponseTypes": ["ReportBatchItemFailures"]} if reports else {}
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"m": queue(arn, "f", **more)}))
    async with started(config) as daemon:
        await called.given("f", *texts, status=None, within=50)
        for _ in range(300):
            if not await cloud.left(name):
                break
            await asyncio.sleep(0.1)
        assert await cloud.left(name) == 0
        await daemon.stop()
    if fifo:
        firsts = list(dict.fromkeys(int(text) for text in called.texts("f", None)))
        for group in range(10):
            mine = [each for each in firsts if each % 10 == group]
            assert mine == sorted(mine)


async def test_two_batches_of_a_group_never_run_at_once_and_groups_run_in_parallel(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    running, most = Counter[str](), Counter[str]()

    async def behave(delivery: Delivery) -> int:
        groups = {record.group for record in delivery.records}
        running.update(groups)
        most["a group"] = max(most["a group"], *running.values())
        most["groups"] = max(most["groups"], sum(map(bool, running.values())))
        await asyncio.sleep(1.5 if len(called.deliveries) <= 4 else 0.1)  # longer than the visibility, at first
        running.subtract(groups)
        return 200

    called.behave = behave
    arn = await create(cloud, "slow.fifo", VisibilityTimeout="1")
    await fill(cloud, "slow.fifo", [str(number) for number in range(8)], groups=4)
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"m": queue(arn, "f", BatchSize=1)}))
    async with started(config) as daemon:
        await called.given("f", *[str(number) for number in range(8)], within=30)
        await daemon.line("messages were not settled while they were hidden and may be delivered again")
        await daemon.stop()
    assert most["a group"] == 1
    assert most["groups"] > 1


@pytest.mark.parametrize("extended", [False, True], ids=["as AWS", "extend_visibility"])
async def test_a_slow_function_sends_its_message_to_the_dead_letter_queue_unless_the_visibility_is_extended(
    extended: bool, cloud: Cloud, called: Functions, tmp_path: Path
):
    name = f"slow-{extended}"
    dead = await create(cloud, f"{name}-dead")
    policy = f'{{"deadLetterTargetArn":"{dead}","maxReceiveCount":"1"}}'
    arn = await create(cloud, name, VisibilityTimeout="2", RedrivePolicy=policy)

    async def behave(delivery: Delivery) -> int:
        await asyncio.sleep(6)
        return 200

    called.behave = behave
    mapping = queue(arn, "f", **({"extend_visibility": True} if extended else {}))
    await cloud.send(name, "letter")
    async with started(write(tmp_path / "c.yaml", settings(cloud, called, {"m": mapping}))) as daemon:
        await called.given("f", "letter")
        await asyncio.sleep(0.5)
        await daemon.stop()
    assert len(called.deliveries) == 1
    assert await cloud.left(f"{name}-dead") == (0 if extended else 1)
    assert await cloud.left(name) == 0


async def test_a_batch_with_a_window_is_received_for_longer_than_the_queue_hides_it(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    arn = await create(cloud, "windowed", VisibilityTimeout="2")
    mapping = queue(arn, "f", BatchSize=100, MaximumBatchingWindowInSeconds=5)
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"m": mapping}))
    async with started(config) as daemon:
        await fill(cloud, "windowed", [str(number) for number in range(30)])
        await called.given("f", *[str(number) for number in range(30)])
        await daemon.stop()
    assert [len(delivery.records) for delivery in called.deliveries] == [30]
    assert await cloud.left("windowed") == 0


async def test_a_stop_makes_what_was_gathered_visible_at_once(cloud: Cloud, called: Functions, tmp_path: Path):
    arn = await create(cloud, "gathering", VisibilityTimeout="600")
    mapping = queue(arn, "f", BatchSize=100, MaximumBatchingWindowInSeconds=300)
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"m": mapping}))
    async with started(config) as daemon:
        await fill(cloud, "gathering", ["a", "b", "c"])
        await daemon.metric("poller_records_polled_total", "m", is_=lambda value: value == 3)
        await daemon.stop()
    assert sorted(await cloud.receive("gathering")) == ["a", "b", "c"]
    assert called.deliveries == []


async def test_maximum_concurrency_holds_on_the_running_daemon(cloud: Cloud, called: Functions, tmp_path: Path):
    running, most = [0], [0]

    async def behave(delivery: Delivery) -> int:
        running[0] += 1
        most[0] = max(most[0], running[0])
        await asyncio.sleep(0.1)
        running[0] -= 1
        return 200

    called.behave = behave
    arn = await create(cloud, "capped", VisibilityTimeout="60")
    texts = [str(number) for number in range(100)]
    await fill(cloud, "capped", texts)
    mapping = queue(arn, "f", BatchSize=2, ScalingConfig={"MaximumConcurrency": 3})
    async with started(write(tmp_path / "c.yaml", settings(cloud, called, {"m": mapping}))) as daemon:
        await called.given("f", *texts, within=40)
        await daemon.stop()
    assert most[0] == 3
    await waited("all answered", lambda: running[0] == 0)


@pytest.mark.parametrize(
    ("more", "fine"), [({}, False), ({"extend_visibility": True}, True)], ids=["as AWS", "extended"]
)
async def test_a_check_says_as_aws_that_the_function_takes_longer_than_the_queue_hides_messages(
    more: dict[str, Any], fine: bool, cloud: Cloud, called: Functions, tmp_path: Path
):
    arn = await create(cloud, f"short-{fine}", VisibilityTimeout="30")
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"m": queue(arn, "f", **more)}))
    done = await asyncio.to_thread(finished, "check", str(config), "--connect")
    said = "Queue visibility timeout: 30 seconds is less than Function timeout: 50 seconds"
    assert (said in done.stdout + done.stderr) is not fine
    assert done.returncode == (0 if fine else 1), done.stdout + done.stderr


async def test_a_queue_without_visibility_is_one_clear_problem(cloud: Cloud, called: Functions, tmp_path: Path):
    arn = await create(cloud, "blinking", VisibilityTimeout="0")
    await cloud.send("blinking", "a")
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"m": queue(arn, "f")}))
    async with started(config) as daemon:
        line = await daemon.line("mapping cannot go on")
        assert "visibility timeout is 0 seconds" in line["reason"]
        await daemon.stop()
    assert called.deliveries == []
