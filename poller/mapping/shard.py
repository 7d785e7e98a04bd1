"""A shard in the hands of this process: one reader, its lanes, and the row that says how far they have come."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import anyio
import msgspec

from poller.mapping.batch import Batch
from poller.mapping.channel import Channel
from poller.mapping.commit import Checkpoint
from poller.mapping.deliver import Around
from poller.mapping.lane import Lane
from poller.mapping.lanes import divide, frontier, told
from poller.mapping.read import Reads
from poller.mapping.row import LaneRow, ShardRow
from poller.mapping.sift import sift
from poller.mapping.standing import Standing
from poller.mapping.tools import Tools
from poller.mapping.window import Tumbling
from poller.model.record import After, Cursor, Page, Record

_PASS_OVER = 1.0
"""Seconds after which a checkpoint passes over filtered records for which no batch was sent."""


async def process(
    tools: Tools, shard: str, checkpoint: Checkpoint, cursor: Cursor, retention: Callable[[], float]
) -> bool:
    """Process a shard until its end or the stop.

    Lanes that stand ahead of the position were made with the ParallelizationFactor of their time: with another one, a
    key would change its lane and overtake itself. They are first brought level as they are.

    Returns:
        Whether the shard's end was reached and everything of it settled.
    """
    stored = checkpoint.row.lanes
    if stored and len(stored) != tools.policy.lanes:
        level = _Pass(tools, shard, checkpoint, retention, stored)
        ended = await level.run(cursor, until=frontier(stored))
        if ended or tools.stop.is_set():
            return ended
        await level.store()
        cursor, stored = Cursor(position=checkpoint.position), ()
    lanes = stored or (LaneRow(),) * tools.policy.lanes
    return await _Pass(tools, shard, checkpoint, retention, lanes).run(cursor, until="")


class _Pass:
    """A shard read with one set of lanes."""

    def __init__(
        self,
        tools: Tools,
        shard: str,
        checkpoint: Checkpoint,
        retention: Callable[[], float],
        lanes: Sequence[LaneRow],
    ) -> None:
        self._tools = tools
        self._shard = shard
        self._checkpoint = checkpoint
        self._retention = retention
        self._opened_with = tuple(lanes)
        self._lanes = list(lanes)
        self._ended = self._drained = False
        """The shard's last page was handed out; the lanes have delivered everything that was."""
        self._passes = False
        """Filtered records have to be passed over before long."""
        self._tumbling: Tumbling | None = None
        if tools.policy.tumbling:
            self._tumbling = Tumbling(
                length=tools.policy.tumbling,
                shard=shard,
                source_arn=tools.source_name,
                stored=checkpoint.row.window,
            )

    async def run(self, cursor: Cursor, *, until: str) -> bool:
        """Read on from `cursor`, to the record `until` or, with "", to the end of the shard.

        Lanes are there while there is work for them: a shard that is read and holds nothing is one task that sleeps.
        """
        tools = self._tools
        self._until = until
        with tools.budget.join() as holder:
            self._standing = Standing(tools, self._shard, holder, self._checkpoint.position)
            self._reads = Reads(tools, self._shard, cursor, holder, self._standing)
            lanes = self._opened_with
            pages: list[Page] = []  # taken out by whoever divides them, or their records would stay in memory
            while self._tumbling or await self._first(pages):  # a window closes by the clock
                if not await self._deliver(pages, lanes):
                    break
                lanes = (LaneRow(),) * len(lanes)
            return self._ended and self._drained

    async def _first(self, pages: list[Page]) -> bool:
        """Read until there is something to deliver. False when a stop came first, or nothing can come."""
        page = await self._tools.stop.unless_set(self._reads.next)
        if page is not None:
            pages.append(page)
        return page is not None

    async def _deliver(self, pages: list[Page], stored: Sequence[LaneRow]) -> bool:
        """Deliver pages and what follows until it is quiet. Answers whether to read on then."""
        around = Around(
            tools=self._tools,
            shard=self._shard,
            standing=self._standing,
            retention=self._retention,
            settle=self._settle,
            tumbling=self._tumbling,
        )
        lanes = [Lane(around, number, row) for number, row in enumerate(stored)]
        # Several lanes do not wait for one another: what lies there is bounded by the room in memory alone.
        self._parts = [Channel[Sequence[Record]](1 if len(lanes) == 1 else math.inf) for _ in lanes]
        async with anyio.create_task_group() as self._beside:
            async with anyio.create_task_group() as working:
                for lane, part in zip(lanes, self._parts, strict=True):
                    working.start_soon(lane.run, part)
                goes_on = await self._tools.stop.unless_set(partial(self._hand_on, pages, lanes))
                for part in self._parts:
                    part.close()
                await self._pass_over()
            self._beside.cancel_scope.cancel()
        self._drained = all(lane.drained for lane in lanes)
        return bool(goes_on) and self._drained

    async def _hand_on(self, pages: list[Page], lanes: Sequence[Lane]) -> bool:
        """Hand out one page after the other. True when it has become quiet, False when no more is wanted or can come."""

        def rests() -> bool:
            return not (self._tumbling or len(self._standing.progress) or any(lane.resumes for lane in lanes))

        while not pages or await self._hand_out(pages.pop()):
            page = await self._reads.next(rests)
            if page is None:
                return not self._reads.over
            pages.append(page)
            del page  # as above
        return False

    async def store(self) -> None:
        """Store how far the lanes have come, which nobody has done when all that was left to them was trimmed."""
        await self._checkpoint.save(self._row)

    async def _hand_out(self, page: Page) -> bool:
        """Divide a page among the lanes. False when no more is wanted: a lane has stopped, or they are level."""
        if self._tools.policy.filters is not None:
            page = await self._sift(page)
        shares = divide(page.records, self._opened_with, self._until)
        last = page.cursor is None and not shares.beyond
        del page  # or its records would stay in memory when they have been delivered
        if shares.done:
            self._standing.left(shares.done)
        for part, records in zip(self._parts, shares.parts, strict=True):
            if records and not await part.put(records):
                return False
        self._ended = last  # not before: a stop may come while there is no room
        return not shares.beyond

    async def _sift(self, page: Page) -> Page:
        """The page without what the filters drop: that is settled, and the checkpoint follows before long."""
        page, dropped = await sift(self._tools, self._shard, page)
        if dropped:
            self._standing.left(dropped)
            self._standing.stands(self._checkpoint.position)
            if not self._passes:
                self._passes = True
                self._beside.start_soon(self._pass_over_soon)
        return page

    async def _pass_over_soon(self) -> None:
        await anyio.sleep(_PASS_OVER)
        await self._pass_over()

    async def _pass_over(self) -> None:
        """Store that filtered records are behind us, unless a batch has stored it already."""
        if self._passes:
            self._passes = False
            await self._checkpoint.save(self._row, urgent=False)
            self._standing.stands(self._checkpoint.position)

    async def _settle(self, lane: int, settled: Batch, row: LaneRow) -> None:
        """A lane has settled records, or spent an attempt: store it, then let the records go."""
        done = settled[-1].id if settled else self._lanes[lane].done
        self._lanes[lane] = msgspec.structs.replace(row, done=done)
        self._standing.left(settled)
        await self._checkpoint.save(self._row, urgent=not settled or row.tried > 0)  # a budget outlives a crash
        self._standing.stands(self._checkpoint.position)

    def _row(self) -> ShardRow:
        watermark = self._standing.progress.watermark
        return ShardRow(
            position=After(watermark) if watermark else self._checkpoint.position,
            lanes=told(self._lanes, watermark),
            window=self._tumbling.row if self._tumbling else None,
        )
