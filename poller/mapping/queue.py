"""A mapping of a queue: a receive only when its batch could be sent at once, several batches in flight."""

from __future__ import annotations

import math
from collections.abc import Sequence

import anyio
from anyio.abc import TaskGroup

from poller.mapping.batch import Batch, Batcher
from poller.mapping.budget import Holder
from poller.mapping.call import Attempts, call, tell
from poller.mapping.read import Reader, pause_after
from poller.mapping.retry import Advance, Again, Leave, next_queue_step
from poller.mapping.sift import sift
from poller.mapping.standing import Standing
from poller.mapping.tools import Tools
from poller.model.errors import Denied, Transient
from poller.model.facts import MessagesDeleted, MessagesReleased, ShardMoved
from poller.model.record import Cursor, Record, Topology, TrimHorizon, event_of

_RECEIVE_MOST = 10
"""Messages that SQS hands out at once."""
_POLL_LONGEST = 20
"""Seconds that a receive waits at the most."""


class Queue:
    """The running state of one mapping of a queue."""

    def __init__(self, tools: Tools, topology: Topology, holder: Holder) -> None:
        self._tools = tools
        self._shard = topology.partitions[0].id
        self._lease = topology.lease
        self._standing = Standing(tools, self._shard, holder)
        self._reader = Reader(tools, self._shard, holder, self._standing)
        self._slots = anyio.Semaphore(tools.policy.concurrency)

    async def run(self) -> None:
        """Process the queue until the stop; what is in flight is finished and deleted."""
        self._tools.observe(ShardMoved(mapping=self._tools.mapping, shard=self._shard, to="owned"))
        async with anyio.create_task_group() as tasks:
            while not self._tools.stop.is_set():
                await self._slots.acquire()
                batches, lease_end = await self._gather(tasks)
                if batches:
                    tasks.start_soon(self._process, batches, lease_end)
                else:
                    self._slots.release()
        self._tools.observe(ShardMoved(mapping=self._tools.mapping, shard=self._shard, to="released"))

    async def _gather(self, tasks: TaskGroup) -> tuple[list[Batch], float]:
        """Receive until a batch is ready; nothing when there is nothing or the process stops.

        What is filtered out is deleted beside, at once.

        Returns:
            The batches (more than one when a receive overflows the event's limit), and when the first of their
            messages becomes visible again.
        """
        policy, stop = self._tools.policy, self._tools.stop
        batcher = Batcher(policy, anyio.current_time())
        lease_end = math.inf
        held = 0
        while not stop.is_set():
            began = anyio.current_time()
            count = min(_RECEIVE_MOST, policy.batch_size - held)
            page = await self._reader.read(Cursor(position=TrimHorizon()), count)
            records: tuple[Record, ...] = ()
            if page is not None:
                sifted, dropped = await sift(self._tools, self._shard, page)
                records = sifted.records
                if dropped:
                    tasks.start_soon(self._delete, dropped)
            if records and not held:
                lease_end = self._reader.answered + self._lease
            batcher.take(records, anyio.current_time())
            held += len(records)
            batches = batcher.ready(anyio.current_time())
            if batches or (held and not self._may_wait_on(lease_end)):
                return batches + batcher.rest(), lease_end
            if page is not None and not page.records:
                took = anyio.current_time() - began
                await self._tools.pause(
                    min(self._until(batcher), pause_after(page, interval=policy.poll_interval, took=took))
                )
            if not held:
                break
        await self._release([record for batch in batcher.rest() for record in batch])
        return [], lease_end

    def _may_wait_on(self, lease_end: float) -> bool:
        """Whether another receive leaves the function half of the lease; a window that is longer closes early."""
        receive = min(_POLL_LONGEST, math.ceil(self._tools.policy.poll_interval))
        return anyio.current_time() + receive <= lease_end - self._lease / 2

    @staticmethod
    def _until(batcher: Batcher) -> float:
        return max(0.0, batcher.deadline - anyio.current_time())

    async def _process(self, batches: list[Batch], lease_end: float) -> None:
        """Deliver batches one after the other; on a FIFO queue none follows one that failed."""
        for index, batch in enumerate(batches):
            done = await self._deliver(batch, lease_end)
            if done is None:
                await self._release([record for unsent in batches[index:] for record in unsent])
                break
            if done:
                await self._delete(done)
            if len(done) < len(batch):
                settled = {record.id for record in done}
                left = tuple(record for record in batch if record.id not in settled)
                self._standing.left(left)
                self._standing.stands(None)
                if self._tools.source.ordered:
                    await self._release([record for unsent in batches[index + 1 :] for record in unsent])
                    break
        self._slots.release()

    async def _deliver(self, batch: Batch, lease_end: float) -> Batch | None:
        """Invoke with a batch until something is decided about it, while it is ours.

        Returns:
            The messages that are settled; the others come back when their visibility ends. None when the process
            stopped before the function had any.
        """
        tools, attempts = self._tools, Attempts(self._tools.new_id())
        while not tools.stop.is_set():
            if anyio.current_time() >= lease_end:
                return ()
            ended = await call(tools, self._shard, batch, event_of(batch), attempts)
            step = next_queue_step(batch, ended.outcome, failures=attempts.failures, chance=tools.chance())
            retry_in = step.after if isinstance(step, Again) else None
            tell(tools, self._shard, batch, ended, attempts, retry_in=retry_in)
            match step:
                case Advance():
                    return batch
                case Leave(failed=failed):
                    return tuple(record for record in batch if record.id not in failed)
                case Again(after=after):
                    self._standing.failed(attempts.failures)
                    await tools.pause(min(after, max(0.0, lease_end - anyio.current_time())))
        return None

    async def _delete(self, batch: Batch) -> None:
        reason = ""
        try:
            failed: Sequence[Record] = await self._tools.source.delete(batch)
        except (Transient, Denied) as error:
            failed, reason = batch, str(error)
        self._tools.observe(
            MessagesDeleted(
                mapping=self._tools.mapping, deleted=len(batch) - len(failed), failed=len(failed), reason=reason
            )
        )
        self._standing.left(batch)
        self._standing.stands(None)

    async def _release(self, records: list[Record]) -> None:
        """Give unsent messages back at once; where that fails, their visibility does it later."""
        if not records:
            return
        try:
            await self._tools.source.release(records)
        except (Transient, Denied) as error:
            self._tools.observe(
                MessagesReleased(mapping=self._tools.mapping, released=0, failed=len(records), reason=str(error))
            )
        else:
            self._tools.observe(
                MessagesReleased(mapping=self._tools.mapping, released=len(records), failed=0, reason="")
            )
        self._standing.left(records)
        self._standing.stands(None)
