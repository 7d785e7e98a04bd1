"""A shard that does what an operator wishes: it goes on elsewhere, or stands still and tells how old its data grows."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from poller.mapping import progress
from poller.mapping.commit import Checkpoint
from poller.mapping.retry import ASKED_CAP, backoff
from poller.mapping.steer import Seek
from poller.mapping.tools import Tools
from poller.model.errors import Denied, ShardGone, Throttled, Transient, Trimmed
from poller.model.facts import MappingProblem, ReadOutcome, ShardSought, ShardStands, SourceRead
from poller.model.record import At, Cursor, Page, Position, TrimHorizon

_LOOK_EVERY = 1.0
"""Seconds between two looks for the first record that waits, at the least."""
_FAILED, _DENIED = 0.2, 5.0
"""First pause, doubling, after a failure that passes and after one that somebody has to mend."""


async def seek(tools: Tools, shard: str, checkpoint: Checkpoint, wished: Seek) -> bool:
    """Put the shard where the wish says, in one write that names the wish.

    Returns:
        Whether that is done; otherwise the stop came first or the shard has left the stream, and the wish stands.

    Raises:
        Superseded: another replica has the shard.
    """
    before = checkpoint.position
    to: Position | None = wished.to
    if wished.forward:
        try:
            head = await _Look(tools, shard, before).find()
        except ShardGone:
            return False  # the next listing tells what becomes of it
        if head is None:
            return False
        if head.arrived is None or (isinstance(wished.to, At) and head.arrived >= wished.to.time):
            to = None  # there is nothing to pass over
    await checkpoint.jump(to, wished.serial, onwards=wished.forward)
    tools.observe(
        ShardSought(
            mapping=tools.mapping,
            shard=shard,
            asked=wished.asked,
            who=wished.who,
            at=wished.at,
            before=progress.spell(before),
            after=progress.spell(checkpoint.position),
        )
    )
    return True


async def stand_still(tools: Tools, shard: str, checkpoint: Checkpoint) -> None:
    """Deliver nothing until the stop; its first record that waits is known all the while, so that its age is told."""
    tried = max((lane.tried for lane in checkpoint.row.lanes), default=0)
    _stands(tools, shard, checkpoint.position, None, 0.0, tried)
    look = _Look(tools, shard, checkpoint.position)
    try:
        while not tools.stop.is_set():
            head = await look.find()
            if head is None:
                break
            _stands(tools, shard, checkpoint.position, head.arrived, 0.0, tried)
            if head.arrived is not None or head.ended:
                await tools.stop.wait()
            await tools.pause(max(_LOOK_EVERY, tools.policy.poll_interval))
    except ShardGone:
        pass  # the next listing tells what becomes of it


class _Head(NamedTuple):
    """What lies behind a position."""

    arrived: float | None
    """Of the first record, which no budget counts and nobody keeps; None when there is none yet."""
    ended: bool
    """There will never be one."""


class _Look:
    """Looks for the first record behind a position, which stays where it is."""

    def __init__(self, tools: Tools, shard: str, position: Position) -> None:
        self._tools = tools
        self._shard = shard
        self._cursor = Cursor(position=position)
        self._failures = 0

    async def find(self) -> _Head | None:
        """What lies there now; None when the stop came first. Raises `ShardGone`."""
        while not self._tools.stop.is_set():
            page = await self._tools.unless_stopped(self._read)
            if page is None:
                continue
            if page.records:
                return _Head(page.records[0].arrived, ended=False)
            if page.cursor is None:
                return _Head(None, ended=True)
            self._cursor = page.cursor
            if page.behind <= 0.0:
                return _Head(None, ended=False)
            await self._tools.pause(_FAILED)
        return None

    async def _read(self) -> Page | None:
        """One read of one record, which is not kept; None when it failed, after a pause."""
        tools = self._tools
        began = tools.clock()
        tell = partial(SourceRead, mapping=tools.mapping, shard=self._shard)
        try:
            page = await tools.source.read(self._shard, self._cursor, 1, _admit)
        except Trimmed:
            self._cursor = Cursor(position=TrimHorizon())  # what is lost is told when the shard is read again
            await tools.pause(_FAILED)
            return None
        except (Transient, Denied) as error:
            self._failures += 1
            least = min(error.after, ASKED_CAP) if isinstance(error, Throttled) else 0.0
            denied = isinstance(error, Denied)
            seconds = max(least, backoff(self._failures, tools.chance(), base=_DENIED if denied else _FAILED))
            outcome: ReadOutcome = "throttled" if isinstance(error, Throttled) else "error"
            tools.observe(tell(outcome=outcome, seconds=max(0.0, tools.clock() - began), reason=str(error)))
            if denied:
                tools.observe(MappingProblem(mapping=tools.mapping, reason=str(error), retry_in=seconds))
            await tools.pause(seconds)
            return None
        self._failures = 0
        tools.observe(tell(outcome="empty", seconds=max(0.0, tools.clock() - began), behind=page.behind))
        return page


async def _admit(_: int) -> None:
    """One record has room."""


def _stands(tools: Tools, shard: str, position: Position, oldest: float | None, behind: float, tried: int) -> None:
    tools.observe(
        ShardStands(
            mapping=tools.mapping,
            shard=shard,
            checkpoint=progress.spell(position),
            oldest=oldest,
            behind=behind,
            held=0,
            attempt=tried,
        )
    )
