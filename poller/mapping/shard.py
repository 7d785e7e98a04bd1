"""A shard in the hands of this process: one reader, its lanes, and the row that says how far they have come."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from poller.mapping.batch import Batch
from poller.mapping.commit import Checkpoint
from poller.mapping.deliver import Around
from poller.mapping.lane import Lane
from poller.mapping.lanes import Shares, divide, frontier, told
from poller.mapping.read import Reader, read_shard
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
        self._pass_over_at = math.inf
        self._tumbling: Tumbling | None = None
        if tools.policy.tumbling:
            self._tumbling = Tumbling(
                length=tools.policy.tumbling,
                shard=shard,
                source_arn=tools.source_name,
                stored=checkpoint.row.window,
            )

    async def run(self, cursor: Cursor, *, until: str) -> bool:
        """Read on from `cursor`, to the record `until` or, with "", to the end of the shard."""
        tools = self._tools
        with tools.budget.join() as holder:
            self._standing = standing = Standing(tools, self._shard, holder, self._checkpoint.position)
            around = Around(
                tools=tools,
                shard=self._shard,
                standing=standing,
                retention=self._retention,
                settle=self._settle,
                tumbling=self._tumbling,
            )
            lanes = [Lane(around, number, stored) for number, stored in enumerate(self._opened_with)]
            alone = len(lanes) == 1
            send_page, receive_page = anyio.create_memory_object_stream[Page](0)
            reader = Reader(tools, self._shard, holder, standing)
            async with anyio.create_task_group() as reading:
                read = partial(read_shard, tools, self._shard, cursor, reader, send_page, standing.room)
                reading.start_soon(tools.unless_stopped, read)
                async with anyio.create_task_group() as working, AsyncExitStack() as sends:
                    parts: list[MemoryObjectSendStream[Sequence[Record]]] = []
                    for lane in lanes:
                        send, receive = anyio.create_memory_object_stream[Sequence[Record]](0 if alone else math.inf)
                        parts.append(await sends.enter_async_context(send))
                        working.start_soon(lane.run, receive)
                    ended = await self._hand_out(receive_page, parts, until)
                reading.cancel_scope.cancel()
            return ended and all(lane.drained for lane in lanes)

    async def store(self) -> None:
        """Store how far the lanes have come, which nobody has done when all that was left to them was trimmed."""
        await self._checkpoint.save(self._row)

    async def _hand_out(
        self,
        pages: MemoryObjectReceiveStream[Page],
        parts: Sequence[MemoryObjectSendStream[Sequence[Record]]],
        until: str,
    ) -> bool:
        """Divide each page among the lanes. Answers whether the shard's end was read."""
        ended = False
        async with pages:
            while True:
                page: Page | None = None
                try:
                    with anyio.CancelScope(deadline=self._pass_over_at):  # inf unless records were filtered out
                        page = await pages.receive()
                except anyio.EndOfStream:
                    break
                if page is None:
                    await self._pass_over()
                    continue
                page = await self._sift(page)
                shares = divide(page.records, self._opened_with, until)
                ended = page.cursor is None and not shares.beyond
                del page  # or its records would stay in memory when they have been delivered
                self._standing.left(shares.done)
                if not await self._send(shares, parts):
                    return False
                if shares.beyond:
                    break
                del shares
        await self._pass_over()
        return ended

    async def _sift(self, page: Page) -> Page:
        """The page without what the filters drop: that is settled, and the checkpoint follows before long."""
        page, dropped = await sift(self._tools, self._shard, page)
        if dropped:
            self._standing.left(dropped)
            self._standing.stands(self._checkpoint.position)
            self._pass_over_at = min(self._pass_over_at, self._tools.now() + _PASS_OVER)
        return page

    async def _pass_over(self) -> None:
        """Store that filtered records are behind us, unless a batch has stored it already."""
        if self._pass_over_at < math.inf:
            self._pass_over_at = math.inf
            await self._checkpoint.save(self._row, urgent=False)
            self._standing.stands(self._checkpoint.position)

    @staticmethod
    async def _send(shares: Shares, parts: Sequence[MemoryObjectSendStream[Sequence[Record]]]) -> bool:
        """Hand each lane its part. False when one has stopped."""
        for number, part in enumerate(parts):
            if shares.parts[number]:
                try:
                    await part.send(shares.parts[number])
                except anyio.BrokenResourceError:
                    return False
        return True

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
