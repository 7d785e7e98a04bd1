"""Kinesis streams, read by polling."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from sys import intern
from typing import Any

from poller.aws.errors import translated
from poller.aws.session import Aws
from poller.model.errors import IteratorExpired, Transient
from poller.model.ports import Admit, Clock, Source
from poller.model.record import After, At, Cursor, From, Page, Partition, Position, Topology, TrimHorizon
from poller.sources.arn import parse_arn
from poller.sources.kinesis_event import KinesisFrame, cut_kinesis, kinesis_frame
from poller.sources.stream import Stream, listed

_LIMIT = 10_000
"""Records a GetRecords answers at most."""
_SHARDS = 250
"""Shards of one ListShards: a fourth of what it answers at most, and of what it takes of memory to read the answer."""
_LISTINGS = 3
"""Listings begun before one is given up whose tokens expire under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KinesisStream:
    """The source part of a mapping of a Kinesis stream."""

    arn: str
    role_arn: str | None = None
    """Role to assume for reading."""

    @asynccontextmanager
    async def open(self, aws: Aws, clock: Clock) -> AsyncIterator[Source]:
        """Open for reading. The stream is not asked for anything yet."""
        region = parse_arn(self.arn).region
        calls = await aws.calls(region=region, role_arn=self.role_arn)
        await calls.ready("kinesis", self.arn)
        yield _OpenStream(
            arn=self.arn,
            frame=kinesis_frame(self.arn, self.role_arn),
            client=await aws.client("kinesis", region=region, role_arn=self.role_arn),
            calls=calls,
            clock=clock,
        )


@dataclass(slots=True, kw_only=True)
class _OpenStream(Stream):
    """The stream, as the `Source` port."""

    frame: KinesisFrame

    async def topology(self) -> Topology:
        summary = await self._summary()
        return Topology(
            partitions=await self._shards(),
            retention=listed(summary, "RetentionPeriodHours", "DescribeStreamSummary") * 3600.0,
            identity=str(listed(summary, "StreamCreationTimestamp", "DescribeStreamSummary").timestamp()),
        )

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        limit = min(limit, _LIMIT)
        return cut_kinesis(
            await self.read_on(partition, cursor, limit, admit),
            frame=self.frame,
            shard=partition,
            position=cursor.position,
            limit=limit,
            now=self.clock(),
        )

    async def check(self) -> None:
        await self._summary()
        with translated("kinesis", "ListShards"):
            answer = await self.client.list_shards(StreamARN=self.arn, MaxResults=1)
        await self.look_at(listed(answer, "Shards", "ListShards"))

    async def ask_iterator(self, partition: str, place: Mapping[str, Any]) -> Any:
        with translated("kinesis", "GetShardIterator"):
            return await self.client.get_shard_iterator(StreamARN=self.arn, ShardId=partition, **place)

    def place(self, position: Position) -> Mapping[str, Any]:
        match position:
            case TrimHorizon():
                return {"ShardIteratorType": "TRIM_HORIZON"}
            case At(time=time):
                return {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": time}
            case From(sequence=sequence):
                return {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": sequence}
            case After(sequence=sequence):
                return {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": sequence}

    async def get_records(self, token: str, limit: int, admit: Admit) -> bytes | bytearray:
        return await self.calls.get_records("kinesis", token, limit, admit, stream_arn=self.arn)

    async def _summary(self) -> Any:
        with translated("kinesis", "DescribeStreamSummary"):
            answer = await self.client.describe_stream_summary(StreamARN=self.arn)
        return listed(answer, "StreamDescriptionSummary", "DescribeStreamSummary")

    async def _shards(self) -> tuple[Partition, ...]:
        for _ in range(_LISTINGS):
            try:
                return await self._listing()
            except IteratorExpired as error:
                expired = error
        raise Transient(f"{self.arn}: the shards could not be listed in time: {expired}") from expired

    async def _listing(self) -> tuple[Partition, ...]:
        shards: list[Partition] = []
        # A token stands for the stream: the two together are refused.
        following: dict[str, Any] = {"StreamARN": self.arn}
        while following:
            with translated("kinesis", "ListShards"):
                answer = await self.client.list_shards(MaxResults=_SHARDS, **following)
            shards += [_partition(shard) for shard in listed(answer, "Shards", "ListShards")]
            token = answer.get("NextToken")
            following = {"NextToken": token} if token else {}
        return tuple(shards)


def _partition(shard: dict[str, Any]) -> Partition:
    parents = (shard.get("ParentShardId"), shard.get("AdjacentParentShardId"))
    return Partition(
        id=intern(shard["ShardId"]),  # it is kept by many, and listed again and again
        parents=tuple(parent for parent in parents if parent),
        closed=bool(shard["SequenceNumberRange"].get("EndingSequenceNumber")),
    )
