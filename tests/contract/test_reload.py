"""What a reload leaves untouched, by the real application in this process, on a scripted Kinesis."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import aiohttp
import anyio
import pytest
import yaml

from poller.service.app import run
from tests.servers.scripted import Reply, Request, ScriptedServer, answer, by_operation, scripted

_SUMMARY = {"StreamDescriptionSummary": {"RetentionPeriodHours": 24, "StreamCreationTimestamp": 1_700_000_000.0}}
_SHARD = {
    "ShardId": "shardId-000000000000",
    "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "1"},
    "SequenceNumberRange": {"StartingSequenceNumber": "1"},
}
_KINESIS = by_operation(
    DescribeStreamSummary=answer(_SUMMARY),
    ListShards=answer({"Shards": [_SHARD]}),
    GetShardIterator=answer({"ShardIterator": "iterator"}),
    GetRecords=answer({"Records": [], "NextShardIterator": "next", "MillisBehindLatest": 0}),
)


def write(path: Path, kinesis: ScriptedServer, **more: object) -> None:
    mapping = {
        "EventSourceArn": "arn:aws:kinesis:eu-west-1:000000000000:stream/s",
        "FunctionName": "f",
        "StartingPosition": "LATEST",
    }
    document = {
        "aws": {"region": "eu-west-1", "endpoint_url": kinesis.url},
        "server": {"port": 0},
        "store": "memory://",
        "functions": {"f": {"url": "http://127.0.0.1:9/"}},
        "mappings": {"m": mapping},
        **more,
    }
    path.write_text(yaml.safe_dump(document))


def iterators(kinesis: ScriptedServer) -> list[str]:
    return [each.parameters["ShardIteratorType"] for each in kinesis.requests if each.operation == "GetShardIterator"]


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0.02)


async def test_positions_in_memory_outlive_a_reload_that_begins_everything_anew(tmp_path: Path):
    config, environ = tmp_path / "c.yaml", dict(os.environ)
    async with scripted(_KINESIS) as kinesis, anyio.create_task_group() as tasks:
        write(config, kinesis)
        tasks.start_soon(run, config, environ)
        await until(lambda: "GetRecords" in kinesis.operations())
        assert iterators(kinesis) == ["LATEST"]
        write(config, kinesis, memory="64MiB")
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: len(iterators(kinesis)) == 2)
        os.kill(os.getpid(), signal.SIGTERM)
    assert iterators(kinesis) == ["LATEST", "AT_TIMESTAMP"], "what came during the reload would be lost"


async def test_a_mapping_that_was_removed_and_still_has_a_call_in_flight_when_everything_begins_anew_is_told_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "poller")
    config, environ, answers = tmp_path / "c.yaml", dict(os.environ), anyio.Event()
    record = {"SequenceNumber": "1", "ApproximateArrivalTimestamp": 1.7e9, "Data": "e30=", "PartitionKey": "k"}
    empty = {"Records": [], "NextShardIterator": "next", "MillisBehindLatest": 0}

    def read(request: Request) -> Reply:
        return answer({**empty, "Records": [record]} if request.parameters["ShardIterator"] == "iterator" else empty)

    async def slow(_: Request) -> Reply:
        await answers.wait()
        return answer(None)

    def told(message: str, name: str) -> list[object]:
        lines = [each.__dict__.get("fields", {}) for each in caplog.records if each.getMessage() == message]
        return [fields.get("state") for fields in lines if fields.get("mapping") == name]

    script = by_operation(
        DescribeStreamSummary=answer(_SUMMARY),
        ListShards=answer({"Shards": [_SHARD]}),
        GetShardIterator=answer({"ShardIterator": "iterator"}),
        GetRecords=read,
    )
    async with scripted(script) as kinesis, scripted(slow) as function, anyio.create_task_group() as tasks:
        functions = {"f": {"url": "http://127.0.0.1:9/"}, "slow": {"url": f"{function.url}/"}}
        source = {
            "EventSourceArn": "arn:aws:kinesis:eu-west-1:000000000000:stream/s",
            "StartingPosition": "TRIM_HORIZON",
        }
        stays, goes = source | {"FunctionName": "f"}, source | {"FunctionName": "slow"}
        write(config, kinesis, functions=functions, mappings={"stays": stays, "goes": goes})
        tasks.start_soon(run, config, environ)
        await until(lambda: bool(function.requests))
        write(config, kinesis, functions=functions, mappings={"stays": stays})
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: sum(each.getMessage() == "configuration read" for each in caplog.records) == 2)
        write(config, kinesis, functions=functions, mappings={"stays": stays}, memory="64MiB")
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: "Disabling" in told("mapping changed its state", "stays"))
        answers.set()
        await until(lambda: told("mapping changed its state", "stays").count("Enabled") == 2)
        os.kill(os.getpid(), signal.SIGTERM)
    assert len(told("mapping removed", "goes")) == 1
    assert not told("mapping removed", "stays")


async def test_what_a_replica_was_among_those_of_another_store_is_not_told_any_more_after_a_change_of_the_store(
    tmp_path: Path,
):
    config, environ, rows = tmp_path / "c.yaml", dict(os.environ), tmp_path / "state.db"
    with socket.create_server(("127.0.0.1", 0)) as free:
        server = {"port": free.getsockname()[1]}
    more = {"server": server, "fleet": {"profile": "fast"}, "shutdown_grace": 3}

    async def scrape() -> set[str]:
        try:
            async with (
                aiohttp.ClientSession() as client,
                client.get(f"http://127.0.0.1:{server['port']}/metrics") as answered,
            ):
                return set((await answered.text()).splitlines())
        except aiohttp.ClientError:  # between two houses nobody answers
            return set()

    async def until_told(line: str) -> set[str]:
        with anyio.fail_after(20):
            while line not in (lines := await scrape()):
                await anyio.sleep(0.05)
        return lines

    async with scripted(_KINESIS) as kinesis, anyio.create_task_group() as tasks:
        write(config, kinesis, **more, store=f"sqlite://{rows}")
        tasks.start_soon(run, config, environ)
        await until_told('poller_members{state="up"} 1')
        locked = sqlite3.connect(rows, isolation_level=None)
        locked.execute("BEGIN IMMEDIATE")
        await until_told("poller_self_fenced 1.0")
        write(config, kinesis, **more)
        os.kill(os.getpid(), signal.SIGHUP)
        lines = await until_told("poller_self_fenced 0.0")
        locked.close()
        assert not [line for line in lines if line.startswith("poller_member_beat_age_seconds{")]
        os.kill(os.getpid(), signal.SIGTERM)
