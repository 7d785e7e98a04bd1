"""An application of the real Kinesis Client Library goes on here, and back again: nothing is lost on either way."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from tests.servers.kcl import Application, running, stopped
from tests.servers.kpl import aggregate, key_between
from tests.servers.processes import Server
from tests.system.cloud import Cloud, clouded
from tests.system.daemon import finished, started, waited, write
from tests.system.functions import Functions
from tests.system.settings import settings, stored, stream

_RENEWED = "2.5"
"""Seconds within which each worker has renewed its leases; they do so every one."""


async def _table(cloud: Cloud, name: str, checkpoint: str) -> None:
    """A lease table with a row for each open shard of `orders`, as version 1.0 created them."""
    await cloud.dynamodb(
        "CreateTable",
        TableName=name,
        KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for shard in await cloud.shards("orders"):
        if not shard["SequenceNumberRange"].get("EndingSequenceNumber"):
            item = {"leaseKey": {"S": shard["ShardId"]}, "checkpoint": {"S": checkpoint}}
            numbers = {"leaseCounter": {"N": "0"}, "ownerSwitchesSinceCheckpoint": {"N": "0"}}
            await cloud.dynamodb("PutItem", TableName=name, Item=item | numbers)


async def _leases(cloud: Cloud, table: str) -> dict[str, dict[str, Any]]:
    """The rows of a table as plain values, by shard."""
    items = (await cloud.dynamodb("Scan", TableName=table))["Items"]
    rows = [{name: next(iter(value.values())) for name, value in item.items()} for item in items]
    return {row["leaseKey"]: row for row in rows}


async def _split(cloud: Cloud, shard: Mapping[str, Any]) -> None:
    first, last = _hash_keys(shard)
    middle = str((first + last) // 2)
    await cloud.kinesis("SplitShard", StreamName="orders", ShardToSplit=shard["ShardId"], NewStartingHashKey=middle)
    await cloud.active("orders")


async def _forget_leader(cloud: Cloud) -> None:
    """The library's new leader waits for 120 s until it is sure that the old one is dead; we know it."""
    await cloud.dynamodb("DeleteItem", TableName="library-CoordinatorState", Key={"key": {"S": "Leader"}})


def _hash_keys(shard: Mapping[str, Any]) -> tuple[int, int]:
    return int(shard["HashKeyRange"]["StartingHashKey"]), int(shard["HashKeyRange"]["EndingHashKey"])


async def _put_aggregate(cloud: Cloud, shard: Mapping[str, Any], *texts: str) -> None:
    key = key_between(*_hash_keys(shard))
    data = base64.b64encode(aggregate(key, texts)).decode()
    await cloud.kinesis("PutRecord", StreamName="orders", PartitionKey=key, Data=data)


def _batch(name: str) -> list[str]:
    return [f"{name}-{number}" for number in range(20)]


def _poller(config: Path, table: str, *options: str, settle: str = "0.2") -> tuple[int, str]:
    """How `import-kcl` ends, and what it says. Without workers nothing has to be waited for."""
    done = finished("import-kcl", table, "--config", str(config), "--mapping", "orders", "--settle", settle, *options)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(240)  # where Java has to be installed first
async def test_an_application_of_the_real_library_goes_on_here_and_back_there(
    ministack: Server, kinesis_local: Server, called: Functions, tmp_path: Path
):
    async with clouded(ministack.url, kinesis_local.url) as cloud:
        arn = await cloud.stream("orders", shards=2)
        await _table(cloud, "library", "TRIM_HORIZON")
        library = Application(
            name="library",
            stream="orders",
            kinesis_url=kinesis_local.url,
            dynamodb_url=ministack.url,
            folder=tmp_path,
        )
        config = write(tmp_path / "c.yaml", settings(cloud, called, {"orders": stream(arn, "orders", BatchSize=5)}))
        one, two = await cloud.shards("orders")

        await cloud.put_many("orders", _batch("first"))
        await _split(cloud, one)
        await cloud.put_many("orders", _batch("second"))
        await _put_aggregate(cloud, (await cloud.shards("orders"))[2], "packed-0", "packed-1")
        await _put_aggregate(cloud, two, "half-0", "half-1", "unfinished-2")
        there = [*_batch("first"), *_batch("second"), "packed-0", "packed-1", "half-0", "half-1"]
        with running(library) as process:
            await waited("all of it at the library", lambda: len(library.texts()) >= len(there), 60.0)
            code, told = _poller(config, "library", settle=_RENEWED)
            assert code == 1
            assert "workers of the application are alive" in told
            await stopped(process)
        assert sorted(library.texts()) == sorted(there)
        leases = await _leases(cloud, "library")
        assert leases[one["ShardId"]]["checkpoint"] == "SHARD_END"
        assert leases[two["ShardId"]]["checkpointSubSequenceNumber"] == "1"
        assert len(leases) == 4

        code, told = _poller(config, "library")
        assert code == 0, told
        assert "an aggregate with 2 of 3 user records done" in told
        assert stored(tmp_path, "orders")[one["ShardId"]].ended
        code, told = _poller(config, "library")
        assert code == 1
        assert "which this would overwrite" in told

        await _table(cloud, "newest", "LATEST")
        newest = Application(**vars(library) | {"name": "newest"})
        (tmp_path / "newest").mkdir()
        its_config = write(tmp_path / "newest" / "c.yaml", settings(cloud, called, {"orders": stream(arn, "orders")}))
        code, told = _poller(its_config, "newest")
        assert code == 0, told

        await cloud.put_many("orders", _batch("third"))
        async with started(config) as daemon:
            await called.given("orders", *_batch("third"))
            code, told = _poller(config, "library", "--write-back")
            assert code == 1
            assert "a poller is processing the mapping" in told
            await _split(cloud, two)
            await cloud.put_many("orders", _batch("fourth"))
            await called.given("orders", *_batch("fourth"))
            await waited("the end of the second shard", lambda: stored(tmp_path, "orders")[two["ShardId"]].ended)
            await daemon.stop()
        here = called.texts("orders")
        (again,) = [text for text in here if "unfinished-2" in text]
        assert Counter(here) == Counter([*_batch("third"), *_batch("fourth"), again]), "only the half-done one again"

        code, told = _poller(config, "library", "--write-back")
        assert code == 0, told
        await cloud.put_many("orders", _batch("fifth"))
        code, told = _poller(its_config, "newest", "--write-back")
        assert code == 0, told
        leases = await _leases(cloud, "library")
        assert leases[two["ShardId"]]["checkpoint"] == "SHARD_END"
        assert set(leases) == {shard["ShardId"] for shard in await cloud.shards("orders")}
        since = [*_batch("third"), *_batch("fourth"), *_batch("fifth")]
        await _forget_leader(cloud)
        with running(library), running(newest):
            await waited("what came since", lambda: len(library.texts()) >= len(there) + 20, 60.0)
            await waited("all that came behind LATEST", lambda: len(newest.texts()) >= len(since), 60.0)
            await anyio.sleep(1.5)  # for what should not come
        assert Counter(library.texts()) == Counter([*there, *_batch("fifth")])
        assert Counter(newest.texts()) == Counter(since)
