"""A mapping of a stream: finds its shards, reads those that are this replica's, children after their parents."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import anyio
from anyio.abc import TaskGroup

from poller.fleet.assign import Seat
from poller.mapping import obey, progress, row, steer
from poller.mapping.commit import Checkpoint
from poller.mapping.hold import ShardHold
from poller.mapping.listing import Listing
from poller.mapping.rows import Rows
from poller.mapping.shard import process
from poller.mapping.start import find_start
from poller.mapping.steer import Seek
from poller.mapping.stop import Stop
from poller.mapping.tools import Tools
from poller.mapping.turn import Turn, turn
from poller.mapping.wishes import Steering
from poller.model.errors import Superseded, Transient
from poller.model.facts import ShardMoved, ShardPassed, StoreFailed
from poller.model.record import At, Cursor, Topology, TrimHorizon

_LOOK_EVERY = 20.0
"""Seconds between two looks at the rows while nothing seems to happen: bells may be lost."""
_LOOK_SOON = 2.0
"""The same while somebody should take a shard and does not yet."""
_FLUSH_EVERY = 0.5
"""Seconds between two looks for rows that have to be written now."""


@dataclass(slots=True, eq=False)
class _Run:
    """A shard in our hands."""

    since: float
    handed: bool
    """Another replica gave it to us."""
    stop: Stop = field(default_factory=Stop)
    """Finish what is in flight, begin nothing new."""
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    to: str = ""
    """Who shall have it next."""
    lost: bool = False
    """Another replica has taken it."""
    paused: bool = False
    """Nothing of it is delivered."""
    seek: Seek | None = None
    """What it obeys first."""
    again: bool = False
    """It is stopped only to be opened anew, as operators wish it."""


class Stream:
    """The running state of one mapping of a stream."""

    def __init__(self, tools: Tools, topology: Topology) -> None:
        self._tools = tools
        self._fleet = tools.fleet
        self._prefix = row.prefix(tools.mapping, tools.source_name, topology.identity)
        self._rows = Rows(tools, self._prefix)
        self._listing = Listing(tools, topology, self._rows)
        self._steering = Steering(tools, self._prefix)
        self._running: dict[str, _Run] = {}
        self._elsewhere: dict[str, str] = {}
        self._free_since: dict[str, float] = {}
        self._next: Mapping[str, str] = {}
        self._let_go: set[str] = set()
        self._wanted: frozenset[str] = frozenset()
        self._inherited: frozenset[str] = frozenset()
        """Shards that were ours before this began: others may have thought them free while nobody served the stream."""
        self._latest: Mapping[str, Cursor] = {}
        self._blocked: frozenset[str] = frozenset()
        self._nap = anyio.CancelScope()
        self._look_at = -math.inf

    async def run(self) -> None:
        """Process the stream until the stop."""
        await self._tools.unless_stopped(partial(self._fleet.serve, self._prefix, self._wake))
        try:
            await self._look()
            found = await self._tools.unless_stopped(
                partial(find_start, self._tools, self._listing.topology, self._prefix)
            )
            if found is None:
                return
            start, self._latest = found
            await self._look()
            if self._fleet.shared:
                self._inherited = self._rows.naming(self._fleet.name)
            async with anyio.create_task_group() as around:
                around.start_soon(self._pass_the_stop_on)
                if self._tools.store.pace:
                    around.start_soon(self._flush_late_rows)
                async with anyio.create_task_group() as tasks:
                    await self._keep_following(start, tasks)
                around.cancel_scope.cancel()
        finally:
            self._fleet.cease(self._prefix)

    async def _keep_following(self, start: TrimHorizon | At, tasks: TaskGroup) -> None:
        while not self._tools.stop.is_set():
            await self._follow(start, tasks)
            await self._sleep()
            now = anyio.current_time()
            if self._tools.stop.is_set():
                return
            if now >= self._listing.at:
                await self._listing.again()
            if now >= self._look_at:
                await self._look_again()

    def _wake(self) -> None:
        """The fleet has changed, or has something for us."""
        self._look_at = -math.inf
        self._nap.cancel()

    async def _sleep(self) -> None:
        with anyio.move_on_after(min(self._listing.at, self._look_at) - anyio.current_time()) as self._nap:
            await self._tools.stop.wait()

    async def _pass_the_stop_on(self) -> None:
        await self._tools.stop.wait()
        if self._fleet.leaving:
            self._next = self._fleet.assigned(self._prefix, self._seats(self._wanted | self._running.keys()))
        for shard, run in self._running.items():
            run.to = self._next.get(shard, "")
            run.stop.set()

    # ---------------------------------------------------------------- rows

    async def _look(self) -> None:
        """Read what is wished, the rows as the others left them, then who is there. Raises `Transient`."""
        self._look_at = anyio.current_time() + _LOOK_EVERY if self._fleet.shared else math.inf
        await self._steering.look()
        for shard in await self._rows.look(self._running):
            if run := self._running.get(shard):  # or it has come to its end while we looked
                run.lost = True
                run.stop.set()
        await self._fleet.look()

    async def _look_again(self) -> None:
        try:
            await self._tools.unless_stopped(self._look)
        except Transient as error:
            self._tools.observe(StoreFailed(reason=str(error)))

    async def _flush_late_rows(self) -> None:
        """Write, at the store's pace, what was put off."""
        async with anyio.create_task_group() as tasks:
            while True:
                await anyio.sleep(_FLUSH_EVERY)
                for shard in self._running:
                    if self._rows[shard].late:
                        tasks.start_soon(self._write, shard, self._rows[shard].flush)

    async def _reassert(self, shard: str) -> None:
        """We were declared dead and live again: the shard is ours unless somebody has taken it."""
        await self._write(shard, partial(self._rows[shard].own, self._fleet.name, self._fleet.epoch))

    async def _write(self, shard: str, write: Callable[[], Awaitable[None]]) -> None:
        """Write beside the shard's own work, which ends when another replica has the shard."""
        run = self._running.get(shard)
        try:
            await write()
        except Superseded:
            if run:
                run.scope.cancel()

    # ---------------------------------------------------------------- shards

    async def _follow(self, start: TrimHorizon | At, tasks: TaskGroup) -> None:
        """Open what is ours to read, tell what waits, give up what the stream dropped."""
        rows = steer.as_wished(self._rows.all(), self._steering.wishes, self._prefix, self._listing.topology.partitions)
        plan = await self._listing.plan(start, rows, self._running.keys())
        for shard in plan.lost - self._running.keys():
            await self._look_for_lost(shard, tasks)
        for shard in plan.blocked.keys() - self._blocked:
            self._moved(shard, "blocked_on_parent", " ".join(plan.blocked[shard]))
        self._blocked = frozenset(plan.blocked)
        self._wanted = frozenset(plan.open)
        self._stop_what_changes(steer.reopened(plan.blocked, rows))
        seats = self._seats(plan.open)
        targets = self._fleet.assigned(self._prefix, seats)
        for shard, position in plan.open.items():
            what = self._turn(shard, seats[shard], targets.get(shard, ""))
            self._take_turn(shard, what, self._rows.of(shard, position), targets, tasks)
            if what == "leave" and not seats[shard].holder:  # whoever it is meant for may see things differently
                self._look_at = min(self._look_at, anyio.current_time() + _LOOK_SOON)
        await self._steering.tidy(self._rows.all(), self._listing.topology.partitions)

    def _stop_what_changes(self, waiting: Collection[str]) -> None:
        """Stop the shards that have to be opened anew because of what operators wish, or that wait for parents again."""
        for shard, run in self._running.items():
            seek = self._steering.pending(shard, self._rows[shard].row)
            paused = self._steering.paused(shard) is not None
            if shard in waiting or paused != run.paused or (seek and seek != run.seek):
                run.again = True
                run.stop.set()

    def _seats(self, wanted: Collection[str]) -> Mapping[str, Seat]:
        """Who has each of these listed shards now."""
        return {
            shard.id: self._rows.seat(shard, running=shard.id in self._running)
            for shard in self._listing.topology.partitions
            if shard.id in wanted
        }

    def _turn(self, shard: str, seat: Seat, target: str) -> Turn:
        now, run = anyio.current_time(), self._running.get(shard)
        if seat.holder:
            self._free_since.pop(shard, None)
        return turn(
            me=self._fleet.name,
            holder=seat.holder,
            target=target,
            near=seat.near,
            free_for=0.0 if seat.holder else now - self._free_since.setdefault(shard, now),
            held_for=now - run.since if run else None,
            handed=run.handed if run else False,
            settled=self._fleet.settled,
        )

    def _take_turn(
        self, shard: str, what: Turn, checkpoint: Checkpoint, targets: Mapping[str, str], tasks: TaskGroup
    ) -> None:
        if what == "hand_over":
            run = self._running[shard]
            run.to = targets[shard]
            run.stop.set()
        elif what == "open":
            self._open(shard, checkpoint, tasks)
        elif what == "keep" and self._is_stale(shard, checkpoint):
            tasks.start_soon(self._reassert, shard)
        holder = self._rows.holder(shard) if what == "leave" else ""
        if holder and self._elsewhere.get(shard) != holder:
            self._moved(shard, "elsewhere", progress.spell(checkpoint.position), owner=holder)
            self._elsewhere[shard] = holder

    def _is_stale(self, shard: str, checkpoint: Checkpoint) -> bool:
        """Whether the row of a shard in our hands does not say so: it names an older life of ours, or was removed."""
        opened = checkpoint.row.owner == self._fleet.name and not self._running[shard].stop.is_set()
        return opened and (checkpoint.row.epoch != self._fleet.epoch or not checkpoint.version)

    def _open(self, shard: str, checkpoint: Checkpoint, tasks: TaskGroup) -> None:
        if self._tools.stop.is_set():
            return  # what runs has been told, and nobody would tell this one
        adopted = self._rows.holder(shard) == self._fleet.name
        self._elsewhere.pop(shard, None)
        self._free_since.pop(shard, None)
        paused, seek = self._steering.paused(shard) is not None, self._steering.pending(shard, checkpoint.row)
        run = self._running[shard] = _Run(since=anyio.current_time(), handed=adopted, paused=paused, seek=seek)
        tasks.start_soon(self._run_shard, shard, checkpoint, run)

    async def _run_shard(self, shard: str, checkpoint: Checkpoint, run: _Run) -> None:
        """Process a shard to its end, the stop, or the loss of its ownership."""
        state: Literal["ended", "released"] = "released"
        owned = superseded = False
        try:
            with run.scope:
                before = checkpoint.version
                await checkpoint.own(self._fleet.name, self._fleet.epoch, anew=shard in self._inherited)
                owned = True
                if self._fleet.shared:
                    self._passed(shard, "adopted" if checkpoint.version == before else "claimed")
                self._moved(shard, "owned", progress.spell(checkpoint.position))
                if await self._process(shard, checkpoint, run):
                    await checkpoint.end()
                    self._fleet.handed()
                    state = "ended"
                elif run.lost:
                    superseded = True
                else:
                    await self._let_shard_go(shard, checkpoint, run)
        except* Superseded:
            superseded = True
        if superseded or run.scope.cancelled_caught:
            if owned:  # or another was faster
                self._passed(shard, "lost")
            await self._rows.reread(shard)
        del self._running[shard]
        self._moved(shard, state, progress.spell(checkpoint.position))
        if run.to:
            return
        if run.again:
            self._wake()
            return
        if state == "ended" or shard not in self._let_go:  # one that goes again and again waits for its turn
            self._listing.soon()
            self._nap.cancel()
        self._let_go.add(shard)

    async def _process(self, shard: str, checkpoint: Checkpoint, run: _Run) -> bool:
        """Read, batch and deliver. Answers whether the shard's end was reached and settled."""
        tools = replace(self._tools, stop=run.stop)
        if run.seek and not await obey.seek(tools, shard, checkpoint, run.seek):
            return False
        if run.paused:
            return await obey.stand_still(tools, shard, checkpoint)
        cursor = self._latest.get(shard)
        if cursor is None or cursor.position != checkpoint.position:
            cursor = Cursor(position=checkpoint.position)
        hold = ShardHold(self._fleet, checkpoint) if self._fleet.shared else None
        return await process(replace(tools, hold=hold), shard, checkpoint, cursor, self._kept_for)

    async def _let_shard_go(self, shard: str, checkpoint: Checkpoint, run: _Run) -> None:
        """Store what is not stored yet; and, in the same write, who has the shard next."""
        if not run.to and not self._fleet.leaving:
            await checkpoint.flush()
            return
        await checkpoint.own(run.to, self._fleet.epoch_of(run.to))
        self._fleet.handed(run.to or "*")
        self._passed(shard, "handed_over", run.to)

    def _kept_for(self) -> float:
        return self._listing.topology.retention

    async def _look_for_lost(self, shard: str, tasks: TaskGroup) -> None:
        """A shard that we have not finished is not listed any more."""
        if self._rows.holder(shard) not in ("", self._fleet.name):
            return  # its owner will find out
        gone = await self._listing.is_gone(shard)
        if gone:
            await self._listing.give_up(shard, self._rows[shard])
        elif gone is not None:  # it is there, only not listed, and its children wait for it
            self._open(shard, self._rows[shard], tasks)

    # ---------------------------------------------------------------- what is told

    def _passed(self, shard: str, how: Literal["claimed", "adopted", "handed_over", "lost"], member: str = "") -> None:
        self._tools.observe(ShardPassed(mapping=self._tools.mapping, shard=shard, how=how, member=member))

    def _moved(
        self,
        shard: str,
        to: Literal["owned", "blocked_on_parent", "ended", "released", "forgotten", "elsewhere"],
        position: str = "",
        owner: str = "",
    ) -> None:
        self._tools.observe(ShardMoved(mapping=self._tools.mapping, shard=shard, to=to, position=position, owner=owner))
