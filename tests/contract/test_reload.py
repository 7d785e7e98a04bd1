"""What a reload leaves untouched, by the real application in this process, on a scripted Kinesis."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import anyio
import yaml

from poller.service.app import run
from tests.servers.scripted import ScriptedServer, answer, by_operation, scripted

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
