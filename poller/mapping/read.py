"""Reading a partition: one page ahead of its lane, as fast as there is data, no faster than the source allows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from poller.mapping import pace, progress
from poller.mapping.budget import Holder
from poller.mapping.retry import ASKED_CAP, backoff
from poller.mapping.standing import Standing
from poller.mapping.tools import Tools
from poller.model.errors import Denied, PollerError, ShardGone, Throttled, Transient, Trimmed
from poller.model.facts import MappingProblem, ReadOutcome, RecordsDropped, SourceRead
from poller.model.record import Cursor, Page, TrimHorizon

_THROTTLED = 1.0
"""Least pause after a throttle, seconds."""
_FAILED, _DENIED = 0.2, 5.0
"""First pause, doubling, after a failure that passes and after one that somebody has to mend."""


class Reader:
    """Reads one partition, again and again; what passes by itself is waited out here."""

    def __init__(self, tools: Tools, shard: str, holder: Holder, standing: Standing) -> None:
        self._tools = tools
        self._shard = shard
        self._holder = holder
        self._standing = standing
        self._failures = 0
        self.answered = 0.0
        """When the last answer came, on `Tools.now`, before it waited for room in memory."""

    async def read(self, cursor: Cursor, limit: int | None = None) -> Page | None:
        """One read; None when it failed in a way that passes, after a pause. The page counts as held."""
        limit = limit or self._holder.limit
        await self._holder.expect(limit)
        began = self._tools.now()
        try:
            page = await self._tools.source.read(self._shard, cursor, limit, self._admit)
        except PollerError as error:
            self._holder.took(0, 0, more=False)
            self._tell("throttled" if isinstance(error, Throttled) else "error", began, reason=str(error))
            if not isinstance(error, (Transient, Denied)):
                raise
            self._failures += 1
            await self._wait_out(error)
            return None
        self._failures = 0
        size_bytes = page.size_bytes if page.records else 0
        self._tell("records" if page.records else "empty", began, page, size_bytes)
        self._standing.took(page, size_bytes, self._holder)
        return page

    async def _admit(self, size_bytes: int) -> None:
        self.answered = self._tools.now()
        await self._holder.admit(size_bytes)

    async def _wait_out(self, error: Transient | Denied) -> None:
        """Pause as the failure asks for. What is in flight goes on; a refusal is told as the mapping's problem."""
        least = max(_THROTTLED, min(error.after, ASKED_CAP)) if isinstance(error, Throttled) else 0.0
        denied = isinstance(error, Denied)
        seconds = max(least, backoff(self._failures, self._tools.chance(), base=_DENIED if denied else _FAILED))
        if denied:
            self._tools.observe(MappingProblem(mapping=self._tools.mapping, reason=str(error), retry_in=seconds))
        await self._tools.pause(seconds)

    def _tell(
        self, outcome: ReadOutcome, began: float, page: Page | None = None, size_bytes: int = 0, reason: str = ""
    ) -> None:
        self._tools.observe(
            SourceRead(
                mapping=self._tools.mapping,
                shard=self._shard,
                outcome=outcome,
                records=len(page.records) if page else 0,
                size_bytes=size_bytes,
                seconds=self._tools.now() - began,
                behind=page.behind if page else None,
                reason=reason,
            )
        )


async def read_shard(
    tools: Tools,
    shard: str,
    cursor: Cursor,
    reader: Reader,
    hand_out: Callable[[Page], Awaitable[bool]],
    room: Callable[[], Awaitable[None]],
) -> None:
    """Read a stream's shard until its end or that of its lanes, handing out every page that says something.

    A stop has to cancel it.

    A position that the stream no longer holds is data lost: it is told, and reading goes on at the oldest record.

    Args:
        hand_out: takes a page, when the lanes have room for it, and answers whether more is wanted.
        room: awaited before each read, until another page may be held.
    """
    paced = pace.beginning(tools.policy, now=tools.now(), chance=tools.chance())
    empty = pace.IDLE
    while not tools.stop.is_set():
        await room()
        began = tools.now()
        try:
            page = await reader.read(cursor)
        except Trimmed:
            if isinstance(cursor.position, TrimHorizon):  # nothing was passed over, but it must not be asked at once
                cursor = Cursor(position=TrimHorizon())
                await tools.pause(tools.policy.poll_interval)
                continue
            _tell_trimmed(tools, shard, cursor)
            cursor = Cursor(position=TrimHorizon())
            continue
        except ShardGone:
            return  # the next listing tells whether its stream is gone too, and what becomes of it
        if page is None:
            continue
        empty = 0 if page.records else empty + 1
        following, due = page.cursor, paced.due(page, began=began, empty=empty)
        handed = hand_out(page) if page.records or following is None else None
        del page  # or its records would stay in memory when they have been filtered out or delivered
        if handed is not None and not await handed:
            return  # a lane has stopped, and the page will be read again; or lanes are level
        if following is None:
            return
        cursor, now = following, tools.now()
        if due > now:  # a read waits for its source, so that others have their turn without a pause
            await anyio.sleep(due - now)  # a stop cancels us: to sleep past it is what costs


def _tell_trimmed(tools: Tools, shard: str, cursor: Cursor) -> None:
    lost_behind = progress.spell(cursor.position)
    tools.observe(
        RecordsDropped(
            mapping=tools.mapping,
            shard=shard,
            condition="Trimmed",
            records=0,
            first=lost_behind,
            last="TRIM_HORIZON",
        )
    )
