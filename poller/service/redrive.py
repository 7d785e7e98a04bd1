"""`poller redrive`: delivers again what a mapping gave up, from what its on-failure destination was told."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import anyio
import orjson

from poller.aws.errors import translated
from poller.aws.session import Aws, open_aws
from poller.destinations import DestinationSettings
from poller.destinations.s3 import S3Destination
from poller.destinations.sqs import SqsDestination
from poller.mapping.givenup import GivenUp, batch_of, kept_in, read
from poller.mapping.progress import behind
from poller.mapping.reply import understood
from poller.mapping.retry import backoff
from poller.model.errors import NotFound, PollerError, SettingsError, ShardGone, Transient, Trimmed, told
from poller.model.facts import Fact
from poller.model.outcome import Outcome, Partial, Refused, Replied, Unavailable
from poller.model.ports import Source, Target
from poller.model.record import Cursor, From, Record, TrimHorizon, event_of
from poller.service.log_lines import one_line
from poller.settings import MappingSettings, load
from poller.settings.arns import FunctionId, lambda_function
from poller.sources.sqs import SqsQueue
from poller.targets.aws_lambda import LambdaFunction

_TRIES = 6
"""Of a call that fails in passing."""
_EMPTY_RECEIVES = 2
"""In a row: a queue of few messages may answer nothing though there are some."""
_MOST = 10_000
"""Documents of one run: they are held in memory to be put in order."""
_NOTHING_PROVES = 3
"""Reads in a row that bring nothing say that there is no more."""
_PAGE = 1000


@dataclass(slots=True, eq=False)
class Letter:
    """A document where it lies."""

    body: bytes
    handle: Any
    given_up: GivenUp | None = None


class Box(Protocol):
    """Where documents lie."""

    async def collect(self) -> list[Letter]:
        """All that are there now. Raises `Transient`, `Denied`."""

    async def remove(self, letter: Letter) -> None:
        """It has been dealt with."""

    async def keep(self, letter: Letter) -> bool:
        """Have it for oneself a while longer. Answers whether that is so."""

    async def give_back(self, letters: Sequence[Letter]) -> None:
        """They stay."""


async def redrive(
    config: Path,
    environ: Mapping[str, str],
    *,
    mapping: str,
    dry_run: bool,
    drop_expired: bool,
    tell: Callable[[str], None],
) -> int:
    """Deliver again, shard by shard in order, what the destination was told of; a document goes when it is delivered.

    Returns:
        0 when no document is left, 1 when some had to stay.

    Raises:
        SettingsError: the configuration, or this mapping, cannot be used for it.
    """
    settings = load(config, environ, now=time.time())
    chosen = next((each for each in settings.mappings if each.name == mapping), None)
    if chosen is None:
        raise SettingsError(
            f"there is no mapping {mapping}; there are {', '.join(sorted(m.name for m in settings.mappings))}"
        )
    if isinstance(chosen.source, SqsQueue) or chosen.destination is None:
        raise SettingsError(f"mappings.{mapping}: has no DestinationConfig.OnFailure to redrive from")
    try:
        async with (
            open_aws(settings.aws) as aws,
            _box(chosen, chosen.destination, aws) as box,
            chosen.source.open(aws, time.time) as source,
            chosen.target.open(aws, _ignore) as target,
        ):
            work = _Redrive(chosen, box, source, target, tell, dry_run=dry_run, drop_expired=drop_expired)
            return await work.run()
    except* SettingsError:
        raise
    except* PollerError as group:
        raise SettingsError(f"{mapping}: {one_line(told(group))}") from group


class _Redrive:
    """One run."""

    def __init__(
        self,
        mapping: MappingSettings,
        box: Box,
        source: Source,
        target: Target,
        tell: Callable[[str], None],
        *,
        dry_run: bool,
        drop_expired: bool,
    ) -> None:
        self._mapping = mapping
        self._box = box
        self._source = source
        self._target = target
        self._tell = tell
        self._dry_run = dry_run
        self._drop_expired = drop_expired
        self._stuck: set[str] = set()
        self._delivered = self._dropped = 0

    async def run(self) -> int:
        letters = await self._box.collect()
        left = list(letters)
        try:
            for letter in self._in_order(letters):
                if await self._deal_with(letter):
                    left.remove(letter)
        finally:
            with anyio.CancelScope(shield=True, deadline=anyio.current_time() + 10):
                await self._box.give_back(left)
        would = "would be " if self._dry_run else ""
        stay = len(left) - (self._delivered + self._dropped if self._dry_run else 0)
        self._tell(f"{self._delivered} batches {would}delivered, {self._dropped} {would}dropped, {stay} stay")
        return 1 if left and not self._dry_run else 0

    def _in_order(self, letters: Sequence[Letter]) -> list[Letter]:
        """Those that are about this mapping, shard by shard."""
        mine: list[tuple[tuple[str, int], Letter]] = []
        for letter in letters:
            try:
                found = letter.given_up = read(letter.body)
            except ValueError as error:
                self._tell(f"a document stays: {error}")
                continue
            if found.stream != self._mapping.source.arn or not self._is_ours(found.function):
                self._tell(f"a document stays: it is about {found.stream} and {found.function}")
            else:
                mine.append((found.place, letter))
        return [letter for _, letter in sorted(mine, key=lambda each: each[0])]

    def _is_ours(self, function: str) -> bool:
        target = self._mapping.target
        if isinstance(target, LambdaFunction):
            return is_function(function, target.function)
        return is_function(function, target.name, any_version=True)

    async def _deal_with(self, letter: Letter) -> bool:
        """Answers whether the document is gone."""
        batch = letter.given_up
        assert batch is not None  # noqa: S101  # `_in_order` has read it
        what = one_line(f"{batch.shard}: {batch.size} records {batch.first} to {batch.last}, {batch.condition}")
        if batch.shard in self._stuck:
            self._tell(f"{what}: stays, one before it in its shard does")
            return False
        try:
            event, records = await self._event(batch)
        except (ShardGone, Trimmed, NotFound):
            return await self._expired(letter, what)
        if len(records) != batch.size and not batch.payload:
            self._stuck.add(batch.shard)
            why = "part of it left the stream, or FilterCriteria or ParallelizationFactor changed"
            self._tell(f"{what}: stays, {len(records)} are found: {why}")
            return False
        if self._dry_run:
            self._delivered += 1
            self._tell(f"{what}: would be delivered")
            return False
        if not await self._box.keep(letter):
            self._tell(f"{what}: left to somebody else who has received it meanwhile")
            return False
        outcome = await self._invoke(event, records)
        if not isinstance(outcome, Replied):
            self._stuck.add(batch.shard)
            reason = f"reported {len(outcome.failed)} records" if isinstance(outcome, Partial) else outcome.reason
            self._tell(f"{what}: stays, the function failed: {one_line(reason, 300)}")
            return False
        await self._box.remove(letter)
        self._delivered += 1
        self._tell(f"{what}: delivered")
        return True

    async def _expired(self, letter: Letter, what: str) -> bool:
        if not self._drop_expired:
            self._tell(f"{what}: stays, its records have left the stream (--drop-expired removes it)")
            return False
        self._dropped += 1
        if self._dry_run:
            self._tell(f"{what}: would be dropped, its records have left the stream")
            return False
        await self._box.remove(letter)
        self._tell(f"{what}: dropped, its records have left the stream")
        return True

    async def _event(self, batch: GivenUp) -> tuple[bytes, tuple[Record, ...]]:
        """The event as it was, and its records. Raises `Trimmed`, `ShardGone`, `Transient`, `Denied`."""
        if batch.payload:
            return batch.payload, kept_in(batch.payload)
        found: list[Record] = []
        cursor: Cursor | None = Cursor(position=From(batch.first))
        empty = failures = 0
        while cursor is not None and empty < _NOTHING_PROVES:
            try:
                page = await self._source.read(batch.shard, cursor, _PAGE, _admit)
            except Transient:
                failures += 1
                if failures >= _TRIES:
                    raise
                await anyio.sleep(backoff(failures, 0.5, base=0.2))
                continue
            found += page.records
            empty = 0 if page.records or page.behind > 0 else empty + 1
            cursor = page.cursor
            if page.records and int(page.records[-1].id) >= int(batch.last):
                break
            if not page.records:
                await anyio.sleep(0.2)
        filters = self._mapping.policy.filters
        kept: Sequence[Record] = filters.split(found)[0] if filters else found
        records = batch_of(batch, kept, self._mapping.policy.lanes)
        if not found or behind(batch.last, found[0].id):
            raise Trimmed
        return event_of(records), records

    async def _invoke(self, event: bytes, records: tuple[Record, ...]) -> Outcome:
        """Invoke; a call that did not reach the function is tried again."""
        request_id = f"redrive-{time.time_ns()}"
        for failures in range(1, _TRIES + 1):
            outcome = await self._target.invoke(event, request_id)
            if not isinstance(outcome, Refused | Unavailable):
                break
            await anyio.sleep(backoff(failures, 0.5, base=0.5))
        if self._mapping.policy.partial:
            outcome = understood(outcome, records, redelivers=False)
        return outcome


def is_function(told: str, named: str, *, any_version: bool = False) -> bool:
    """Whether the function that a document tells of is the one that a mapping names.

    Args:
        told: as a mapping of ours named it, or its ARN, which AWS tells of.
        any_version: a version or alias does not matter: the mapping's function runs elsewhere now and has none.
    """
    if told == named:
        return True
    try:
        one, other = lambda_function(told), lambda_function(named)
    except ValueError:
        return False
    return (
        one.region is not None  # an ARN
        and one.name == other.name
        and other.region in (None, one.region)
        and other.account in (None, one.account)
        and (any_version or _version(one) == _version(other))
    )


def _version(function: FunctionId) -> str:
    return function.qualifier or "$LATEST"


# ---------------------------------------------------------------- where the documents lie


def _box(mapping: MappingSettings, destination: DestinationSettings, aws: Aws) -> AbstractAsyncContextManager[Box]:
    match destination:
        case SqsDestination():
            return _queue(destination, aws)
        case S3Destination():
            return _bucket(destination, mapping.uuid, aws)
        case _:
            raise SettingsError(f"{destination.arn} is a topic, which keeps nothing: redrive from what it sends to")


@asynccontextmanager
async def _queue(destination: SqsDestination, aws: Aws) -> AsyncIterator[Box]:
    queue = SqsQueue(arn=destination.arn, role_arn=destination.role_arn)
    async with queue.open(aws, time.time) as source:
        yield _Queue(source)


class _Queue:
    """Documents in a queue: received, and hidden from others until they are dealt with."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lease = 30.0

    async def collect(self) -> list[Letter]:
        topology = await self._source.topology()
        self._lease = topology.lease
        found: dict[str, Letter] = {}
        empty = 0
        while empty < _EMPTY_RECEIVES and len(found) < _MOST:
            page = await self._source.read(topology.partitions[0].id, Cursor(position=TrimHorizon()), 10, _admit)
            new = {each.id: Letter(_body(each), each) for each in page.records}
            empty = 0 if new.keys() - found.keys() else empty + 1
            found |= new  # one that was received again has a new receipt
        return list(found.values())

    async def remove(self, letter: Letter) -> None:
        failed = await self._source.delete([letter.handle])
        if failed:
            raise Transient(f"a document was delivered and could not be removed: {failed[0].reason}")

    async def keep(self, letter: Letter) -> bool:
        return not await self._source.extend([letter.handle], max(1, int(self._lease)))

    async def give_back(self, letters: Sequence[Letter]) -> None:
        if letters:
            await self._source.release([letter.handle for letter in letters])


@asynccontextmanager
async def _bucket(destination: S3Destination, uuid: str, aws: Aws) -> AsyncIterator[Box]:
    client = await aws.client("s3", role_arn=destination.role_arn)
    yield _Bucket(client, destination.arn.split(":", 5)[5], f"aws/lambda/{uuid}/")


class _Bucket:
    """Documents as objects, with the events themselves: these need not be in the stream any more."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix

    async def collect(self) -> list[Letter]:
        found: list[Letter] = []
        following: dict[str, str] = {}
        while len(found) < _MOST:
            with translated("s3", "ListObjectsV2"):
                answer = await self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, **following)
            for item in answer.get("Contents", []):
                with translated("s3", "GetObject"):
                    got = await self._client.get_object(Bucket=self._bucket, Key=item["Key"])
                    found.append(Letter(await got["Body"].read(), item["Key"]))
            if not answer.get("IsTruncated"):
                break
            following = {"ContinuationToken": answer["NextContinuationToken"]}
        return found

    async def remove(self, letter: Letter) -> None:
        with translated("s3", "DeleteObject"):
            await self._client.delete_object(Bucket=self._bucket, Key=letter.handle)

    async def keep(self, letter: Letter) -> bool:  # noqa: ARG002  # nobody else takes it
        return True

    async def give_back(self, letters: Sequence[Letter]) -> None:
        pass


def _body(record: Record) -> bytes:
    """The body of a message, out of its element of the event."""
    return str(orjson.loads(record.body)["body"]).encode()


async def _admit(_: int) -> None:
    """A page has room."""


def _ignore(_: Fact) -> None:
    """Nobody looks at what a function prints."""
