"""DynamoDB Streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from poller.aws.calls import HotCalls
from poller.aws.errors import translated
from poller.aws.session import Aws
from poller.model.errors import Denied, NotFound, ShardGone, Transient, Trimmed
from poller.model.ports import Admit, Clock, Source, Unsettled
from poller.model.record import After, At, Cursor, From, Page, Partition, Position, Record, Topology, TrimHorizon
from poller.sources.arn import parse_arn
from poller.sources.dynamodb_event import DynamoDBFrame, cut_dynamodb, dynamodb_frame
from poller.sources.stream import behind_newest, listed, read_on

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
        yield _OpenStream(
            arn=self.arn,
            frame=dynamodb_frame(self.arn),
            client=await aws.client("dynamodbstreams", region=region, role_arn=self.role_arn),
            calls=await aws.calls(region=region, role_arn=self.role_arn),
            clock=clock,
        )


@dataclass(slots=True, kw_only=True)
class _OpenStream:
    """The stream, as the `Source` port."""

    arn: str
    frame: DynamoDBFrame
    client: Any
    calls: HotCalls
    clock: Clock
    redelivers: bool = False
    ordered: bool = True

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

    async def latest(self, partition: str) -> Cursor:
        answer = await self._iterator_answer(partition, ShardIteratorType="LATEST")
        return behind_newest(answer, self.clock())

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        limit = min(limit, _LIMIT)

        async def iterator(position: Position) -> str:
            return await self._iterator(partition, position)

        async def get(token: str) -> bytes:
            return await self.calls.get_records("dynamodbstreams", token, limit, admit)

        return cut_dynamodb(
            await read_on(cursor, iterator, get),
            frame=self.frame,
            position=cursor.position,
            limit=limit,
            now=self.clock(),
        )

    async def delete(self, records: Sequence[Record]) -> Sequence[Unsettled]:  # noqa: ARG002  -- a stream's settle is nothing
        return ()

    async def release(self, records: Sequence[Record]) -> None:
        pass

    async def extend(self, records: Sequence[Record], seconds: int) -> Sequence[Unsettled]:  # noqa: ARG002
        return ()

    async def check(self) -> None:
        stream = await self._describe(Limit=1)
        for shard in listed(stream, "Shards", "DescribeStream"):
            try:
                cursor = await self.latest(shard["ShardId"])
                await self.calls.get_records("dynamodbstreams", cursor.token, 1, _admitted)
            except ShardGone as error:
                raise NotFound(f"{self.arn}: {error}") from error

    async def _describe(self, **parameters: Any) -> dict[str, Any]:
        with translated("dynamodbstreams", "DescribeStream"):
            answer = await self.client.describe_stream(StreamArn=self.arn, **parameters)
        stream: dict[str, Any] = listed(answer, "StreamDescription", "DescribeStream")
        return stream

    async def _iterator(self, partition: str, position: Position) -> str:
        try:
            answer = await self._iterator_answer(partition, **_place(position))
        except Trimmed as error:
            if isinstance(position, From | After):
                raise
            raise Denied(f"{self.arn} {partition}: {error}") from error
        iterator: str = listed(answer, "ShardIterator", "GetShardIterator")
        return iterator

    async def _iterator_answer(self, partition: str, **place: Any) -> Any:
        with translated("dynamodbstreams", "GetShardIterator"):
            return await self.client.get_shard_iterator(StreamArn=self.arn, ShardId=partition, **place)


async def _admitted(_: int) -> None:
    """The look of `check` takes one record."""


def _place(position: Position) -> dict[str, str]:
    """A position in the words of GetShardIterator."""
    match position:
        case TrimHorizon() | At():  # what is older than a moment is skipped where the answer is cut
            return {"ShardIteratorType": "TRIM_HORIZON"}
        case From(sequence=sequence):
            return {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "SequenceNumber": sequence}
        case After(sequence=sequence):
            return {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": sequence}


def _identity(stream: dict[str, Any]) -> str:
    """The label is the moment the stream was made; its ARN ends with it."""
    label: str = stream.get("StreamLabel", "")
    return label or str(listed(stream, "CreationRequestDateTime", "DescribeStream").timestamp())


def _partition(shard: dict[str, Any]) -> Partition:
    parent = shard.get("ParentShardId")
    return Partition(
        id=shard["ShardId"],
        parents=(parent,) if parent else (),
        closed=bool(shard.get("SequenceNumberRange", {}).get("EndingSequenceNumber")),
    )
