"""Reading a partition: one page ahead of its lane, as fast as there is data, no faster than the source allows."""

from __future__ import annotations

import math
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
_QUIET = 60.0
"""Seconds without a record after which what is there for records alone is let go."""


class Reader:
    """Reads one partition, again and again; what passes by itself is waited out here."""

    __slots__ = ("_failures", "_holder", "_shard", "_standing", "_tools", "answered")

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
        try:
            return await self.attempt(cursor, limit)
        except (Transient, Denied) as error:
            await self.wait_out(error)
            return None

    async def attempt(self, cursor: Cursor, limit: int | None = None) -> Page:
        """One read, whatever becomes of it is told. The page counts as held."""
        limit = limit or self._holder.limit
        if self._holder.expects:
            await self._holder.expect(limit)
        began = self._tools.now()
        try:
            page = await self._tools.source.read(self._shard, cursor, limit, self._admit)
        except BaseException as error:  # a read that is cancelled gives its room back, too
            self._holder.took(0, 0, more=False)
            if isinstance(error, PollerError):
                self._tell("throttled" if isinstance(error, Throttled) else "error", began, reason=str(error))
            raise
        self._failures = 0
        size_bytes = page.size_bytes if page.records else 0
        self._tell("records" if page.records else "empty", began, page, size_bytes)
        self._standing.took(page, size_bytes, self._holder)
        return page

    def _admit(self, size_bytes: int) -> Awaitable[None]:
        self.answered = self._tools.now()
        return self._holder.admit(size_bytes)

    async def wait_out(self, error: Transient | Denied) -> None:
        """Pause as the failure asks for. What is in flight goes on; a refusal is told as the mapping's problem."""
        self._failures += 1
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


class Reads:
    """The pages of a stream's shard that say something, one after the other, to its end."""

    __slots__ = (
        "_brought_at",
        "_came",
        "_cursor",
        "_empty",
        "_pace",
        "_reader",
        "_shard",
        "_standing",
        "_tools",
        "due",
    )

    def __init__(self, tools: Tools, shard: str, cursor: Cursor, holder: Holder, standing: Standing) -> None:
        """Read nothing yet."""
        self._tools = tools
        self._shard = shard
        self._cursor: Cursor | None = cursor
        self._reader = Reader(tools, shard, holder, standing)
        self._standing = standing
        self._pace = pace.beginning(tools.policy, chance=tools.chance())
        self._empty = pace.IDLE
        self.due = -math.inf
        """When it is to be read next, on `Tools.now`."""
        self._brought_at = -math.inf
        self._came: Page | PollerError | None = None
        """What the last read came to, until `next` takes it up."""

    @property
    def begun(self) -> bool:
        """It was read once, successfully or not."""
        return self.due > -math.inf or self._came is not None

    @property
    def over(self) -> bool:
        """Nothing more can come."""
        return self._cursor is None

    async def next(
        self, rests: Callable[[], bool] | None = None, cramped: Callable[[], Awaitable[None]] | None = None
    ) -> Page | None:
        """The next page with records, or the shard's last; a stop has to cancel this.

        A position that the stream no longer holds is data lost: it is told, and reading goes on at the oldest record.

        Args:
            rests: whether nothing that was read is waited for.
            cramped: called while there is no room for more.

        Returns:
            None when that is so and nothing has come for a minute, or when nothing more can come (`over`). In the
            first case others may `look`, and call again when there is something.
        """
        while self._came is not None or self._cursor is not None:
            if self._came is None:
                now = self._tools.now()
                if now < self.due:  # a read waits for its source, so that others have their turn without a pause
                    if rests is not None and now >= self._brought_at + _QUIET and rests():
                        return None
                    await anyio.sleep(self.due - now)  # a stop cancels us: to sleep past it is what costs
                if not self._standing.has_room:
                    await self._standing.room(cramped)
                await self.look()
            came, self._came = self._came, None
            if isinstance(came, PollerError):
                await self._mend(came)
            elif came is not None:
                return came
        return None

    async def look(self) -> bool:
        """Read once. Answers whether it came to something, be it a failure: it is what `next` goes on with."""
        cursor, began = self._cursor, self._tools.now()
        if cursor is None:
            return True
        try:
            page = await self._reader.attempt(cursor)
        except PollerError as error:
            self._came = error
            return True
        self._cursor = page.cursor
        self._empty = 0 if page.records else self._empty + 1
        self.due = self._pace.due(page, began=began, empty=self._empty)
        if page.records or page.cursor is None:
            self._brought_at = began
            self._came = page
            return True
        return False

    async def _mend(self, error: PollerError) -> None:
        """Wait out what passes; where what is to be read is not there, go on where something is. Raises what is neither."""
        cursor = self._cursor
        if isinstance(error, (Transient, Denied)):
            await self._reader.wait_out(error)
        elif cursor is not None and isinstance(error, (Trimmed, ShardGone)):
            await self._lost(cursor, error)
        else:
            raise error

    async def _lost(self, cursor: Cursor, error: Trimmed | ShardGone) -> None:
        """What is to be read is not there."""
        if isinstance(error, ShardGone):
            self._cursor = None  # the next listing tells whether its stream is gone too, and what becomes of it
            return
        self._cursor = Cursor(position=TrimHorizon())
        if isinstance(cursor.position, TrimHorizon):  # nothing was passed over, but it must not be asked at once
            await self._tools.pause(self._tools.policy.poll_interval)
        else:
            _tell_trimmed(self._tools, self._shard, cursor)


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
