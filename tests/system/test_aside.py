"""Commands beside a running daemon, on real servers: a range delivered again, given-up batches too, and a dry run."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.servers.processes import Server
from tests.system.cloud import Cloud, clouded
from tests.system.daemon import finished, started, waited, write
from tests.system.functions import Delivery, Functions
from tests.system.settings import checkpoints, queue, settings, stream


async def command(*words: str) -> tuple[int, str]:
    done = await asyncio.to_thread(finished, *words)
    return done.returncode, done.stdout


async def test_a_replay_delivers_a_past_range_beside_the_daemon_and_leaves_its_checkpoint(
    ministack: Server, kinesis_local: Server, called: Functions, tmp_path: Path
):
    async with clouded(ministack.url, kinesis_local.url) as cloud:
        mapping = stream(await cloud.stream("replayed", shards=2), "taker")
        document = settings(cloud, called, {"replayed": mapping})
        document["functions"] |= {"other": {"url": f"{called.url}/other"}}
        config = write(tmp_path / "c.yaml", document)
        times: list[str] = []
        parts = [[f"{part}-{n}" for n in range(15)] for part in "abc"]
        async with started(config) as daemon:
            for part in parts:
                times.append(f"{time.time():.3f}")
                await cloud.put_many("replayed", part)
                await called.given("taker", *part)
                await asyncio.sleep(1.1)
            before = checkpoints(tmp_path, "replayed")
            span = ("--from", times[1], "--to", times[2])
            code, told = await command("replay", str(config), "replayed", *span, "--function", "other")
            assert (code, told.split(" in ")[0]) == (0, "replayed: 15 records delivered")
            assert sorted(called.texts("other")) == sorted(parts[1])
            assert set(Counter(called.texts("taker")).values()) == {1}
            assert checkpoints(tmp_path, "replayed") == before
            await daemon.stop()


async def test_a_replay_counts_what_it_gave_up_also_where_a_destination_was_told(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    async def behave(delivery: Delivery) -> int:
        return 500 if delivery.texts == ["bad"] else 200

    called.behave = behave
    mapping = stream(
        await cloud.stream("replayed-badly"),
        "worker",
        BatchSize=1,
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": await cloud.queue("replayed-badly")}},
    )
    span = ("--from", str(time.time() - 5), "--to")
    await cloud.put("replayed-badly", "bad", "good")
    await asyncio.sleep(1.1)
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"m": mapping}))
    code, told = await command("replay", str(config), "m", *span, str(time.time()))
    assert (code, told) == (0, "m: 1 records delivered in 2 invocations, 1 given up, 1 shards\n")


async def test_a_dry_run_says_what_it_would_send_and_leaves_all_where_it_is(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    mappings = {
        "shown": stream(await cloud.stream("shown"), "taker"),
        "mail": queue(await cloud.queue("shown-mail"), "reader"),
    }
    await cloud.put("shown", "a", "b", "c")
    await cloud.send("shown-mail", "letter")
    config = write(tmp_path / "c.yaml", settings(cloud, called, mappings))
    async with started(config, "--dry-run") as daemon:
        line = await daemon.line("would have sent", mapping="shown")
        assert line["function"] == "taker"
        await daemon.line("would have sent", mapping="mail", records=1)
        await daemon.line("a dry run receives the queue's messages", level="WARN")
        assert sum(each["records"] for each in daemon.lines("would have sent", mapping="shown")) <= 3
        daemon.send(signal.SIGTERM)
        assert await daemon.exit_code() == 0
    assert not called.deliveries
    assert checkpoints(tmp_path, "shown") == {}
    assert await cloud.receive("shown-mail") == ["letter"]


@pytest.mark.parametrize("kind", ["queue", "bucket"])
async def test_what_was_given_up_is_redriven_in_order_once_the_function_is_well(
    kind: str, cloud: Cloud, called: Functions, tmp_path: Path
):
    sick = True

    async def behave(delivery: Delivery) -> int:
        return 500 if sick and any(text.startswith("bad") for text in delivery.texts) else 200

    called.behave = behave
    name = f"given-up-{kind}"
    if kind == "queue":
        destination = await cloud.queue(name)
    else:
        destination = f"arn:aws:s3:::{name}"
        async with cloud.http.put(f"{cloud.url}/{name}") as made:
            assert made.status == 200
    mapping = stream(
        await cloud.stream(name),
        "worker",
        BatchSize=1,
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": destination}},
    )
    await cloud.put(name, "bad-1", "good", "bad-2")
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"m": mapping}))
    async with started(config) as daemon:
        await daemon.metric("poller_records_on_failure_delivered_total", "m", is_=lambda value: value == 2)
        await called.given("worker", "good")
        if kind == "queue":
            code, told = await command("redrive", str(config), "m", "--dry-run")
            assert (code, told.splitlines()[-1]) == (0, "2 batches would be delivered, 0 would be dropped, 0 stay"), (
                told
            )
            code, told = await command("redrive", str(config), "m")
            assert (code, told.splitlines()[-1]) == (1, "0 batches delivered, 0 dropped, 2 stay")
            assert "stays, one before it in its shard does" in told
        sick = False
        code, told = await command("redrive", str(config), "m")
        assert (code, told.splitlines()[-1]) == (0, "2 batches delivered, 0 dropped, 0 stay")
        assert called.texts("worker") == ["good", "bad-1", "bad-2"]
        if kind == "queue":
            assert await cloud.left(name) == 0
        await daemon.stop()


async def test_a_redrive_that_is_killed_half_way_goes_on_where_it_was_when_it_is_run_again(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    moods = {"bad-1": 500, "bad-2": 500}

    async def behave(delivery: Delivery) -> int:
        (text,) = delivery.texts
        if moods.get(text) == 0:
            await called.released.wait()
        return moods.get(text) or 200

    called.behave = behave
    async with cloud.http.put(f"{cloud.url}/given-up-half") as made:
        assert made.status == 200
    destination = {"OnFailure": {"Destination": "arn:aws:s3:::given-up-half"}}
    arn = await cloud.stream("given-up-half")
    mapping = stream(arn, "worker", BatchSize=1, MaximumRetryAttempts=0, DestinationConfig=destination)
    await cloud.put("given-up-half", "bad-1", "good", "bad-2")
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"m": mapping}))
    async with started(config) as daemon:
        await daemon.metric("poller_records_on_failure_delivered_total", "m", is_=lambda value: value == 2)
        await called.given("worker", "good")
        moods |= {"bad-1": 200, "bad-2": 0}  # the second one hangs
        killed = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "poller", "redrive", str(config), "m"), stderr=asyncio.subprocess.DEVNULL
        )
        await waited("the second delivery", lambda: len(called.of("worker")) == 5)
        killed.kill()
        await killed.wait()
        moods["bad-2"] = 200
        code, told = await command("redrive", str(config), "m")
        assert (code, told.splitlines()[-1]) == (0, "1 batches delivered, 0 dropped, 0 stay")
        assert called.texts("worker") == ["good", "bad-1", "bad-2"]
        called.released.set()
        await daemon.stop()


async def test_a_kept_batch_of_which_the_function_names_a_record_as_failed_stays_in_its_bucket(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    sick = True

    async def behave(delivery: Delivery) -> int | dict[str, Any]:
        named = [each.id for each in delivery.records if sick and each.text.startswith("bad")]
        return {"batchItemFailures": [{"itemIdentifier": each} for each in named]}

    called.behave = behave
    async with cloud.http.put(f"{cloud.url}/given-up-partly") as made:
        assert made.status == 200
    mapping = stream(
        await cloud.stream("given-up-partly"),
        "worker",
        MaximumRetryAttempts=0,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        DestinationConfig={"OnFailure": {"Destination": "arn:aws:s3:::given-up-partly"}},
    )
    await cloud.put("given-up-partly", "bad-1", "bad-2")
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"m": mapping}))
    async with started(config) as daemon:
        await daemon.metric("poller_records_on_failure_delivered_total", "m", is_=lambda value: value == 2)
        code, told = await command("redrive", str(config), "m")
        assert (code, told.splitlines()[-1]) == (1, "0 batches delivered, 0 dropped, 1 stay"), told
        assert "reported 2 records" in told
        sick = False
        code, told = await command("redrive", str(config), "m")
        assert (code, told.splitlines()[-1]) == (0, "1 batches delivered, 0 dropped, 0 stay"), told
        await daemon.stop()


async def test_checkpoints_go_to_a_file_and_back_and_not_under_the_hands_of_a_replica(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    mapping = stream(await cloud.stream("saved"), "taker")
    document = settings(cloud, called, {"saved": mapping}, server={"port": 0, "token": "0123456789abcdef"})
    config = write(tmp_path / "c.yaml", document)
    file = tmp_path / "positions.json"
    async with started(config) as daemon:
        await cloud.put("saved", "a", "b")
        await called.given("taker", "a", "b")
        await daemon.metric("poller_checkpoints_total", "saved", "written", is_=lambda value: value >= 2)
        code, exported = await command("checkpoints", "export", str(config))
        assert code == 0
        file.write_text(exported)
        await cloud.put("saved", "c", "d")
        await called.given("taker", "c", "d")
        code, told = await command("checkpoints", "import", str(config), str(file))
        assert (code, told.splitlines()[-1].split(":")[0]) == (1, "nothing was written")
        assert "which is alive" in told
        orders = ("--url", await daemon.address(), "--token", "0123456789abcdef")
        assert (await command("pause", "saved", *orders))[0] == 0
        await daemon.line("shard let go", mapping="saved")
        code, told = await command("checkpoints", "import", str(config), str(file))
        assert (code, told.splitlines()[-1]) == (0, "1 rows written, the others are so already")
        assert called.texts("taker") == ["a", "b", "c", "d"]
        assert (await command("resume", "saved", *orders))[0] == 0
        await called.given("taker", "c", "d")
        async with asyncio.timeout(20):
            while called.texts("taker").count("d") < 2:
                await asyncio.sleep(0.05)
        await daemon.stop()
    assert called.texts("taker") == ["a", "b", "c", "d", "c", "d"]
