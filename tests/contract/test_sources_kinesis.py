"""Kinesis as a source, on real servers: each asked only for what it is faithful in."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import anyio
import pytest

from poller.model.errors import NotFound
from poller.model.ports import Source
from poller.model.record import After, At, Cursor, TrimHorizon, event_of
from poller.sources.kinesis import KinesisStream
from tests.contract.reading import REGION, Admissions, admitted, aws_at, read_all, read_to_end, records_of

FIRST = "shardId-000000000000"
FROM_START = Cursor(position=TrimHorizon())
_names = count()


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A stream on a server: the source under test, and the SDK's client to write to it."""

    name: str
    arn: str
    source: Source
    client: Any

    async def put(self, *payloads: bytes, key: str = "k") -> list[str]:
        """The sequence numbers."""
        answers = [await self.client.put_record(StreamName=self.name, Data=data, PartitionKey=key) for data in payloads]
        return [answer["SequenceNumber"] for answer in answers]

    async def gone(self) -> None:
        """Wait until the stream is deleted."""
        while True:
            if self.name not in (await self.client.list_streams())["StreamNames"]:
                return
            await anyio.sleep(0.05)

    async def settled(self) -> None:
        """Wait until the stream has done what it was told."""
        while True:
            answer = await self.client.describe_stream_summary(StreamName=self.name)
            if answer["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE":
                return
            await anyio.sleep(0.05)


@asynccontextmanager
async def stream_on(url: str, *, shards: int = 1) -> AsyncIterator[Stream]:
    async with aws_at(url) as aws:
        client = await aws.client("kinesis", region=REGION)
        name = f"stream-{next(_names)}"
        await client.create_stream(StreamName=name, ShardCount=shards)
        arn = (await client.describe_stream_summary(StreamName=name))["StreamDescriptionSummary"]["StreamARN"]
        async with KinesisStream(arn=arn).open(aws, time.time) as source:
            stream = Stream(name=name, arn=arn, source=source, client=client)
            await stream.settled()
            yield stream


@pytest.fixture(params=["kinesis_local", "ministack", "moto"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param).url)


@pytest.fixture(params=["kinesis_local", "ministack"])
def good_url(request: pytest.FixtureRequest) -> str:
    """Servers whose positions and LATEST are right."""
    return str(request.getfixturevalue(request.param).url)


async def test_a_stream_lists_its_shards_and_its_retention(url):
    async with stream_on(url, shards=3) as stream:
        topology = await stream.source.topology()
        assert [(shard.id, shard.parents, shard.closed) for shard in topology.partitions] == [
            (f"shardId-00000000000{number}", (), False) for number in range(3)
        ]
        assert topology.retention == 86_400.0
        assert topology == await stream.source.topology()


async def test_a_stream_made_anew_has_another_identity(good_url):
    async with stream_on(good_url) as stream:
        before = await stream.source.topology()
        await stream.client.delete_stream(StreamName=stream.name)
        await stream.gone()
        await anyio.sleep(1.1)  # a creation time may be in whole seconds
        await stream.client.create_stream(StreamName=stream.name, ShardCount=1)
        await stream.settled()
        assert (await stream.source.topology()).identity != before.identity


async def test_records_arrive_in_order_with_their_payload(url):
    payloads = [b"", b"\x00\xff", "grüße 🙂".encode(), b'{"a":1}', b"x" * 100_000]
    async with stream_on(url) as stream:
        sequences = await stream.put(*payloads, key='k"ü')
        admissions = Admissions()
        page = await stream.source.read(FIRST, FROM_START, 100, admissions)
        assert [record.id for record in page.records] == sequences
        event = json.loads(event_of(page.records))
        assert [base64.b64decode(record["kinesis"]["data"]) for record in event["Records"]] == payloads
        assert {record.key for record in page.records} == {'k"ü'}
        assert all(abs(record.arrived - time.time()) < 30 for record in page.records)
        assert len(admissions.sizes) == 1
        assert admissions.sizes[0] > 100_000


async def test_the_event_is_lambdas(url):
    async with stream_on(url) as stream:
        (sequence,) = await stream.put(b"payload")
        (page,) = await read_all(stream.source, FIRST, FROM_START, wanted=1)
        (record,) = json.loads(event_of(page.records))["Records"]
        arrived = record["kinesis"].pop("approximateArrivalTimestamp")
        assert arrived == page.records[0].arrived
        account = stream.arn.split(":")[4]
        assert record == {
            "eventID": f"{FIRST}:{sequence}",
            "eventName": "aws:kinesis:record",
            "eventVersion": "1.0",
            "eventSource": "aws:kinesis",
            "eventSourceARN": stream.arn,
            "invokeIdentityArn": f"arn:aws:iam::{account}:role/poller",
            "awsRegion": REGION,
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": "k",
                "sequenceNumber": sequence,
                "data": "cGF5bG9hZA==",
            },
        }


async def test_reading_goes_on_where_the_last_page_ended(url):
    async with stream_on(url) as stream:
        sequences = await stream.put(*[b"%d" % number for number in range(7)])
        pages = await read_all(stream.source, FIRST, FROM_START, wanted=7, limit=3)
        assert [record.id for record in records_of(pages)] == sequences
        assert [page.full for page in pages if page.records][:2] == [True, True]
        assert pages[0].cursor is not None
        assert pages[0].cursor.position == After(sequences[2])


async def test_a_stored_position_is_found_again(good_url):
    async with stream_on(good_url) as stream:
        sequences = await stream.put(b"a", b"b", b"c")
        pages = await read_all(stream.source, FIRST, Cursor(position=After(sequences[0])), wanted=2)
        assert [record.id for record in records_of(pages)] == sequences[1:]


async def test_an_empty_page_keeps_its_position(url):
    async with stream_on(url) as stream:
        page = await stream.source.read(FIRST, FROM_START, 10, admitted)
        assert (page.records, page.full, page.behind) == ((), False, 0.0)
        assert page.cursor is not None
        assert page.cursor.position == TrimHorizon()
        assert page.cursor.token


async def test_latest_begins_with_the_next_record(good_url):
    async with stream_on(good_url) as stream:
        await stream.put(b"before")
        cursor = await stream.source.latest(FIRST)
        (sequence,) = await stream.put(b"after")
        pages = await read_all(stream.source, FIRST, cursor, wanted=1)
        assert [record.id for record in records_of(pages)] == [sequence]


async def test_latest_found_again_from_its_stored_moment_loses_nothing(good_url):
    async with stream_on(good_url) as stream:
        cursor = await stream.source.latest(FIRST)
        assert isinstance(cursor.position, At)
        assert cursor.position.time <= time.time()
        sequences = await stream.put(b"a", b"b")
        pages = await read_all(stream.source, FIRST, Cursor(position=cursor.position), wanted=2)
        assert [record.id for record in records_of(pages)] == sequences


async def test_a_moment_leaves_out_what_arrived_before(kinesis_local):
    async with stream_on(kinesis_local.url) as stream:
        await stream.put(b"before")
        await anyio.sleep(2.1)
        moment = time.time() - 1
        (sequence,) = await stream.put(b"after")
        pages = await read_all(stream.source, FIRST, Cursor(position=At(moment)), wanted=1)
        assert [record.id for record in records_of(pages)] == [sequence]


async def test_a_reader_that_is_behind_says_so(kinesis_local):
    async with stream_on(kinesis_local.url) as stream:
        await stream.put(b"old")
        await anyio.sleep(0.5)
        await stream.put(b"new")
        page = await stream.source.read(FIRST, FROM_START, 1, admitted)
        assert page.behind > 0
        assert page.full


async def test_a_split_shard_ends_and_its_children_begin(kinesis_local):
    async with stream_on(kinesis_local.url) as stream:
        before = await stream.put(b"a", b"b")
        await stream.client.split_shard(StreamName=stream.name, ShardToSplit=FIRST, NewStartingHashKey=str(2**127))
        await stream.settled()
        after = await stream.put(b"c")
        topology = await stream.source.topology()
        parent, *children = sorted(topology.partitions, key=lambda shard: shard.id)
        assert parent.closed
        assert [(child.parents, child.closed) for child in children] == [((FIRST,), False)] * 2
        assert [record.id for record in await read_to_end(stream.source, FIRST, FROM_START)] == before
        found = [await stream.source.read(child.id, FROM_START, 10, admitted) for child in children]
        assert [record.id for page in found for record in page.records] == after


async def test_a_position_at_the_end_of_a_closed_shard_ends_again(kinesis_local):
    async with stream_on(kinesis_local.url) as stream:
        (last,) = await stream.put(b"a")
        await stream.client.split_shard(StreamName=stream.name, ShardToSplit=FIRST, NewStartingHashKey=str(2**127))
        await stream.settled()
        assert await read_to_end(stream.source, FIRST, Cursor(position=After(last))) == []


async def test_merged_shards_end_and_their_child_knows_both(kinesis_local):
    async with stream_on(kinesis_local.url, shards=2) as stream:
        other = "shardId-000000000001"
        await stream.client.merge_shards(StreamName=stream.name, ShardToMerge=FIRST, AdjacentShardToMerge=other)
        await stream.settled()
        topology = await stream.source.topology()
        child = max(topology.partitions, key=lambda shard: shard.id)
        assert sorted(child.parents) == [FIRST, other]
        for parent in (FIRST, other):
            assert await read_to_end(stream.source, parent, FROM_START) == []


async def test_a_stream_that_may_be_read_passes_the_check(url):
    async with stream_on(url) as stream:
        await stream.source.check()


async def test_a_stream_that_is_not_there_is_not_found(url):
    async with aws_at(url) as aws:
        arn = f"arn:aws:kinesis:{REGION}:000000000000:stream/nowhere"
        async with KinesisStream(arn=arn).open(aws, time.time) as source:
            for ask in (source.check, source.topology):
                with pytest.raises(NotFound, match=r"ResourceNotFoundException.*check the name, region and account"):
                    await ask()
