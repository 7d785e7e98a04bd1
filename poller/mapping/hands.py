"""The shards of a stream that are in this process's hands: taken, processed while there is something to do, let go."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, Protocol

import anyio

from poller.mapping import obey, progress
from poller.mapping.commit import Checkpoint
from poller.mapping.hold import ShardHold
from poller.mapping.quiet import Quiets, Watched
from poller.mapping.rows import Rows
from poller.mapping.shard import Came, Shard
from poller.mapping.steer import Seek
from poller.mapping.stop import Stop
from poller.mapping.tools import Tools
from poller.model.errors import Superseded
from poller.model.facts import ShardMoved, ShardPassed
from poller.model.record import Cursor

_AT_ONCE = 32
"""Shards claimed at the same time: all at once, as at a start, would leave holes in memory."""
_FLUSH_EVERY = 0.5
"""Seconds between two looks for rows that have to be written now."""


@dataclass(slots=True, eq=False, kw_only=True)
class Run:
    """A shard in our hands. While it is quiet, no task of its own runs."""

    shard: str
    checkpoint: Checkpoint
    since: float
    handed: bool
    """Another replica gave it to us."""
    paused: bool
    """Nothing of it is delivered."""
    seek: Seek | None
    """What it obeys first."""
    stop: Stop = field(default_factory=Stop)
    """Finish what is in flight, begin nothing new."""
    work: Shard | None = None
    """None before it is ours, and while it is to stand still."""
    scope: anyio.CancelScope | None = None
    """Of its task, if it has one."""
    watched: Watched[Run] | None = None
    """Since it is quiet."""
    to: str = ""
    """Who shall have it next."""
    lost: bool = False
    """Another replica has taken it."""
    again: bool = False
    """It is stopped only to be opened anew, as operators wish it."""

    def lose(self) -> None:
        """Another replica has it: break off what is under way."""
        self.lost = True
        if self.scope is None:
            self.stop.set()
        else:
            self.scope.cancel()

    def leave(self) -> None:
        """It is not processed any more: what it held in memory is given back."""
        if self.work:
            self.work.leave()


class LetGo(Protocol):
    """Is told of each run that is over, after the shard has left our hands."""

    def __call__(self, run: Run, *, ended: bool) -> None:
        """Told whether the shard has come to its end."""


class Hands:
    """What happens to a shard between its taking and its leaving."""

    def __init__(self, tools: Tools, rows: Rows, *, kept_for: Callable[[], float], let_go: LetGo) -> None:
        """Have nothing yet."""
        self.running: dict[str, Run] = {}
        self.latest: Mapping[str, Cursor] = {}
        """Where shards begin whose position is the newest record's."""
        self.inherited: frozenset[str] = frozenset()
        """Shards that were ours before this began: others may have thought them free while nobody served the stream."""
        self._taken: deque[Run] = deque()
        self._beginning = 0
        self._tools = tools
        self._fleet = tools.fleet
        self._rows = rows
        self._kept_for = kept_for
        self._told = let_go
        self._quiets = Quiets(tools.now, tools.policy.poll_interval, self._go_on)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Be ready to take shards; at the end, wait until all that were taken have been let go."""
        try:
            async with anyio.create_task_group() as beside:
                beside.start_soon(self._quiets.run)
                if self._tools.store.pace:
                    beside.start_soon(self._flush_late_rows)
                async with anyio.create_task_group() as self._tasks:
                    yield
                beside.cancel_scope.cancel()
        finally:
            for run in self.running.values():  # all has been cut short
                run.leave()

    def take(self, run: Run) -> None:
        """Take a shard that may be taken."""
        self.running[run.shard] = run
        if run.paused or run.seek or run.checkpoint.row.lanes or self._tools.policy.tumbling:
            self._go_on(run)
            return
        self._taken.append(run)
        if self._beginning < _AT_ONCE:
            self._beginning += 1
            self._tasks.start_soon(self._begin)

    async def _begin(self) -> None:
        """Claim what was taken and is quiet as far as anybody knows: one that has work to do gets a task for it."""
        while self._taken:
            await self._process(self._taken.popleft())
        self._beginning -= 1

    def _go_on(self, run: Run) -> None:
        self._tasks.start_soon(self._process, run)

    def reassert(self, shard: str) -> None:
        """We were declared dead and live again: the shard is ours unless somebody has taken it."""
        self._tasks.start_soon(self._write, shard, partial(self._rows[shard].own, self._fleet.name, self._fleet.epoch))

    async def _flush_late_rows(self) -> None:
        """Write, at the store's pace, what was put off."""
        async with anyio.create_task_group() as tasks:
            while True:
                await anyio.sleep(_FLUSH_EVERY)
                for shard, run in self.running.items():
                    if run.checkpoint.late and not run.checkpoint.writing:  # else a task more each time would wait
                        tasks.start_soon(self._write, shard, run.checkpoint.flush)

    async def _write(self, shard: str, write: Callable[[], Awaitable[None]]) -> None:
        """Write beside the shard's own work, which ends when another replica has the shard."""
        run = self.running.get(shard)
        try:
            await write()
        except Superseded:
            if run:
                run.lose()

    async def _process(self, run: Run) -> None:
        """Process a shard to its end, the stop, the loss of its ownership, or until it is quiet."""
        owned, ended, superseded = run.work is not None, False, False
        try:
            with anyio.CancelScope() as scope:
                run.scope = scope
                if run.watched:
                    run.stop.spares(run.watched)
                    await run.watched.over()
                    run.watched = None
                if not owned:
                    await self._claim(run)
                    owned = True
                came = await self._work(run)
                if came == "quiet" and run.work and not run.lost:
                    run.scope = None
                    run.watched = self._quiets.watch(run.work.reads, run)
                    run.stop.cancels(run.watched)
                    return
                ended = came == "ended"
                if ended:
                    await run.checkpoint.end()
                    self._fleet.handed()
                elif run.lost:
                    superseded = True
                else:
                    await self._let_go(run)
        except* Superseded:
            superseded = True
        if superseded or scope.cancelled_caught:
            ended = False  # to say so was refused
            if owned:  # or another was faster
                self._passed(run.shard, "lost")
            await self._rows.reread(run.shard)
        run.leave()
        del self.running[run.shard]
        self._moved(run, "ended" if ended else "released")
        self._told(run, ended=ended)

    async def _claim(self, run: Run) -> None:
        """Have the row say that the shard is ours. Raises `Superseded`."""
        before = run.checkpoint.version
        await run.checkpoint.own(self._fleet.name, self._fleet.epoch, anew=run.shard in self.inherited)
        if self._fleet.shared:
            self._passed(run.shard, "adopted" if run.checkpoint.version == before else "claimed")
        self._moved(run, "owned")

    async def _work(self, run: Run) -> Came:
        """Do what an operator wishes first; then read, batch and deliver."""
        shard, checkpoint = run.shard, run.checkpoint
        if run.work is None:
            hold = ShardHold(self._fleet, checkpoint) if self._fleet.shared else None
            tools = replace(self._tools, stop=run.stop, hold=hold)
            if run.seek and not await obey.seek(tools, shard, checkpoint, run.seek):
                return "stopped"
            if run.paused:
                await obey.stand_still(tools, shard, checkpoint)
                return "stopped"
            cursor = self.latest.get(shard)
            if cursor is None or cursor.position != checkpoint.position:
                cursor = Cursor(position=checkpoint.position)
            run.work = Shard(tools, shard, checkpoint, cursor, self._kept_for)
        return await run.work.run()

    async def _let_go(self, run: Run) -> None:
        """Store what is not stored yet; and, in the same write, who has the shard next."""
        if not run.to and not self._fleet.leaving:
            await run.checkpoint.flush()
            return
        await run.checkpoint.own(run.to, self._fleet.epoch_of(run.to))
        self._fleet.handed(run.to or "*")
        self._passed(run.shard, "handed_over", run.to)

    def _passed(self, shard: str, how: Literal["claimed", "adopted", "handed_over", "lost"], member: str = "") -> None:
        self._tools.observe(ShardPassed(mapping=self._tools.mapping, shard=shard, how=how, member=member))

    def _moved(self, run: Run, to: Literal["owned", "ended", "released"]) -> None:
        position = progress.spell(run.checkpoint.position)
        self._tools.observe(ShardMoved(mapping=self._tools.mapping, shard=run.shard, to=to, position=position))
