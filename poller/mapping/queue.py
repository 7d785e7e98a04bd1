"""A mapping of a queue: receives only what could be sent at once, gathers batches, keeps as many in flight as it may."""

from __future__ import annotations

import math
from collections.abc import Sequence

import anyio
from anyio.abc import TaskGroup

from poller.fleet.share import Share
from poller.mapping import lease, scale
from poller.mapping.batch import Batch, Batcher
from poller.mapping.budget import Holder
from poller.mapping.message import Messages
from poller.mapping.read import Reader, pause_after
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

    def __init__(self, tools: Tools, topology: Topology, holder: Holder) -> None:
        now = tools.now()
        self._tools = tools
        self._shard = topology.partitions[0].id
        self._topology = topology
        self._looked = now
        self._holder = holder
        self._standing = Standing(tools, self._shard, holder)
        self._leases = lease.Leases()
        self._messages = Messages(tools, self._shard, self._standing, self._leases)
        self._readers: list[Reader] = []
        self._batcher = Batcher(tools.policy, now)
        self._gathered: list[Record] = []
        self._leave_by = math.inf
        self._waiting: list[Batch] = []
        self._in_flight = 0
        self._groups: set[str] = set()
        self._receives: list[int] = []
        self._next_receive = now
        self._scale = scale.beginning(tools.policy.scaling, now)
        self._news = anyio.Event()
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
        return scale.within(self._scale, self._share.part) if self._tools.policy.scaling.total else self._scale

    async def run(self) -> None:
        """Process the queue until the stop; what is in flight is finished and deleted.

        Raises:
            Denied: the queue's visibility timeout is 0.
        """
        observe, mapping, shard = self._tools.observe, self._tools.mapping, self._shard
        observe(ShardMoved(mapping=mapping, shard=shard, to="owned"))
        async with anyio.create_task_group() as around:
            around.start_soon(self._wake_at_stop)
            if self._tools.policy.scaling.total:
                around.start_soon(self._share.keep, self._news_came)
            if self._tools.policy.extend_visibility:
                around.start_soon(self._renew)
            async with anyio.create_task_group() as tasks:
                while self._goes_on:
                    await self._turn(tasks)
                await self._last_receives()
                await self._give_back(self._unsent())
            around.cancel_scope.cancel()
        observe(ShardMoved(mapping=mapping, shard=shard, to="released"))
        if self._topology.trouble:
            raise Denied(f"{self._tools.source_name}: {self._topology.trouble}")

    @property
    def _goes_on(self) -> bool:
        return not self._tools.stop.is_set() and not self._topology.trouble

    async def _turn(self, tasks: TaskGroup) -> None:
        """Begin everything that may begin now, then wait until something may have changed."""
        policy, now = self._tools.policy, self._tools.now()
        self._news = anyio.Event()
        self._close(now)
        await self._give_up_overdue(now)
        batches = self._in_flight + len(self._waiting)
        self._scale = scale.grow(self._scale, policy.scaling, batches=batches, now=now)
        for batch in self._next():
            tasks.start_soon(self._process, batch)
        while (count := self._may_receive()) and now >= self._next_receive:
            self._receives.append(count)
            tasks.start_soon(self._receive, count, tasks)
        wake = min(
            self._next_receive if count else math.inf,
            scale.grows_at(self._scale, policy.scaling, batches=self._in_flight + len(self._waiting)),
            self._batcher.deadline,
            self._leave_by,
            min((self._leases.sent_until(batch) for batch in self._waiting), default=math.inf),
        )
        if wake == math.inf:
            await self._news.wait()
            return
        with anyio.move_on_after(wake - now):
            await self._news.wait()

    def _may_receive(self) -> int:
        """How many messages may be received now; 0: none."""
        load = scale.Load(
            batches=self._in_flight + len(self._waiting),
            held=len(self._gathered),
            receives=len(self._receives),
            asked=sum(self._receives),
        )
        return scale.may_receive(self._bounded, load, self._tools.policy)

    def _close(self, now: float) -> None:
        """Hand over the batches that are full, and what was gathered if its window or its leases demand it."""
        if now >= self._leave_by:  # it was reckoned before leases were renewed, perhaps
            self._leave_by = self._leases.leave_by(self._gathered, self._tools.policy.function_timeout)
        ready = self._batcher.rest() if now >= self._leave_by else self._batcher.ready(now)
        if ready:
            self._waiting += ready
            self._gathered = self._gathered[sum(map(len, ready)) :]
            self._leave_by = self._leases.leave_by(self._gathered, self._tools.policy.function_timeout)
            self._batcher.reopen(now)

    async def _give_up_overdue(self, now: float) -> None:
        """Give back what waited for its turn so long that it may not be sent any more."""
        overdue = self._leases.over((record for batch in self._waiting for record in batch), now)
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
        unsent = [*self._gathered, *(each for batch in self._waiting for each in batch)]
        self._gathered, self._waiting = [], []
        return unsent

    def _drop(self, records: Sequence[Record]) -> None:
        """Take records out of the batches that wait."""
        dropped = {record.receipt for record in records}
        left = (tuple(each for each in batch if each.receipt not in dropped) for batch in self._waiting)
        self._waiting = [batch for batch in left if batch]

    def _next(self) -> list[Batch]:
        """The batches whose turn it is: on a FIFO queue, those of whose groups none is in flight or waits before."""
        turn: list[Batch] = []
        waiting, blocked = self._waiting, set(self._groups)
        self._waiting = []
        for batch in waiting:
            groups = self._groups_of(batch)
            if self._in_flight < self._bounded.limit and groups.isdisjoint(blocked):
                self._in_flight += 1
                self._groups |= groups
                turn.append(batch)
            else:
                self._waiting.append(batch)
            blocked |= groups
        return turn

    def _groups_of(self, records: Sequence[Record]) -> set[str]:
        return {record.key for record in records} if self._tools.source.ordered else set()

    async def _receive(self, count: int, tasks: TaskGroup) -> None:
        """One receive, and the batch that it makes, if that may go at once: one task is cheaper than two.

        A stop does not cancel it, or what it brings would be hidden though nobody has it.
        """
        dropped = await self._received(count)
        if dropped:  # what no filter lets pass is deleted at once
            await self._messages.delete(dropped)
            self._messages.left(dropped)
        elif self._goes_on:
            self._close(self._tools.now())
            turn = self._next()
            for batch in turn[1:]:
                tasks.start_soon(self._process, batch)
            if turn:
                await self._process(turn[0])

    async def _received(self, count: int) -> Batch:
        """One receive. Answers what no filter lets pass."""
        began = self._tools.now()
        reader = self._readers.pop() if self._readers else self._another_reader()
        page = await reader.read(_CURSOR, count)
        answered = reader.answered
        self._readers.append(reader)
        records: tuple[Record, ...] = ()
        dropped: tuple[Record, ...] = ()
        if page is not None:
            sifted, dropped = await sift(self._tools, self._shard, page)
            records = sifted.records
        if records:
            await self._look_again()
            self._leases.took(records, at=answered, seconds=self._topology.lease)
        now = self._tools.now()
        full = page is not None and page.full
        self._scale = scale.after_receive(
            self._scale, self._tools.policy.scaling, records=len(records), full=full, now=now
        )
        if page is not None and not page.records:
            interval = self._tools.policy.poll_interval
            self._next_receive = now + pause_after(page, interval=interval, took=now - began)
        self._receives.remove(count)
        self._take(records, now)
        self._news.set()
        return dropped

    def _another_reader(self) -> Reader:
        return Reader(self._tools, self._shard, self._holder.another(), self._standing)

    def _take(self, records: Sequence[Record], now: float) -> None:
        """Gather what was received. On a FIFO queue, groups that wait for another batch do not hold up the rest."""
        if not self._tools.source.ordered:
            self._batcher.take(records, now)
            self._gathered += records
            if self._tools.policy.window:  # else they leave at once
                leave_by = self._leases.leave_by(records, self._tools.policy.function_timeout)
                self._leave_by = min(self._leave_by, leave_by)
            return
        blocked = self._groups.union(*map(self._groups_of, self._waiting))
        for part in (
            [record for record in records if record.key not in blocked],
            [record for record in records if record.key in blocked],
        ):
            batcher = Batcher(self._tools.policy, now)
            batcher.take(part, now)
            self._waiting += batcher.rest()

    async def _look_again(self) -> None:
        """Ask, now and then, whether the queue's visibility timeout is still what it was."""
        if self._tools.now() < self._looked + _LOOK_EVERY:
            return
        self._looked = self._tools.now()
        try:
            topology = await self._tools.source.topology()
        except (Transient, Denied):
            return  # the next receives tell whether the queue is there; what was known of it still is the best guess
        self._topology = topology
        self._tools.observe(SourceListed(mapping=self._tools.mapping, retention=topology.retention))

    async def _process(self, batch: Batch) -> None:
        """Deliver a batch, settle it, and let the next one of its groups go on."""
        settled = await self._messages.deliver(batch, self._called)
        deleted = await self._messages.delete(settled) if settled else ()
        followers = self._followers(batch, deleted) if self._tools.source.ordered else ()
        self._messages.left(batch)
        if followers:
            self._drop(followers)
            await self._messages.release(followers, reason=_OVERTAKING)
        self._in_flight -= 1
        self._groups -= self._groups_of(batch)
        self._news.set()

    def _followers(self, batch: Batch, deleted: Batch) -> list[Record]:
        """Messages that wait and would overtake what is left. Those received since the lease ended begin with it anew."""
        gone, until = {record.receipt for record in deleted}, self._leases.until(batch)
        groups = {record.key for record in batch if record.receipt not in gone}
        waiting = (record for batch in self._waiting for record in batch)
        return [each for each in waiting if each.key in groups and self._leases.received(each) < until]

    def _called(self, outcome: Outcome) -> None:
        self._scale = scale.after_call(self._scale, self._tools.policy, outcome, now=self._tools.now())

    async def _give_back(self, records: Sequence[Record]) -> None:
        await self._messages.release(records, reason=self._topology.trouble or "the mapping stops")

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
