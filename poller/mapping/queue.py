"""A mapping of a queue: receives only what could be sent at once, gathers batches, keeps as many in flight as it may."""

from __future__ import annotations

import math
from collections.abc import Sequence

import anyio
from anyio.abc import TaskGroup

from poller.fleet.share import Share
from poller.mapping import groups, lease, scale
from poller.mapping.batch import Batch, batches_of
from poller.mapping.budget import Holder
from poller.mapping.gather import Gathering
from poller.mapping.groups import groups_of
from poller.mapping.message import Messages
from poller.mapping.pace import pause_after
from poller.mapping.progress import Received
from poller.mapping.read import Reader
from poller.mapping.sift import sift
from poller.mapping.standing import Standing
from poller.mapping.tools import Tools
from poller.model.errors import Denied, Transient
from poller.model.facts import ShardMoved, SourceListed
from poller.model.outcome import Outcome
from poller.model.record import Cursor, Record, Topology, TrimHorizon

_CURSOR = Cursor(position=TrimHorizon())
_LOOK_EVERY = 60.0
"""Seconds for which a queue's visibility timeout is taken to be what it was; a change takes SQS as long to spread."""
_OVERDUE = "their visibility was nearly over before they could be sent"
_OVERTAKING = "a message before them in their group was not settled"


class Queue:
    """The running state of one mapping of a queue."""

    def __init__(self, tools: Tools, topology: Topology, holder: Holder, *, listed: float) -> None:
        """Receive nothing yet.

        Args:
            listed: when the queue said what it is, on `Tools.now`.
        """
        now = tools.now()
        self._tools = tools
        self._policy = tools.policy
        self._shard = topology.partitions[0].id
        self._topology = topology
        self._trouble = topology.trouble
        self._looked = listed
        self._holder = holder
        self._standing = Standing(tools, self._shard, holder, Received())
        self._leases = lease.Leases()
        self._messages = Messages(tools, self._shard, self._standing, self._leases)
        self._readers: list[Reader] = []
        self._gathering = Gathering(tools.policy, self._leases, now)
        self._waiting: list[Batch] = []
        self._in_flight = 0
        self._groups: set[str] = set()
        self._receives = 0
        self._asked = 0
        self._next_receive = now
        self._scale = scale.beginning(tools.policy.scaling, now)
        self._news = anyio.Event()
        self._sleeps_until = math.inf
        self._shared = tools.policy.scaling.total is not None
        self._share = Share(
            tools.fleet,
            tools.store,
            tools.observe,
            stream=f"{tools.mapping}/queue",
            limit=tools.policy.scaling.total or tools.policy.scaling.most,
            in_flight=lambda: self._in_flight,
        )

    @property
    def _bounded(self) -> scale.Scale:
        """What the queue may do, within this replica's part of MaximumConcurrency."""
        return scale.within(self._scale, self._share.part) if self._shared else self._scale

    async def run(self) -> None:
        """Process the queue until the stop; what is in flight is finished and deleted.

        Raises:
            Denied: the queue's visibility timeout is 0.
        """
        observe, mapping, shard = self._tools.observe, self._tools.mapping, self._shard
        observe(ShardMoved(mapping=mapping, shard=shard, to="owned"))
        async with anyio.create_task_group() as around:
            around.start_soon(self._wake_at_stop)
            if self._shared:
                around.start_soon(self._share.keep, self._news_came)
            if self._policy.extend_visibility:
                around.start_soon(self._renew)
            async with anyio.create_task_group() as tasks:
                while self._goes_on:
                    await self._turn(tasks)
                await self._last_receives()
                await self._give_back(self._unsent())
            around.cancel_scope.cancel()
        observe(ShardMoved(mapping=mapping, shard=shard, to="released"))
        if self._trouble:
            raise Denied(f"{self._tools.source_name}: {self._trouble}")

    @property
    def _goes_on(self) -> bool:
        return not self._tools.stop.is_set() and not self._trouble

    async def _turn(self, tasks: TaskGroup) -> None:
        """Begin everything that may begin now, then wait until something may have changed."""
        now = self._tools.now()
        self._news = anyio.Event()
        if self._gathering.held:
            self._waiting += self._gathering.close(now)
        await self._give_up_overdue(now)
        self._grow(now)
        for batch in self._next():
            tasks.start_soon(self._send, batch, tasks)
        self._begin_receives(now, tasks)
        wake = self._sleeps_until = min(self._looks_at(now), self._wakes_at(now))
        if wake == math.inf:
            await self._news.wait()
            return
        with anyio.move_on_after(wake - now):
            await self._news.wait()

    def _looks_at(self, now: float) -> float:
        return scale.looks_at(self._scale, self._policy.scaling, now=now)

    def _grow(self, now: float) -> None:
        self._scale = scale.grow(self._scale, self._policy.scaling, batches=self._batches, now=now)

    def _begin_receives(self, now: float, tasks: TaskGroup) -> None:
        """Begin as many receives as may be under way besides those that are."""
        while count := self._ask(now):
            tasks.start_soon(self._work, count, tasks)

    def _wakes_at(self, now: float) -> float:
        """When something may begin though nothing happens until then; inf: never."""
        wake = math.inf
        if now < self._next_receive and self._may_receive():
            wake = min(wake, self._next_receive)
        if self._gathering.held:
            wake = min(wake, self._gathering.deadline)
        for batch in self._waiting:
            wake = min(wake, self._leases.sent_until(batch))
        return wake

    @property
    def _batches(self) -> int:
        return self._in_flight + len(self._waiting)

    def _ask(self, now: float) -> int:
        """Count a receive as under way, if one may begin now. Answers how many messages it asks for; 0: none may."""
        if now < self._next_receive or not (count := self._may_receive()) or not self._goes_on:
            return 0
        self._receives += 1
        self._asked += count
        return count

    def _may_receive(self) -> int:
        """How many messages may be received now; 0: none."""
        return scale.may_receive(
            self._bounded,
            self._policy,
            batches=self._batches,
            held=len(self._gathering.held),
            receives=self._receives,
            asked=self._asked,
        )

    async def _give_up_overdue(self, now: float) -> None:
        """Give back what waited for its turn so long that it may not be sent any more."""
        if not self._waiting:
            return
        overdue = self._leases.over([record for batch in self._waiting for record in batch], now)
        if overdue:
            self._drop(overdue)
            await self._messages.release(overdue, reason=_OVERDUE)

    async def _last_receives(self) -> None:
        """Wait for the receives under way: they would take at once what is given back before they end."""
        while self._receives:
            self._news = anyio.Event()
            await self._news.wait()

    def _unsent(self) -> list[Record]:
        """Everything that was received and not sent, which nobody will send any more."""
        waiting, self._waiting = self._waiting, []
        return [*self._gathering.rest(), *(each for batch in waiting for each in batch)]

    def _drop(self, records: Sequence[Record]) -> None:
        """Take records out of the batches that wait."""
        dropped = {record.receipt for record in records}
        left = (tuple(each for each in batch if each.receipt not in dropped) for batch in self._waiting)
        self._waiting = [batch for batch in left if batch]

    def _next(self) -> list[Batch]:
        """The batches whose turn it is: on a FIFO queue, those of whose groups none is in flight or waits before."""
        free = max(0, self._bounded.limit - self._in_flight)
        if self._tools.source.ordered:
            turn, self._waiting = groups.turn(self._waiting, self._groups, free)
            self._groups = self._groups.union(*map(groups_of, turn))
        elif len(self._waiting) <= free:
            turn, self._waiting = self._waiting, []
        else:
            turn, self._waiting = self._waiting[:free], self._waiting[free:]
        self._in_flight += len(turn)
        return turn

    async def _work(self, count: int, tasks: TaskGroup) -> None:
        """Receive, process what may go at once, and so on until no receive may begin or something waits.

        One task for many batches: to start one for each, and to wake the main loop each time, costs more than all else.
        A stop does not cancel a receive, or what it brings would be hidden though nobody has it.
        """
        while count:
            dropped = await self._receive(count)
            if dropped:  # what no filter lets pass is deleted at once; the main loop sends the others
                self._news.set()
                await self._messages.delete(dropped)
                self._messages.left(dropped)
                del dropped
            elif self._goes_on:
                turn = self._at_once(tasks)
                while turn:
                    await self._process(turn.pop())  # it must not stay in memory during the next receive
            count = self._go_on(tasks)

    async def _send(self, batch: Batch, tasks: TaskGroup) -> None:
        """Process a batch that had waited for its turn."""
        await self._process(batch)
        del batch  # as above
        await self._work(self._go_on(tasks), tasks)

    def _at_once(self, tasks: TaskGroup) -> list[Batch]:
        """Begin what the end of a receive lets begin, but for one batch at the most, which is answered."""
        now = self._tools.now()
        if self._gathering.held:
            self._waiting += self._gathering.close(now)
        turn = self._next()
        for batch in turn[1:]:
            tasks.start_soon(self._send, batch, tasks)
        if turn:
            self._spread(now, tasks)
        return turn[:1]

    def _go_on(self, tasks: TaskGroup) -> int:
        """What a task does next that has done what it had: how many messages it receives; 0: nothing."""
        now = self._tools.now()
        count = 0 if self._waiting else self._ask(now)  # what waits goes first, and the main loop begins it
        if not count or self._policy.window:  # else the place of its batch was all the room there was
            self._spread(now, tasks)
        return count

    def _spread(self, now: float, tasks: TaskGroup) -> None:
        """Let begin what else may begin now, and wake the main loop if it would sleep too long for what is there now."""
        self._grow(now)
        self._begin_receives(now, tasks)
        begins = self._looks_at(now) if self._sleeps_until == math.inf else math.inf
        if self._waiting or not self._goes_on or min(begins, self._wakes_at(now)) < self._sleeps_until:
            self._news.set()

    async def _receive(self, count: int) -> Batch:
        """One receive. Answers what no filter lets pass."""
        tools, began = self._tools, self._tools.now()
        reader = self._readers.pop() if self._readers else self._another_reader()
        page = await reader.read(_CURSOR, count)
        answered = reader.answered
        self._readers.append(reader)
        now = tools.now()
        records: Batch = ()
        dropped: Batch = ()
        if page is not None:
            records = page.records
            if self._policy.filters is not None:
                sifted, dropped = await sift(tools, self._shard, page)
                records, now = sifted.records, tools.now()
        if records:
            if now >= self._looked + _LOOK_EVERY:
                await self._look_again()
                now = tools.now()
            self._leases.took(records, at=answered, seconds=self._topology.lease)
        full = page is not None and page.full
        self._scale = scale.after_receive(self._scale, self._policy.scaling, records=len(records), full=full, now=now)
        if page is not None and not page.records:
            self._next_receive = now + pause_after(page, interval=self._policy.poll_interval, took=now - began)
        self._receives -= 1
        self._asked -= count
        if records:
            self._take(records, now)
        return dropped

    def _another_reader(self) -> Reader:
        return Reader(self._tools, self._shard, self._holder.another(), self._standing)

    def _take(self, records: Batch, now: float) -> None:
        """Gather what was received. On a FIFO queue, groups that wait for another batch do not hold up the rest."""
        if self._tools.source.ordered:
            blocked = self._groups.union(*map(groups_of, self._waiting))
            for part in groups.apart(records, blocked):
                self._waiting += batches_of(part, self._policy)
        elif self._policy.window:
            self._gathering.take(records, now)
        else:
            self._waiting += batches_of(records, self._policy)

    async def _look_again(self) -> None:
        """Ask, now and then, whether the queue's visibility timeout is still what it was."""
        self._looked = self._tools.now()
        try:
            topology = await self._tools.source.topology()
        except (Transient, Denied):
            return  # the next receives tell whether the queue is there; what was known of it still is the best guess
        self._topology, self._trouble = topology, topology.trouble
        self._tools.observe(SourceListed(mapping=self._tools.mapping, retention=topology.retention))

    async def _process(self, batch: Batch) -> None:
        """Deliver a batch, settle it, and let the next one of its groups go on."""
        settled = await self._messages.deliver(batch, self._called)
        deleted = await self._messages.delete(settled) if settled else ()
        ordered = self._tools.source.ordered
        followers = self._followers(batch, deleted) if ordered else ()
        self._messages.left(batch)
        if followers:
            self._drop(followers)
            await self._messages.release(followers, reason=_OVERTAKING)
        self._in_flight -= 1
        if ordered:
            self._groups -= groups_of(batch)

    def _followers(self, batch: Batch, deleted: Batch) -> list[Record]:
        """Messages that wait and would overtake what is left. Those received since the lease ended begin with it anew."""
        gone, until = {record.receipt for record in deleted}, self._leases.until(batch)
        behind = groups_of([record for record in batch if record.receipt not in gone])
        waiting = (record for batch in self._waiting for record in batch)
        return [each for each in waiting if each.key in behind and self._leases.received(each) < until]

    def _called(self, outcome: Outcome) -> None:
        limit = self._scale.limit
        self._scale = scale.after_call(self._scale, self._policy, outcome, now=self._tools.now())
        if self._scale.limit > limit:
            self._news.set()

    async def _give_back(self, records: Sequence[Record]) -> None:
        await self._messages.release(records, reason=self._trouble or "the mapping stops")

    async def _renew(self) -> None:
        """Renew the leases of what is held, again and again."""
        while True:
            await anyio.sleep(max(self._topology.lease * lease.BEAT, 0.05))
            await self._messages.renew(self._topology.lease)

    def _news_came(self) -> None:
        self._news.set()

    async def _wake_at_stop(self) -> None:
        await self._tools.stop.wait()
        self._news.set()
