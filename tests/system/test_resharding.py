"""A Kinesis stream that is split and merged while records flow: nothing is lost, no child overtakes a parent."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.servers.processes import Server
from tests.system.cloud import Cloud, clouded
from tests.system.daemon import Daemon, started, waited, write
from tests.system.functions import Delivery, Functions
from tests.system.settings import settings, stored, stream

_SEED = 7


class Flow:
    """Records that are put until the end."""

    def __init__(self, cloud: Cloud, name: str) -> None:
        self._cloud = cloud
        self._name = name
        self.running = True
        self.shards: dict[str, str] = {}
        """The shard of every record."""

    async def run(self) -> None:
        while self.running:
            texts = [f"{self._name}-{len(self.shards) + index}" for index in range(6)]
            placed = await self._cloud.put_many(self._name, texts)
            self.shards |= {text: shard for text, (shard, _) in placed.items()}
            await asyncio.sleep(0.05)

    async def more(self) -> None:
        """Wait until every open shard has been given something more."""
        wanted = {shard["ShardId"] for shard in await self._cloud.shards(self._name) if _open(shard)}
        before = len(self.shards)
        await waited("records in all open shards", lambda: wanted <= set(list(self.shards.values())[before:]))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("killed", [False, True], ids=["and the process lives", "and the process is killed"])
async def test_a_stream_split_and_merged_under_way_loses_nothing_and_no_child_overtakes_its_parents(
    killed: bool, kinesis_local: Server, called: Functions, tmp_path: Path
):
    name = f"reshard-{killed}".lower()
    chance = random.Random(_SEED)

    async def moody(delivery: Delivery) -> int:
        """Slow enough for a parent to be behind when its children are there; it fails now and then."""
        await asyncio.sleep(chance.uniform(0.02, 0.15))
        return 500 if chance.random() < 0.05 else 200

    called.behave = moody
    async with clouded(kinesis_local.url) as cloud, AsyncExitStack() as stack:
        mapping = stream(await cloud.stream(name, shards=2), name, BatchSize=5)
        config = write(tmp_path / "c.yaml", settings(cloud, called, {name: mapping}))
        daemon = await stack.enter_async_context(started(config))
        flow = Flow(cloud, name)
        flowing = asyncio.create_task(flow.run())
        try:
            await waited("first deliveries", lambda: called.texts(name))
            await _split(cloud, name)
            if killed:
                await waited("a delivery behind the split", lambda: called.of(name)[-1].ended is None)
                await daemon.kill()
                daemon = await stack.enter_async_context(started(config))
            await flow.more()
            await _merge(cloud, name)
            await flow.more()
        finally:
            flow.running = False
            await flowing
        await called.given(name, *flow.shards, within=60.0)
        shards = await cloud.shards(name)
        await _ends_are_stored(shards, tmp_path, name, daemon)
        await daemon.stop()
    assert len(shards) == 5, "two at first, two of the split, one of the merge"
    _no_child_overtakes(shards, called.of(name))


def _open(shard: dict[str, Any]) -> bool:
    return shard["SequenceNumberRange"].get("EndingSequenceNumber") is None


async def _split(cloud: Cloud, name: str) -> None:
    """Split the first open shard in the middle of its hash keys."""
    shard = next(shard for shard in await cloud.shards(name) if _open(shard))
    keys = shard["HashKeyRange"]
    middle = (int(keys["StartingHashKey"]) + int(keys["EndingHashKey"])) // 2
    await cloud.kinesis("SplitShard", StreamName=name, ShardToSplit=shard["ShardId"], NewStartingHashKey=str(middle))
    await cloud.active(name)


async def _merge(cloud: Cloud, name: str) -> None:
    """Merge the last child of the split with the other shard of the beginning: its parents are of two generations."""
    by_key = sorted(
        filter(_open, await cloud.shards(name)), key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"])
    )
    _, left, right = by_key
    await cloud.kinesis(
        "MergeShards", StreamName=name, ShardToMerge=left["ShardId"], AdjacentShardToMerge=right["ShardId"]
    )
    await cloud.active(name)


async def _ends_are_stored(shards: list[dict[str, Any]], folder: Path, name: str, daemon: Daemon) -> None:
    closed = {shard["ShardId"] for shard in shards if not _open(shard)}

    def look() -> bool:
        return {shard for shard, row in stored(folder, name).items() if row.ended} == closed

    await waited(f"the ends of {closed} in the store", look)
    document = await daemon.mapping(name)
    owned = {shard["id"] for shard in document["shards"] if shard["state"] == "owned"}
    assert owned == {shard["ShardId"] for shard in shards} - closed


def _no_child_overtakes(shards: list[dict[str, Any]], deliveries: list[Delivery]) -> None:
    """Nor is a shard delivered out of order, whatever failed."""
    of: dict[str, list[Delivery]] = defaultdict(list)
    for delivery in deliveries:
        (read_from,) = {record.shard for record in delivery.records}
        of[read_from].append(delivery)
    generations = 0
    for shard in shards:
        own = of[shard["ShardId"]]
        first_time = list(dict.fromkeys(record.sequence for delivery in own for record in delivery.records))
        assert first_time == sorted(first_time), f"{shard['ShardId']} is out of order"
        for parent in (shard.get("ParentShardId"), shard.get("AdjacentParentShardId")):
            if parent:
                generations += 1
                ends = [delivery.ended or float("inf") for delivery in of[parent]]
                assert max(ends) <= own[0].began, f"{shard['ShardId']} began before {parent} was settled"
                assert of[parent][-1].status == 200, f"the last batch of {parent} never succeeded"
    assert generations == 4
