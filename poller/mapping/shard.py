"""A shard in the hands of this process: one reader, its lanes, and the row that says how far they have come."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Literal, TypeAlias

import anyio
import msgspec

from poller.mapping.batch import Batch
from poller.mapping.channel import Channel
from poller.mapping.commit import Checkpoint
from poller.mapping.deliver import Around
from poller.mapping.lane import Lane
from poller.mapping.lanes import divide, frontier, joined, told
from poller.mapping.progress import Progress
from poller.mapping.read import Reads
from poller.mapping.row import LaneRow, ShardRow
from poller.mapping.sift import sift
from poller.mapping.standing import Standing
from poller.mapping.tools import Tools
from poller.mapping.window import Tumbling
from poller.model.record import After, Cursor, Page, Record

Came: TypeAlias = Literal["ended", "stopped", "quiet"]
"""What a run came to: everything of the shard is settled; a stop; or it brings nothing for the time being."""

_PASS_OVER = 1.0
"""Seconds after which a checkpoint passes over filtered records for which no batch was sent."""


class Shard:
    """A shard that is being processed: `run` while there is something to do for it, again and again."""

    __slots__ = ("_checkpoint", "_cursor", "_pass", "_retention", "_shard", "_tools")

    def __init__(
        self, tools: Tools, shard: str, checkpoint: Checkpoint, cursor: Cursor, retention: Callable[[], float]
    ) -> None:
        """Do nothing yet.

        Args:
            tools: with a stop of its own.
            cursor: where to begin, which is the checkpoint's position.
            retention: seconds that the stream keeps a record, as last heard.
        """
        self._tools = tools
        self._shard = shard
        self._checkpoint = checkpoint
        self._cursor = cursor
        self._retention = retention
        self._pass: _Pass | None = None

    async def run(self) -> Came:
        """Process the shard until its end, the stop, or until it brings nothing.

        Lanes that stand ahead of the position were made with the ParallelizationFactor of their time: with another one,
        a key would change its lane and overtake itself. They are first brought level as they are.
        """
        if self._pass is None:
            lanes = self._tools.policy.lanes
            stored = self._checkpoint.row.lanes
            if stored and len(stored) != lanes:
                level = self._of(stored, until=frontier(stored))
                came = await level.run()
                if came == "ended" or self._tools.stop.is_set():
                    return came
                await level.store()
                self._cursor, stored = Cursor(position=self._checkpoint.position), ()
            self._pass = self._of(stored or _fresh(lanes), until="")
        return await self._pass.run()

    @property
    def reads(self) -> Reads:
        """Of a shard that is quiet: whoever looks there tells when to run again."""
        if self._pass is None:
            raise RuntimeError("a shard that never ran is not quiet")
        return self._pass.reads

    def leave(self) -> None:
        """It is not run again: what it held in memory is given back."""
        if self._pass is not None:
            self._pass.leave()

    def _of(self, lanes: Sequence[LaneRow], until: str) -> _Pass:
        return _Pass(self._tools, self._shard, self._checkpoint, self._retention, lanes, self._cursor, until)


class _Pass:
    """A shard read with one set of lanes, on from a cursor: to the record `until` or, with "", to the end of the shard."""

    __slots__ = ("_beside", "_checkpoint", "_drained", "_ended", "_holder", "_lanes", "_opened_with", "_parts", "_passes",
                 "_progress", "_retention", "_shard", "_standing", "_stored", "_tools", "_tumbling", "_until", "reads")  # fmt: skip

    def __init__(
        self,
        tools: Tools,
        shard: str,
        checkpoint: Checkpoint,
        retention: Callable[[], float],
        lanes: Sequence[LaneRow],
        cursor: Cursor,
        until: str,
    ) -> None:
        self._tools = tools
        self._shard = shard
        self._checkpoint = checkpoint
        self._retention = retention
        self._until = until
        self._opened_with = self._stored = tuple(lanes)
        self._lanes = self._stored
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
        self._holder = tools.budget.join(tools.policy.batch_size * tools.policy.lanes)
        self._progress = Progress()
        self._standing = Standing(tools, shard, self._holder, self._progress, checkpoint.position)
        self.reads = Reads(tools, shard, cursor, self._holder, self._standing)

    def leave(self) -> None:
        """It is not run again."""
        self._holder.leave()

    async def run(self) -> Came:
        """Read and deliver. It leaves unless it is quiet.

        Lanes are there while there is work for them.
        """
        came: Came = "stopped"
        try:
            came = await self._run()
        finally:
            if came != "quiet":
                self.leave()
        return came

    async def _run(self) -> Came:
        pages: list[Page] = []  # taken out by whoever divides them, or their records would stay in memory
        waits = self._until or self._tumbling  # for the other records; a window closes by the clock
        if not (waits or self.reads.begun or self._tools.stop.is_set()):
            return "quiet"  # as far as anybody knows
        while self._tumbling or await self._first(pages, None if waits else _always):
            if not await self._deliver(pages, self._stored):
                return "ended" if self._ended and self._drained else "stopped"
            self._stored = _fresh(len(self._stored))
        quiet = not (self._tools.stop.is_set() or self.reads.over)
        return "quiet" if quiet else "stopped"

    async def _first(self, pages: list[Page], rests: Callable[[], bool] | None) -> bool:
        """Read until there is something to deliver. False when a stop came first, nothing can come, or nothing comes."""
        page = await self._tools.stop.unless_set(partial(self.reads.next, rests))
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
        if self._tumbling and len(stored) > 1:
            stored = _fresh(1)  # lanes that are brought level would overwrite each other's state of the window
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
        del self._beside, self._parts  # a quiet shard may be one for long
        self._drained = all(lane.drained for lane in lanes)
        return bool(goes_on) and self._drained

    async def _hand_on(self, pages: list[Page], lanes: Sequence[Lane]) -> bool:
        """Hand out one page after the other. True when it has become quiet, False when no more is wanted or can come."""

        def rests() -> bool:
            return not (self._tumbling or len(self._progress) or any(lane.resumption.waiting for lane in lanes))

        async def cramped() -> None:
            """Let lanes that wait for more begin with what they have, if nothing else can make room."""
            if len(self._progress) == sum(lane.resumption.handed for lane in lanes):
                for lane, part in zip(lanes, self._parts, strict=True):
                    if lane.resumption.waiting:
                        lane.resumption.make_do()
                        await part.put(())

        while not pages or await self._hand_out(pages.pop(), lanes):
            page = await self.reads.next(rests, cramped)
            if page is None:
                return not self.reads.over
            pages.append(page)
            del page  # as above
        return False

    async def store(self) -> None:
        """Store how far the lanes have come, which nobody has done when all that was left to them was trimmed."""
        await self._checkpoint.save(self._row)

    async def _hand_out(self, page: Page, lanes: Sequence[Lane]) -> bool:
        """Divide a page among the lanes. False when no more is wanted: a lane has stopped, or they are level."""
        reached = page.records[-1].id if page.records else ""
        if self._tools.policy.filters is not None:
            page = await self._sift(page)
        shares = divide(page.records, self._opened_with, self._until)
        last = page.cursor is None and not shares.beyond
        del page  # or its records would stay in memory when they have been delivered
        if shares.done:
            self._standing.left(shares.done)
        parts = shares.parts if len(shares.parts) == len(lanes) else (joined(shares.parts),)
        for lane, part, records in zip(lanes, self._parts, parts, strict=True):
            complete = reached and lane.resumption.waiting and lane.resumption.hand(len(records), reached)
            if (records or complete) and not await part.put(records):
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
        self._lanes = (*self._lanes[:lane], msgspec.structs.replace(row, done=done), *self._lanes[lane + 1 :])
        self._standing.left(settled)
        await self._checkpoint.save(self._row, urgent=not settled or row.tried > 0)  # a budget outlives a crash
        self._standing.stands(self._checkpoint.position)

    def _row(self) -> ShardRow:
        watermark = self._progress.watermark
        return ShardRow(
            position=After(watermark) if watermark else self._checkpoint.position,
            lanes=told(self._lanes, watermark),
            window=self._tumbling.row if self._tumbling else None,
        )


@cache
def _fresh(lanes: int) -> tuple[LaneRow, ...]:
    """Lanes of which nothing is known, the same for all shards."""
    return (LaneRow(),) * lanes


def _always() -> bool:
    return True
