"""What operators see of the running daemon: probes, metrics, ages, and one process for each store."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from tests.servers.scripted import Reply, Request, answer, by_operation, scripted
from tests.system.cloud import Cloud
from tests.system.daemon import finished, started, waited, write
from tests.system.functions import Delivery, Functions
from tests.system.settings import queue, settings, stream

_PER_MAPPING = {
    "poller_invocation_iterator_age_seconds_count": ["{}"],
    "poller_records_polled_total": ["{}"],
    "poller_records_filtered_total": ["{}"],
    "poller_records_invoked_total": ["{}"],
    "poller_records_failed_total": ["{}"],
    "poller_records_dropped_total": [
        f"{condition} {{}}" for condition in ("RetryAttemptsExhausted", "RecordAgeExceeded", "Expired", "Trimmed")
    ],
    "poller_records_on_failure_delivered_total": ["{}"],
    "poller_messages_deleted_total": ["{}"],
    "poller_invocations_total": [
        f"{{}} {outcome}"
        for outcome in ("success", "partial", "function_error", "timeout", "throttled", "service_error")
    ],
    "poller_invocation_duration_seconds_count": ["{}"],
    "poller_invocations_in_flight": ["{}"],
    "poller_batch_records_count": ["{}"],
    "poller_polls_total": [f"{{}} {outcome}" for outcome in ("records", "empty", "throttled", "error")],
    "poller_poll_duration_seconds_count": ["{}"],
    "poller_checkpoints_total": [f"{{}} {outcome}" for outcome in ("written", "superseded", "error")],
    "poller_shards": [f"{{}} {state}" for state in ("owned", "blocked_on_parent", "ended")],
    "poller_mapping_state": [f"{{}} {state}" for state in ("Enabled", "Disabled", "Creating", "Disabling")],
}
"""The metrics of every mapping, with their labels' values in the order of the labels' names."""
_AGE = "poller_iterator_age_seconds"
_SHARD = "shardId-000000000000"


async def test_every_metric_of_the_contract_is_there_for_every_mapping(cloud: Cloud, called: Functions, tmp_path: Path):
    mappings = {
        "m-stream": stream(await cloud.stream("metered"), "s"),
        "m-table": stream(await cloud.table("metered"), "t"),
        "m-queue": queue(await cloud.queue("metered"), "q"),
    }
    async with started(write(tmp_path / "c.yaml", settings(cloud, called, mappings))) as daemon:
        await cloud.put("metered", "record")
        await cloud.put_item("metered", "item")
        await cloud.send("metered", "letter")
        await called.given("s", "record")
        await called.given("t", "item")
        await called.given("q", "letter")
        await daemon.metric("poller_messages_deleted_total", "m-queue", is_=lambda value: value == 1)
        await daemon.metric("poller_invocations_total", "m-stream", "success", is_=lambda value: value == 1)
        await daemon.metric("poller_invocations_total", "m-table", "success", is_=lambda value: value == 1)
        series = await daemon.metrics()
        for mapping in mappings:
            for name, labels in _PER_MAPPING.items():
                missing = [label for label in labels if (name, *label.format(mapping).split()) not in series]
                assert not missing, f"{name} {missing}"
            assert series["poller_records_polled_total", mapping] == 1
            assert series["poller_records_invoked_total", mapping] == 1
            assert series["poller_batch_records_sum", mapping] == 1
            assert series["poller_mapping_state", mapping, "Enabled"] == 1
            assert series["poller_invocations_in_flight", mapping] == 0
            assert [value for key, value in series.items() if key[:2] == (_AGE, mapping)] == [0]
        assert series["poller_behind_latest_seconds", "m-stream", _SHARD] == 0
        assert series["poller_config_last_reload_successful",] == 1
        assert series["poller_config_last_reload_success_timestamp_seconds",] >= daemon.began - 1
        assert [value for key, value in series.items() if key[0] == "poller_build_info"] == [1]
        assert {name for name, *_ in series} >= {"process_cpu_seconds_total", "process_resident_memory_bytes"}
        assert (await daemon.get("/"))[0] == 200
        await daemon.stop()


async def test_the_iterator_age_grows_while_a_poison_record_blocks_a_shard_and_is_zero_after(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    mapping = stream(await cloud.stream("poisoned"), "f", BatchSize=1)

    async def refuse(delivery: Delivery) -> int:
        return 200 if called.released.is_set() or delivery.texts != ["poison"] else 500

    called.behave = refuse
    async with started(write(tmp_path / "c.yaml", settings(cloud, called, {"m": mapping}))) as daemon:
        await cloud.put("poisoned", "good", "poison", "behind")
        await called.given("f", "good")
        first = await daemon.metric(_AGE, "m", _SHARD, is_=lambda value: value > 0.5)
        await asyncio.sleep(1.0)
        second = (await daemon.metrics())[_AGE, "m", _SHARD]
        assert 0.9 <= second - first < 5.0
        assert (await daemon.metrics())["poller_invocations_total", "m", "function_error"] >= 2
        (shard,) = (await daemon.mapping("m"))["shards"]
        assert shard["retry"]["attempt"] >= 2
        assert "as told" in shard["retry"]["reason"]
        assert called.texts("f") == ["good"], "nothing overtakes a poison record"
        called.released.set()
        await called.given("f", "good", "poison", "behind")
        await daemon.metric(_AGE, "m", _SHARD, is_=lambda value: value == 0)
        await daemon.stop()
    assert called.texts("f") == ["good", "poison", "behind"]


async def test_it_is_ready_once_it_has_read_and_not_before(called: Functions, tmp_path: Path):
    read = asyncio.Event()

    async def receive(_: Request) -> Reply:
        await read.wait()
        await asyncio.sleep(0.1)
        return answer({"Messages": []})

    script = by_operation(
        GetQueueUrl=answer({"QueueUrl": "http://127.0.0.1:1/000000000000/q"}),
        GetQueueAttributes=answer({"Attributes": {"MessageRetentionPeriod": "345600", "VisibilityTimeout": "30"}}),
        ReceiveMessage=receive,
    )
    async with scripted(script) as sqs:
        document = {
            "aws": {"region": "eu-west-1", "endpoint_url": sqs.url},
            "server": {"port": 0},
            "functions": {"f": {"url": called.url}},
            "mappings": {"m": queue("arn:aws:sqs:eu-west-1:000000000000:q", "f")},
        }
        async with started(write(tmp_path / "c.yaml", document)) as daemon:
            await waited("a receive under way", lambda: "ReceiveMessage" in sqs.operations())
            status, text = await daemon.get("/readyz")
            assert status == 503
            assert "waiting for the first read of m" in text
            assert (await daemon.get("/healthz"))[0] == 200
            read.set()
            await daemon.metric("poller_polls_total", "m", "empty", is_=lambda value: value >= 1)
            assert (await daemon.get("/readyz"))[0] == 200
            await daemon.stop()


async def test_a_second_process_on_the_same_file_joins_under_the_next_number_and_takes_over_at_the_end(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    document = settings(cloud, called, {"one": stream(await cloud.stream("one"), "f")})
    config = write(tmp_path / "c.yaml", document)
    async with started(config) as first:
        one = (await first.line("replica is up"))["member"]
        async with started(config) as second:
            await second.line("replica is up", member=f"{one.removesuffix('-1')}-2")
            await second.line("shard is another replica's", owner=one)
            await first.stop()
            await cloud.put("one", "record")
            await called.given("f", "record")
            await second.stop()


async def test_the_status_of_the_running_daemon_can_be_asked_for_and_its_absence_is_one_line(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    document = settings(cloud, called, {"asked": stream(await cloud.stream("asked"), "f")})
    async with started(write(tmp_path / "c.yaml", document)) as daemon:
        await cloud.put("asked", "record")
        await called.given("f", "record")
        url = await daemon.address()
        done = await asyncio.to_thread(finished, "status", "--url", url)
        assert (done.returncode, done.stderr) == (0, "")
        assert "asked" in done.stdout
        assert _SHARD in done.stdout
        await daemon.stop()
    done = await asyncio.to_thread(finished, "status", "--url", url)
    assert done.returncode == 1
    (told,) = done.stderr.splitlines()
    assert url in told


async def test_a_source_that_is_made_later_is_read_once_it_exists_and_the_others_do_not_notice(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    there = await cloud.stream("there")
    mappings = {"there": stream(there, "there"), "later": stream(there.replace("/there", "/later"), "later")}
    async with started(write(tmp_path / "c.yaml", settings(cloud, called, mappings))) as daemon:
        line = await daemon.line("mapping cannot go on", mapping="later")
        assert "later" in line["reason"]
        assert line["retry_in"] < 10.0
        assert (await daemon.mapping("later"))["LastProcessingResult"].startswith("PROBLEM")
        await cloud.put("there", "meanwhile")
        await called.given("there", "meanwhile")
        assert (await daemon.get("/readyz"))[0] == 200
        await cloud.stream("later")
        await cloud.put("later", "first")
        await called.given("later", "first", within=line["retry_in"] + 10.0)
        await daemon.line("mapping goes on", mapping="later")
        assert not (await daemon.mapping("later"))["LastProcessingResult"].startswith("PROBLEM")
        for state in ("Enabling", "Enabled"):
            assert len(daemon.lines("mapping changed its state", mapping="there", state=state)) == 1
        assert not daemon.lines("", mapping="there", level="WARN")
        await daemon.stop()


_HANDLERS = """
def take(event, context):
    for record in event["Records"]:
        print("took", record["body"])
"""


async def test_a_function_on_this_machine_is_run_by_the_daemon_and_ends_with_it(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    (tmp_path / "handlers.py").write_text(_HANDLERS)
    document = settings(cloud, called, {"m": queue(await cloud.queue("local"), "local")})
    document["functions"]["local"] = {
        "command": [sys.executable, "-m", "awslambdaric", "handlers.take"],
        "directory": ".",
    }
    await cloud.send("local", "letter")
    async with started(write(tmp_path / "c.yaml", document)) as daemon:
        assert (await daemon.line("took letter"))["function"] == "local"
        await daemon.metric("poller_messages_deleted_total", "m", is_=lambda value: value == 1)
        await daemon.stop()
    assert await cloud.left("local") == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
async def test_no_function_of_this_machine_outlives_the_daemon(
    number: signal.Signals, cloud: Cloud, called: Functions, tmp_path: Path
):
    (tmp_path / "handlers.py").write_text("import os\n\n\ndef take(event, context):\n    print('pid', os.getpid())\n")
    name = f"outlive-{number.name}"
    document = settings(cloud, called, {"m": queue(await cloud.queue(name), "local")})
    document["functions"]["local"] = {
        "command": [sys.executable, "-m", "awslambdaric", "handlers.take"],
        "directory": ".",
    }
    await cloud.send(name, "letter")
    async with started(write(tmp_path / "c.yaml", document)) as daemon:
        pid = int((await daemon.line("pid "))["message"].split()[1])
        assert _lives(pid)
        daemon.send(number)
        await daemon.exit_code()
        await waited(f"the end of {pid}", lambda: not _lives(pid), within=10.0)


def _lives(pid: int) -> bool:
    """A process that has ended has no command line, even while nobody has taken notice of its end."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_text())
    except FileNotFoundError:
        return False
