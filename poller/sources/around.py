"""Sources for work beside the daemon: a past range of a stream, and a queue whose messages stay."""

# ruff: noqa: D102  # the port says what each method does
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from poller.model.ports import Admit, Source, Unsettled
from poller.model.record import At, Cursor, Page, Record, Topology, TrimHorizon

_NOTHING_PROVES = 3
"""Reads in a row that bring nothing: DynamoDB answers so in the middle of a shard, too."""


class Range:
    """The records of a stream that arrived in a span of time that is over. Each shard ends where the span does.

    The span is told by the arrival that the source notes of each record, which within a shard is taken to grow.
    """

    redelivers = False
    ordered = True

    def __init__(self, source: Source, *, since: float, until: float) -> None:
        self._source = source
        self._since = since
        self._until = until
        self.shards: frozenset[str] = frozenset()
        """As listed last."""
        self._nothing: Counter[str] = Counter()

    async def topology(self) -> Topology:
        topology = await self._source.topology()
        self.shards = frozenset(each.id for each in topology.partitions)
        return topology

    async def latest(self, partition: str) -> Cursor:
        return await self._source.latest(partition)

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        if isinstance(cursor.position, TrimHorizon) and not cursor.token:  # a child's beginning may lie before the span
            cursor = Cursor(position=At(self._since))
        page = await self._source.read(partition, cursor, limit, admit)
        kept = tuple(each for each in page.records if self._since <= each.arrived < self._until)
        beyond = any(each.arrived >= self._until for each in page.records)
        at_tip = self._at_tip(partition, page)  # and the span is over
        return msgspec.structs.replace(
            page, records=kept, cursor=None if beyond or at_tip else page.cursor, behind=0.0 if beyond else page.behind
        )

    def _at_tip(self, partition: str, page: Page) -> bool:
        """Whether there is no more: a read that brings nothing proves it only when it comes several times."""
        nothing = not page.records and page.behind <= 0.0
        self._nothing[partition] = self._nothing[partition] + 1 if nothing else 0
        return self._nothing[partition] >= _NOTHING_PROVES

    async def delete(self, records: Sequence[Record]) -> Sequence[Unsettled]:
        return await self._source.delete(records)

    async def release(self, records: Sequence[Record]) -> None:
        await self._source.release(records)

    async def extend(self, records: Sequence[Record], seconds: int) -> Sequence[Unsettled]:
        return await self._source.extend(records, seconds)

    async def check(self) -> None:
        await self._source.check()


class Untouched:
    """A source of which nothing is deleted. A queue's message is handed on once; it comes back to others by itself."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.redelivers = source.redelivers
        self.ordered = source.ordered
        self._held: dict[str, Record] = {}

    async def topology(self) -> Topology:
        return await self._source.topology()

    async def latest(self, partition: str) -> Cursor:
        return await self._source.latest(partition)

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        page = await self._source.read(partition, cursor, limit, admit)
        if not self.redelivers:
            return page
        new = tuple(each for each in page.records if each.id not in self._held)
        self._held |= {each.id: msgspec.structs.replace(each, body=b"") for each in page.records}
        return msgspec.structs.replace(page, records=new)

    async def delete(self, records: Sequence[Record]) -> Sequence[Unsettled]:  # noqa: ARG002  # it only looks as if
        return ()

    async def release(self, records: Sequence[Record]) -> None:
        await self._source.release(records)

    async def extend(self, records: Sequence[Record], seconds: int) -> Sequence[Unsettled]:
        return await self._source.extend(records, seconds)

    async def check(self) -> None:
        await self._source.check()

    async def give_back(self) -> None:
        """Make all messages that were received visible again."""
        if self._held:
            await self._source.release(list(self._held.values()))
            self._held = {}
