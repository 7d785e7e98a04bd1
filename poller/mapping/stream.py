"""A mapping of a stream: finds its shards, reads those that are this replica's, children after their parents."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import partial
from typing import Literal

import anyio

from poller.fleet.assign import Seat
from poller.mapping import progress, row, steer
from poller.mapping.commit import Checkpoint
from poller.mapping.hands import Hands, Run
from poller.mapping.listing import Listing
from poller.mapping.rows import Rows
from poller.mapping.start import find_start
from poller.mapping.tools import Tools
from poller.mapping.turn import Turn, turn
from poller.mapping.wishes import Steering
from poller.model.errors import Transient
from poller.model.facts import ShardMoved, StoreFailed
from poller.model.record import At, Topology, TrimHorizon

_LOOK_EVERY = 20.0
"""Seconds between two looks at the rows while nothing seems to happen: bells may be lost."""
_LOOK_SOON = 2.0
"""The same while somebody should take a shard and does not yet."""


class Stream:
    """The running state of one mapping of a stream."""

    def __init__(self, tools: Tools, topology: Topology) -> None:
        self._tools = tools
        self._fleet = tools.fleet
        self._prefix = row.prefix(tools.mapping, tools.source_name, topology.identity)
        self._rows = Rows(tools, self._prefix)
        self._listing = Listing(tools, topology, self._rows)
        self._steering = Steering(tools, self._prefix)
        self._hands = Hands(tools, self._rows, kept_for=self._kept_for, let_go=self._let_go_of)
        self._running = self._hands.running
        self._elsewhere: dict[str, str] = {}
        self._free_since: dict[str, float] = {}
        self._next: Mapping[str, str] = {}
        self._released: set[str] = set()
        self._wanted: frozenset[str] = frozenset()
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
            start, self._hands.latest = found
            await self._look()
            if self._fleet.shared:
                self._hands.inherited = self._rows.naming(self._fleet.name)
            async with self._hands.open(), anyio.create_task_group() as around:
                around.start_soon(self._pass_the_stop_on)
                await self._keep_following(start)
                self._stop_runs()
                around.cancel_scope.cancel()
        finally:
            self._fleet.cease(self._prefix)

    async def _keep_following(self, start: TrimHorizon | At) -> None:
        while not self._tools.stop.is_set():
            await self._follow(start)
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
        self._stop_runs()

    def _stop_runs(self) -> None:
        if self._fleet.leaving:
            self._next = self._fleet.assigned(self._prefix, self._seats(self._wanted | self._running.keys()))
        for shard, run in list(self._running.items()):
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

    async def _look_again(self) -> None:
        try:
            await self._tools.unless_stopped(self._look)
        except Transient as error:
            self._tools.observe(StoreFailed(reason=str(error)))

    # ---------------------------------------------------------------- shards

    async def _follow(self, start: TrimHorizon | At) -> None:
        """Open what is ours to read, tell what waits, give up what the stream dropped."""
        rows = steer.as_wished(self._rows.all(), self._steering.wishes, self._prefix, self._listing.topology.partitions)
        plan = await self._listing.plan(start, rows, self._running.keys())
        for shard in plan.lost - self._running.keys():
            await self._look_for_lost(shard)
        for shard in plan.blocked.keys() - self._blocked:
            self._moved(shard, "blocked_on_parent", " ".join(plan.blocked[shard]))
        self._tell_ended((self._blocked | self._elsewhere.keys()) - plan.blocked.keys() - plan.open.keys(), rows)
        self._blocked = frozenset(plan.blocked)
        self._wanted = frozenset(plan.open)
        self._stop_what_changes(steer.reopened(plan.blocked, rows))
        seats = self._seats(plan.open)
        targets = self._fleet.assigned(self._prefix, seats)
        for shard, position in plan.open.items():
            what = self._turn(shard, seats[shard], targets.get(shard, ""))
            self._take_turn(shard, what, self._rows.of(shard, position), targets)
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

    def _take_turn(self, shard: str, what: Turn, checkpoint: Checkpoint, targets: Mapping[str, str]) -> None:
        if what == "hand_over":
            run = self._running[shard]
            run.to = targets[shard]
            run.stop.set()
        elif what == "open":
            self._open(shard, checkpoint)
        elif what == "keep" and self._is_stale(shard, checkpoint):
            self._hands.reassert(shard)
        holder = self._rows.holder(shard) if what == "leave" else ""
        if holder and self._elsewhere.get(shard) != holder:
            self._moved(shard, "elsewhere", progress.spell(checkpoint.position), owner=holder)
            self._elsewhere[shard] = holder

    def _is_stale(self, shard: str, checkpoint: Checkpoint) -> bool:
        """Whether the row of a shard in our hands does not say so: it names an older life of ours, or was removed."""
        opened = checkpoint.row.owner == self._fleet.name and not self._running[shard].stop.is_set()
        return opened and (checkpoint.row.epoch != self._fleet.epoch or not checkpoint.version)

    def _open(self, shard: str, checkpoint: Checkpoint) -> None:
        if self._tools.stop.is_set():
            return  # what runs has been told, and nobody would tell this one
        adopted = self._rows.holder(shard) == self._fleet.name
        self._elsewhere.pop(shard, None)
        self._free_since.pop(shard, None)
        run = Run(
            shard=shard,
            checkpoint=checkpoint,
            since=anyio.current_time(),
            handed=adopted,
            paused=self._steering.paused(shard) is not None,
            seek=self._steering.pending(shard, checkpoint.row),
        )
        self._hands.take(run)

    def _let_go_of(self, run: Run, *, ended: bool) -> None:
        """A run is over: find out what follows from it."""
        if run.to:
            return
        if run.again:
            self._wake()
            return
        if ended or run.shard not in self._released:  # one that goes again and again waits for its turn
            self._listing.soon()
            self._nap.cancel()
        self._released.add(run.shard)

    def _kept_for(self) -> float:
        return self._listing.topology.retention

    async def _look_for_lost(self, shard: str) -> None:
        """A shard that we have not finished is not listed any more."""
        if self._rows.holder(shard) not in ("", self._fleet.name):
            return  # its owner will find out
        gone = await self._listing.is_gone(shard)
        if gone:
            self._elsewhere.pop(shard, None)
            await self._listing.give_up(shard, self._rows[shard])
        elif gone is not None:  # it is there, only not listed, and its children wait for it
            self._open(shard, self._rows[shard])

    # ---------------------------------------------------------------- what is told

    def _tell_ended(self, shards: Collection[str], rows: Mapping[str, row.ShardRow]) -> None:
        """Of shards that waited here or were another replica's, those that have ended there."""
        for shard in shards:
            if shard in rows and rows[shard].ended:
                self._moved(shard, "ended", progress.spell(rows[shard].position), owner=rows[shard].owner)
                self._elsewhere.pop(shard, None)

    def _moved(
        self,
        shard: str,
        to: Literal["owned", "blocked_on_parent", "ended", "released", "forgotten", "elsewhere"],
        position: str = "",
        owner: str = "",
    ) -> None:
        self._tools.observe(ShardMoved(mapping=self._tools.mapping, shard=shard, to=to, position=position, owner=owner))
