"""What streams have in common: reading on when an iterator has expired, a position that is refused, when LATEST was."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from poller.aws.calls import HotCalls
from poller.model.dates import moment_of
from poller.model.errors import Denied, IteratorExpired, NotFound, ShardGone, Transient, Trimmed
from poller.model.ports import Admit, Clock, Unsettled
from poller.model.record import After, At, Cursor, From, Position, Record

_AT_ONCE = 32
"""Iterators of a stream asked for at the same time: at the start all of its shards need one."""


@dataclass(slots=True, kw_only=True)
class Stream(ABC):
    """The `Source` port, as far as it is the same whichever service's stream it is."""

    arn: str
    client: Any
    calls: HotCalls
    clock: Clock
    redelivers: bool = False
    ordered: bool = True
    asking: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(_AT_ONCE, fast_acquire=True))
    """For an iterator: a call through botocore takes ten times the memory of a read."""

    @abstractmethod
    async def ask_iterator(self, partition: str, place: Mapping[str, Any]) -> Any:
        """GetShardIterator's answer for a place in its own words."""

    @abstractmethod
    def place(self, position: Position) -> Mapping[str, Any]:
        """A position in the words of GetShardIterator."""

    @abstractmethod
    async def get_records(self, token: str, limit: int, admit: Admit) -> bytes | bytearray:
        """GetRecords' answer. Raises `IteratorExpired`."""

    async def latest(self, partition: str) -> Cursor:
        """A cursor behind the newest record, at the moment of the service's answer."""
        answer = await self.ask_iterator(partition, {"ShardIteratorType": "LATEST"})
        return behind_newest(answer, self.clock())

    async def read_on(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> bytes | bytearray:
        """GetRecords' answer for the cursor's token, or for a new iterator when there is none or it expired.

        Raises:
            Trimmed: the position is older than the oldest record.
            Transient: the new iterator was refused, too.
        """
        if cursor.token:
            try:
                return await self.get_records(cursor.token, limit, admit)
            except IteratorExpired:
                pass  # its successor starts behind the last record read, so nothing is lost or read twice
        token = await self._iterator(partition, cursor.position)
        try:
            return await self.get_records(token, limit, admit)
        except IteratorExpired as error:
            raise Transient(f"a new iterator was refused: {error}") from error

    async def delete(self, records: Sequence[Record]) -> Sequence[Unsettled]:  # noqa: ARG002  -- the port's
        """Nothing: a position is all that a stream settles by."""
        return ()

    async def release(self, records: Sequence[Record]) -> None:  # noqa: B027  -- it is whole as it is
        """Nothing: no record of a stream is hidden."""

    async def extend(self, records: Sequence[Record], seconds: int) -> Sequence[Unsettled]:  # noqa: ARG002  -- the port's
        """Nothing: no record of a stream is hidden."""
        return ()

    async def look_at(self, shards: Iterable[Mapping[str, Any]]) -> None:
        """Find out whether these shards may be read. Raises `Denied`."""
        for shard in shards:
            try:
                cursor = await self.latest(shard["ShardId"])
                await self.get_records(cursor.token, 1, _admitted)
            except ShardGone as error:
                raise NotFound(f"{self.arn}: {error}") from error

    async def _iterator(self, partition: str, position: Position) -> str:
        """An iterator that starts at a position.

        Raises:
            Trimmed: it was the place of a record, which is gone.
            Denied: it is no place of a record, and was refused all the same: waiting does not help.
        """
        try:
            async with self.asking:
                answer = await self.ask_iterator(partition, self.place(position))
        except Trimmed as error:
            if isinstance(position, From | After):
                raise
            raise Denied(f"{self.arn} {partition}: {error}") from error
        iterator: str = listed(answer, "ShardIterator", "GetShardIterator")
        return iterator


async def _admitted(_: int) -> None:
    """The look of a check takes one record."""


def behind_newest(answer: Mapping[str, Any], now: float) -> Cursor:
    """The cursor of a LATEST iterator, from the answer of GetShardIterator.

    Its position is the second before the service's Date: the answer is stamped after the iterator was made, and a
    record is stamped by another host; a position that is early delivers twice, one that is late loses.

    Args:
        answer: as botocore parsed it.
        now: unix seconds, for a server that says no Date, or none that can be read.
    """
    said = moment_of(answer["ResponseMetadata"]["HTTPHeaders"].get("date", ""))
    moment = now if said is None else said
    return Cursor(position=At(float(math.floor(moment) - 1)), token=listed(answer, "ShardIterator", "GetShardIterator"))


def listed(answer: Mapping[str, Any], key: str, operation: str) -> Any:
    """A part that a whole answer has.

    Raises:
        Transient: it is not there, so the answer is torn: botocore reads half a JSON body as an empty one.
    """
    try:
        return answer[key]
    except KeyError:
        raise Transient(f"{operation}: the answer has no {key}") from None
