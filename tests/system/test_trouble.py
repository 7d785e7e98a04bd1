"""What passes by itself: a source that hangs, a function that is down for a while."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from tests.servers.scripted import Reply, Request, answer, by_operation, scripted
from tests.system.cloud import Cloud
from tests.system.daemon import started, waited, write
from tests.system.functions import Delivery, Functions
from tests.system.settings import queue, settings, stream

_SUMMARY = {"StreamDescriptionSummary": {"RetentionPeriodHours": 24, "StreamCreationTimestamp": 1_700_000_000.0}}
_SHARD = {
    "ShardId": "shardId-000000000000",
    "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "1"},
    "SequenceNumberRange": {"StartingSequenceNumber": "1"},
}


@pytest.mark.parametrize("hanging", ["DescribeStreamSummary", "GetShardIterator", "GetRecords"])
async def test_a_stream_that_does_not_answer_does_not_hold_up_the_stop(hanging: str, called: Functions, tmp_path: Path):
    never = asyncio.Event()

    async def hang(_: Request) -> Reply:
        await never.wait()
        return answer({})

    answers: dict[str, Reply] = {
        "DescribeStreamSummary": answer(_SUMMARY),
        "ListShards": answer({"Shards": [_SHARD]}),
        "GetShardIterator": answer({"ShardIterator": "iterator"}),
    }
    async with scripted(by_operation(**(answers | {hanging: hang}))) as kinesis:
        document = {
            "aws": {"region": "eu-west-1", "endpoint_url": kinesis.url},
            "server": {"port": 0},
            "store": "memory://",
            "shutdown_grace": 20,
            "functions": {"f": {"url": called.url}},
            "mappings": {"m": stream("arn:aws:kinesis:eu-west-1:000000000000:stream/slow", "f")},
        }
        async with started(write(tmp_path / "c.yaml", document)) as daemon:
            await waited(f"{hanging} under way", lambda: hanging in kinesis.operations())
            began = time.monotonic()
            daemon.send(signal.SIGTERM)
            assert await daemon.exit_code() == 0, "nothing was in flight"
            assert time.monotonic() - began < 5.0
        never.set()


async def test_a_message_is_taken_once_when_its_function_was_down_for_longer_than_the_message_was_ours(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    """Tries end with the visibility; else each receive would add another holder of the same message."""
    mapping = {"m": queue(await cloud.queue("patient", visibility=2), "f")}

    async def closed(delivery: Delivery) -> int:
        return 200 if called.released.is_set() else 503

    called.behave = closed
    await cloud.send("patient", "letter")
    async with started(write(tmp_path / "c.yaml", settings(cloud, called, mapping))) as daemon:
        await called.given("f", "letter", status=503)
        await asyncio.sleep(7.0)
        in_flight = (await daemon.mapping("m"))["shards"][0]["records_held"]
        assert in_flight <= 1, "the same message is held more than once"
        called.released.set()
        await called.given("f", "letter")
        await daemon.metric("poller_messages_deleted_total", "m", is_=lambda value: value == 1)
        await asyncio.sleep(3.0)
        await daemon.stop()
    assert called.texts("f") == ["letter"]
    assert await cloud.left("patient") == 0
