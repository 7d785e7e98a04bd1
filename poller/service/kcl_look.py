"""What has to be looked up in a stream when checkpoints move between the Kinesis Client Library and us."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

import anyio
import msgspec
import tenacity

from poller.aws.errors import translated
from poller.aws.session import Aws
from poller.mapping.kcl.aggregate import user_records
from poller.mapping.kcl.back import Shard
from poller.model.errors import ShardGone, Transient, Trimmed
from poller.model.ports import Clock, Source
from poller.model.record import At, Cursor, From, Page, Position, Record, Topology
from poller.sources import SourceSettings
from poller.sources.arn import parse_arn
from poller.sources.kinesis import KinesisStream

_AT_ONCE = 16
_TRIES = 6
_MANY = 1000
"""Records of a read, where what is older than a moment is passed over here."""

_EMPTY = 10
"""Empty answers of DynamoDB Streams, which do not say how far behind they are, that more may come after."""

T = TypeVar("T")


class _Kinesis(msgspec.Struct):
    data: str


class _Event(msgspec.Struct):
    kinesis: _Kinesis


class Looker:
    """Looks into one stream, many shards at the same time."""

    def __init__(self, source: Source, settings: SourceSettings) -> None:
        self._source = source
        self._settings = settings
        self._kinesis = isinstance(settings, KinesisStream)

    async def counts(self, sequences: Mapping[str, str]) -> Mapping[str, int]:
        """By shard, the user records in the record of that sequence number; no entry when the stream has dropped it.

        DynamoDB Streams know no aggregates.
        """
        if not self._kinesis:
            return dict.fromkeys(sequences, 1)

        async def count(shard: str) -> int | None:
            record = await self._first(shard, From(sequences[shard]))
            if record is None or record.id != sequences[shard]:
                return None
            return user_records(base64.b64decode(msgspec.json.decode(record.body, type=_Event).kinesis.data))

        return await self._each(sequences, count)

    async def firsts(self, moments: Mapping[str, float]) -> Mapping[str, str]:
        """By shard, the sequence number of the first record from that moment on; no entry when there is none yet."""

        async def first(shard: str) -> str | None:
            record = await self._first(shard, At(moments[shard]))
            return record.id if record else None

        return await self._each(moments, first)

    async def latest(self, shards: Iterable[str], topology: Topology, clock: Clock) -> Mapping[str, At]:
        """By shard, the moment of now; of shards that are not listed, by our own clock."""
        listed = {partition.id for partition in topology.partitions}

        async def latest(shard: str) -> At:
            if shard not in listed:
                return At(clock())
            position = (await self._source.latest(shard)).position
            return position if isinstance(position, At) else At(clock())

        return await self._each(shards, latest)

    async def shards(self, aws: Aws, topology: Topology) -> Mapping[str, Shard]:
        """The listed shards with their hash keys, which only Kinesis has."""
        ranges = await self._hash_ranges(aws) if self._kinesis else {}
        return {
            partition.id: Shard(parents=partition.parents, hash_range=ranges.get(partition.id))
            for partition in topology.partitions
        }

    async def _hash_ranges(self, aws: Aws) -> Mapping[str, tuple[str, str]]:
        arn = self._settings.arn
        client = await aws.client("kinesis", region=parse_arn(arn).region, role_arn=self._settings.role_arn)
        found: dict[str, tuple[str, str]] = {}
        following: dict[str, str] = {"StreamARN": arn}
        while following:
            with translated("kinesis", "ListShards"):
                answer = await client.list_shards(**following)
            for shard in answer.get("Shards", ()):
                keys = shard["HashKeyRange"]
                found[shard["ShardId"]] = (keys["StartingHashKey"], keys["EndingHashKey"])
            token = answer.get("NextToken")
            following = {"NextToken": token} if token else {}
        return found

    async def _first(self, shard: str, position: Position) -> Record | None:
        """The first record from a position on; None when there is none yet, or the shard or the position is gone."""
        cursor: Cursor | None = Cursor(position=position)
        limit, empty = (1, 0) if self._kinesis else (_MANY, _EMPTY)
        try:
            while cursor is not None and empty >= 0:
                page = await self._patiently(shard, cursor, limit)
                if page.records:
                    return page.records[0]
                cursor = page.cursor
                empty -= not (page.behind > 0 or page.full)
        except (Trimmed, ShardGone):
            pass  # whoever reads on from there is told so
        return None

    async def _patiently(self, shard: str, cursor: Cursor, limit: int) -> Page:
        """One read, again when it fails in a way that passes."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(Transient),
            stop=tenacity.stop_after_attempt(_TRIES),
            wait=tenacity.wait_exponential(multiplier=0.3, max=5.0),
            sleep=anyio.sleep,
            reraise=True,
        )
        return await retrying(self._source.read, shard, cursor, limit, _admitted)

    @staticmethod
    async def _each(shards: Iterable[str], ask: Callable[[str], Awaitable[T | None]]) -> dict[str, T]:
        """Ask for all of them, some at the same time; no entry where the answer is None."""
        limiter = anyio.CapacityLimiter(_AT_ONCE)
        found: dict[str, T] = {}

        async def one(shard: str) -> None:
            async with limiter:
                answer = await ask(shard)
            if answer is not None:
                found[shard] = answer

        async with anyio.create_task_group() as tasks:
            for shard in shards:
                tasks.start_soon(one, shard)
        return found


async def _admitted(_: int) -> None:
    """One small page at a time."""
