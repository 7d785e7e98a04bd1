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
from poller.mapping import progress, row, shards
from poller.mapping.commit import Checkpoint
from poller.mapping.hold import ShardHold
from poller.mapping.rows import Rows
from poller.mapping.shard import process
from poller.mapping.start import find_start
from poller.mapping.tools import Tools
from poller.mapping.turn import Turn, turn
from poller.model.errors import Denied, ShardGone, Superseded, Transient, Trimmed
from poller.model.facts import MappingProblem, RecordsDropped, ShardMoved, ShardPassed, SourceListed, StoreFailed
from poller.model.record import At, Cursor, Topology, TrimHorizon

_LISTING_SOON, _LISTING_LATER = 1.0, 60.0
"""Seconds between two listings: soon after a shard ended (its children may not be listed yet), doubling to later."""
_LOOK_EVERY = 20.0
"""Seconds between two looks at the rows while nothing seems to happen: bells may be lost."""
_FLUSH_EVERY = 0.5
"""Seconds between two looks for rows that have to be written now."""


@dataclass(slots=True, eq=False)
class _Run:
    """A shard in our hands."""

    since: float
    handed: bool
    """Another replica gave it to us."""
    stop: anyio.Event = field(default_factory=anyio.Event)
    """Finish what is in flight, begin nothing new."""
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    to: str = ""
    """Who shall have it next."""


class Stream:
    """The running state of one mapping of a stream."""

    def __init__(self, tools: Tools, topology: Topology) -> None:
        self._tools = tools
        self._fleet = tools.fleet
        self._topology = topology
        self._prefix = row.prefix(tools.mapping, tools.source_name, topology.identity)
        self._rows = Rows(tools, self._prefix)
        self._running: dict[str, _Run] = {}
        self._elsewhere: dict[str, str] = {}
        self._free_since: dict[str, float] = {}
        self._next: Mapping[str, str] = {}
        self._let_go: set[str] = set()
        self._latest: Mapping[str, Cursor] = {}
        self._missing: frozenset[str] = frozenset()
        self._blocked: frozenset[str] = frozenset()
        self._unnamed: Mapping[str, float] = {}
        self._listed_anew = True
        self._nap = anyio.CancelScope()
        self._listing_pause = _LISTING_SOON
        self._list_at = self._look_at = -math.inf

    async def run(self) -> None:
        """Process the stream until the stop."""
        await self._tools.unless_stopped(partial(self._fleet.serve, self._prefix, self._wake))
        try:
            await self._look()
            found = await self._tools.unless_stopped(partial(find_start, self._tools, self._topology, self._prefix))
            if found is None:
                return
            start, self._latest = found
            await self._look()
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
        self._list_at = anyio.current_time() + self._listing_pause
        while not self._tools.stop.is_set():
            await self._follow(start, tasks)
            await self._sleep()
            now = anyio.current_time()
            if self._tools.stop.is_set():
                return
            if now >= self._list_at:
                await self._tools.unless_stopped(self._list)
                self._listing_pause = min(_LISTING_LATER, self._listing_pause * 2)
                self._list_at = anyio.current_time() + self._listing_pause
            if self._fleet.shared and now >= self._look_at:
                await self._look_again()

    def _wake(self) -> None:
        """The fleet has changed, or has something for us."""
        self._look_at = -math.inf
        self._nap.cancel()

    async def _sleep(self) -> None:
        look_at = self._look_at if self._fleet.shared else math.inf
        with anyio.move_on_after(min(self._list_at, look_at) - anyio.current_time()) as self._nap:
            await self._tools.stop.wait()

    async def _pass_the_stop_on(self) -> None:
        await self._tools.stop.wait()
        if self._fleet.leaving:
            self._next = self._fleet.assigned(self._prefix, self._seats(self._running))
        for shard, run in self._running.items():
            run.to = self._next.get(shard, "")
            run.stop.set()

    # ---------------------------------------------------------------- rows

    async def _look(self) -> None:
        """Read the rows as the others left them, then who is there. Raises `Transient`."""
        self._look_at = anyio.current_time() + _LOOK_EVERY
        for shard in await self._rows.look(self._running):
            if run := self._running.get(shard):  # else it has found out while the rows were being read
                run.stop.set()  # its next write will tell it
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
        rows = self._rows.all()
        missing = self._missing if self._listed_anew else frozenset()  # the same listing twice proves nothing
        plan = shards.plan(self._topology.partitions, rows, start=start, missing=missing)
        for shard in plan.lost - self._running.keys():
            await self._look_for_lost(shard, tasks)
        if self._listed_anew:
            await self._forget(rows)
            if plan.missing - self._missing:
                self._listing_pause = _LISTING_SOON
                self._list_at = min(self._list_at, anyio.current_time() + _LISTING_SOON)
            self._missing = plan.missing
        for shard in plan.blocked.keys() - self._blocked:
            self._moved(shard, "blocked_on_parent", " ".join(plan.blocked[shard]))
        self._blocked = frozenset(plan.blocked)
        seats = self._seats(plan.open)
        targets = self._fleet.assigned(self._prefix, seats)
        for shard, position in plan.open.items():
            what = self._turn(shard, seats[shard], targets.get(shard, ""))
            self._take_turn(shard, what, self._rows.of(shard, position), targets, tasks)

    def _seats(self, wanted: Collection[str]) -> Mapping[str, Seat]:
        """Who has each of these listed shards now."""
        return {
            shard.id: self._rows.seat(shard, running=shard.id in self._running)
            for shard in self._topology.partitions
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
        elif what == "keep" and checkpoint.row.epoch != self._fleet.epoch and checkpoint.version:
            tasks.start_soon(self._reassert, shard)
        holder = self._rows.holder(shard) if what == "leave" else ""
        if holder and self._elsewhere.get(shard) != holder:
            self._moved(shard, "elsewhere", progress.spell(checkpoint.position), owner=holder)
            self._elsewhere[shard] = holder

    def _open(self, shard: str, checkpoint: Checkpoint, tasks: TaskGroup) -> None:
        adopted = self._rows.holder(shard) == self._fleet.name
        self._elsewhere.pop(shard, None)
        self._free_since.pop(shard, None)
        run = self._running[shard] = _Run(since=anyio.current_time(), handed=adopted)
        tasks.start_soon(self._run_shard, shard, checkpoint, run)

    async def _run_shard(self, shard: str, checkpoint: Checkpoint, run: _Run) -> None:
        """Process a shard to its end, the stop, or the loss of its ownership."""
        state: Literal["ended", "released"] = "released"
        superseded = False
        try:
            with run.scope:
                before = checkpoint.version
                await checkpoint.own(self._fleet.name, self._fleet.epoch)
                if self._fleet.shared:
                    self._passed(shard, "adopted" if checkpoint.version == before else "claimed")
                self._moved(shard, "owned", progress.spell(checkpoint.position))
                if await self._process(shard, checkpoint, run):
                    await checkpoint.end()
                    self._fleet.handed()
                    state = "ended"
                else:
                    await self._let_shard_go(shard, checkpoint, run)
        except* Superseded:
            superseded = True
        if superseded or run.scope.cancelled_caught:
            self._passed(shard, "lost")
            await self._rows.reread(shard)
        del self._running[shard]
        self._moved(shard, state, progress.spell(checkpoint.position))
        if run.to:
            return
        if state == "ended" or shard not in self._let_go:  # one that goes again and again waits for its turn
            self._listing_pause = _LISTING_SOON
            self._list_at = -math.inf
            self._nap.cancel()
        self._let_go.add(shard)

    async def _process(self, shard: str, checkpoint: Checkpoint, run: _Run) -> bool:
        """Read, batch and deliver. Answers whether the shard's end was reached and settled."""
        cursor = self._latest.get(shard)
        if cursor is None or cursor.position != checkpoint.position:
            cursor = Cursor(position=checkpoint.position)
        hold = ShardHold(self._fleet, checkpoint) if self._fleet.shared else None
        tools = replace(self._tools, stop=run.stop, hold=hold)
        return await process(tools, shard, checkpoint, cursor, self._kept_for)

    async def _let_shard_go(self, shard: str, checkpoint: Checkpoint, run: _Run) -> None:
        """Store what is not stored yet; and, in the same write, who has the shard next."""
        if not run.to and not self._fleet.leaving:
            await checkpoint.flush()
            return
        await checkpoint.own(run.to, self._fleet.epoch_of(run.to))
        self._fleet.handed(run.to or "*")
        self._passed(shard, "handed_over", run.to)

    def _kept_for(self) -> float:
        return self._topology.retention

    # ---------------------------------------------------------------- shards that are not listed

    async def _look_for_lost(self, shard: str, tasks: TaskGroup) -> None:
        """A shard that we have not finished is not listed any more."""
        if self._rows.holder(shard) not in ("", self._fleet.name):
            return  # its owner will find out
        gone = await self._tools.unless_stopped(partial(self._is_gone, shard))
        if gone:
            await self._give_up(shard, self._rows[shard])
        elif gone is not None:  # it is there, only not listed, and its children wait for it
            self._open(shard, self._rows[shard], tasks)

    async def _is_gone(self, shard: str) -> bool:
        """Whether a shard that is not listed has left the stream: listings may be torn, and giving up is for ever."""
        try:
            await self._tools.source.latest(shard)
        except (ShardGone, Trimmed):
            return True
        except (Transient, Denied):
            pass  # reading it will tell
        return False

    async def _give_up(self, shard: str, checkpoint: Checkpoint) -> None:
        """A shard that we had not finished has left the stream: say what is lost, and let its children start."""
        try:
            await checkpoint.own(self._fleet.name, self._fleet.epoch)
        except Superseded:
            await self._rows.reread(shard)
            return
        self._tools.observe(
            RecordsDropped(
                mapping=self._tools.mapping,
                shard=shard,
                condition="Trimmed",
                records=0,
                first=progress.spell(checkpoint.position),
                last="SHARD_END",
            )
        )
        await checkpoint.end()
        self._moved(shard, "ended")

    async def _forget(self, rows: Mapping[str, row.ShardRow]) -> None:
        """Remove the rows of shards that left the stream long ago: DynamoDB makes new ones every four hours."""
        listed, now = self._topology.partitions, anyio.current_time()
        self._unnamed = shards.unnamed(listed, rows, since=self._unnamed, now=now)
        if self._fleet.name != min(self._fleet.live(), default=""):
            return  # one of all does it
        for shard in shards.forgettable(listed, rows, since=self._unnamed, now=now) - self._running.keys():
            if await self._rows[shard].remove():
                self._rows.drop(shard)
                self._let_go.discard(shard)
                self._moved(shard, "forgotten")

    async def _list(self) -> None:
        """List the shards again; a listing that fails stops no shard.

        Raises:
            Transient: another stream stands under the name; the mapping has to begin anew.
        """
        self._listed_anew = False
        try:
            topology = await self._tools.source.topology()
        except (Transient, Denied) as error:
            self._tools.observe(
                MappingProblem(mapping=self._tools.mapping, reason=str(error), retry_in=self._listing_pause)
            )
            return
        if topology.identity != self._topology.identity:
            raise Transient(f"{self._tools.source_name} was deleted and created anew: starting afresh")
        self._topology, self._listed_anew = topology, True
        self._tools.observe(SourceListed(mapping=self._tools.mapping, retention=topology.retention))

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
