"""DynamoDB Streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from sys import intern
from typing import Any

from poller.aws.errors import translated
from poller.aws.session import Aws
from poller.model.errors import Transient
from poller.model.ports import Admit, Clock, Source
from poller.model.record import After, At, Cursor, From, Page, Partition, Position, Topology, TrimHorizon
from poller.sources.arn import parse_arn
from poller.sources.dynamodb_event import DynamoDBFrame, cut_dynamodb, dynamodb_frame
from poller.sources.stream import Stream, listed

_LIMIT = 1_000
"""Records a GetRecords answers at most."""
_RETENTION = 86_400.0
"""Seconds; no setting changes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamoDBStream:
    """The source part of a mapping of a DynamoDB stream."""

    arn: str
    role_arn: str | None = None
    """Role to assume for reading."""

    @asynccontextmanager
    async def open(self, aws: Aws, clock: Clock) -> AsyncIterator[Source]:
        """Open for reading. The stream is not asked for anything yet."""
        region = parse_arn(self.arn).region
        calls = await aws.calls(region=region, role_arn=self.role_arn)
        await calls.ready("dynamodbstreams")
        yield _OpenStream(
            arn=self.arn,
            frame=dynamodb_frame(self.arn),
            client=await aws.client("dynamodbstreams", region=region, role_arn=self.role_arn),
            calls=calls,
            clock=clock,
        )


@dataclass(slots=True, kw_only=True)
class _OpenStream(Stream):
    """The stream, as the `Source` port."""

    frame: DynamoDBFrame

    async def topology(self) -> Topology:
        shards: list[Partition] = []
        following: dict[str, str] = {}
        while True:
            stream = await self._describe(**following)
            shards += [_partition(shard) for shard in listed(stream, "Shards", "DescribeStream")]
            last = stream.get("LastEvaluatedShardId")
            if not last:
                return Topology(partitions=tuple(shards), retention=_RETENTION, identity=_identity(stream))
            if following.get("ExclusiveStartShardId") == last:
                raise Transient(f"{self.arn}: DescribeStream does not come behind {last}")
            following = {"ExclusiveStartShardId": last}

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        limit = min(limit, _LIMIT)
        return cut_dynamodb(
            await self.read_on(partition, cursor, limit, admit),
            frame=self.frame,
            position=cursor.position,
            limit=limit,
            now=self.clock(),
        )

    async def check(self) -> None:
        stream = await self._describe(Limit=1)
        await self.look_at(listed(stream, "Shards", "DescribeStream"))

    async def ask_iterator(self, partition: str, place: Mapping[str, Any]) -> Any:
        with translated("dynamodbstreams", "GetShardIterator"):
            return await self.client.get_shard_iterator(StreamArn=self.arn, ShardId=partition, **place)

    def place(self, position: Position) -> Mapping[str, Any]:
        match position:
            case TrimHorizon() | At():  # what is older than a moment is skipped where the answer is cut
                return {"ShardIteratorType": "TRIM_HORIZON"}
            case From(sequence=sequence):
                return {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "SequenceNumber": sequence}
            case After(sequence=sequence):
                return {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": sequence}

    async def get_records(self, token: str, limit: int, admit: Admit) -> bytes | bytearray:
        return await self.calls.get_records("dynamodbstreams", token, limit, admit)

    async def _describe(self, **parameters: Any) -> dict[str, Any]:
        with translated("dynamodbstreams", "DescribeStream"):
            answer = await self.client.describe_stream(StreamArn=self.arn, **parameters)
        stream: dict[str, Any] = listed(answer, "StreamDescription", "DescribeStream")
        return stream


def _identity(stream: dict[str, Any]) -> str:
    """The label is the moment the stream was made; its ARN ends with it."""
    label: str = stream.get("StreamLabel", "")
    return label or str(listed(stream, "CreationRequestDateTime", "DescribeStream").timestamp())


def _partition(shard: dict[str, Any]) -> Partition:
    parent = shard.get("ParentShardId")
    return Partition(
        id=intern(shard["ShardId"]),  # it is kept by many, and listed again and again
        parents=(parent,) if parent else (),
        closed=bool(shard.get("SequenceNumberRange", {}).get("EndingSequenceNumber")),
    )
