"""Delivering a stream's batches, one after the other, until each is processed or given up. A stop comes between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from msgspec.structs import replace

from poller.mapping.batch import Batch
from poller.mapping.call import Attempts, Call, call, tell
from poller.mapping.giveup import give_up
from poller.mapping.retry import Again, GiveUp, StreamStep, next_step, older_than
from poller.mapping.row import LaneRow
from poller.mapping.standing import Standing
from poller.mapping.tools import Tools
from poller.mapping.window import Close, Tumbling
from poller.mapping.work import Work
from poller.model.facts import Condition
from poller.model.outcome import Failed, Outcome, Replied
from poller.model.record import event_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a lane is given by its shard."""

    tools: Tools
    shard: str
    standing: Standing
    retention: Callable[[], float]
    """Seconds the stream keeps a record, as last heard: it may be raised while a batch is stuck."""
    settle: Callable[[int, Batch, LaneRow], Awaitable[None]]
    """Takes the lane's number, what it settled, and what has to be stored of it; returns when that is stored."""
    tumbling: Tumbling | None
    """The shard's tumbling window, if the mapping has them."""


class Delivery:
    """The deliveries of one lane."""

    def __init__(self, around: Around, lane: int) -> None:
        self._around = around
        self._tools = around.tools
        self._lane = lane

    def of(self, batch: Batch) -> Work:
        """A batch that was never sent."""
        return Work(batches=(batch,), request_id=self._tools.new_id())

    async def finish(self, work: Work | None, close: Close | None = None) -> bool:
        """Deliver until nothing is left, whatever becomes of each batch. False when a stop came between.

        Args:
            work: None when there is none.
            close: the work is the final invocation of the open window.
        """
        if work is None:
            return True
        tools, window = self._tools, self._around.tumbling
        attempts = Attempts(work.request_id, made=work.tried)
        if window and not close and not await self._end_overflown(window):  # a stop came when it had just grown
            return False
        while work.batches:
            if tools.stop.is_set() or (tools.hold is not None and not await tools.may_invoke()):
                return False
            aged = tools.policy.record_age is not None or attempts.made  # else nothing of it can be too old
            if aged and (older := await self._give_up_older(work, attempts, close)) is not None:
                settled, work = work.batches[0][:older], work.without(older, tools.new_id)
                await self._around.settle(self._lane, settled, work.row())
                del settled  # or it would stay in memory while the others are retried
                attempts = Attempts(work.request_id)
                continue
            work, step = await self._attempt(work, attempts, close)
            if isinstance(step, Again):
                await tools.pause(step.after)
                continue
            attempts = Attempts(work.request_id)
            if window and not await self._end_overflown(window):
                return False
        return True

    async def _end_overflown(self, window: Tumbling) -> bool:
        """End a window whose state has grown too large. False when a stop came first."""
        return not window.overflows or await self.finish(self.of(()), Close(early=True))

    async def _attempt(self, work: Work, attempts: Attempts, close: Close | None) -> tuple[Work, StreamStep]:
        """One call, and what follows from it."""
        batch, window = work.batches[0], self._around.tumbling
        if window:
            ended = await self._call_of_window(window, batch, attempts, close)
        else:
            ended = await call(self._tools, self._around.shard, batch, event_of(batch), attempts)
        step = next_step(
            batch,
            ended.outcome,
            tried=work.tried,
            failures=attempts.failures,
            policy=self._tools.policy,
            chance=self._tools.chance(),
        )
        retry_in = step.after if isinstance(step, Again) else None
        tell(self._tools, self._around.shard, batch, ended, attempts, retry_in=retry_in)
        if isinstance(step, GiveUp):
            await self._give_up(batch, "RetryAttemptsExhausted", ended.outcome, work, close)
        if window:
            window.follow(step, close)
        settled, left = work.after(step, self._tools.new_id)
        if not isinstance(step, Again) or step.counts:
            await self._around.settle(self._lane, settled, left.row())
        if isinstance(step, Again):
            self._around.standing.failed(attempts.failures)
        return left, step

    async def _call_of_window(self, window: Tumbling, batch: Batch, attempts: Attempts, close: Close | None) -> Call:
        ended = await call(self._tools, self._around.shard, batch, window.event(batch, close), attempts)
        outcome = window.read(ended.outcome, ended.body)
        attempts.failures += isinstance(outcome, Failed) and isinstance(ended.outcome, Replied)
        return replace(ended, outcome=outcome)

    async def _give_up_older(self, work: Work, attempts: Attempts, close: Close | None) -> int | None:
        """How many records at the head of the first batch are too old; they have been given up. None when nothing is.

        MaximumRecordAgeInSeconds holds from the beginning, as on real mappings. But what the source handed out is
        tried once, whatever our clock and the last listing say of its retention. A window's final invocation has no
        records: it is as old as its window's end, and tried once, too.
        """
        tools, batch, window = self._tools, work.batches[0], self._around.tumbling
        limits: list[tuple[Condition, float]] = []
        if tools.policy.record_age is not None:
            limits.append(("RecordAgeExceeded", tools.policy.record_age))
        if attempts.made:
            limits.append(("Expired", self._around.retention()))
        for condition, age in limits:
            if window and close:
                is_old = attempts.made > 0 and window.ended_for(tools.clock()) >= age
                count = 0 if is_old else None
            else:
                count = older_than(batch, now=tools.clock(), age=age) or None
            if count is not None:
                await self._give_up(batch[:count], condition, None, work, close)
                if window:
                    window.follow(GiveUp(), close)
                return count
        return None

    async def _give_up(
        self, records: Batch, condition: Condition, outcome: Outcome | None, work: Work, close: Close | None
    ) -> None:
        window = self._around.tumbling
        await give_up(
            self._tools,
            self._around.shard,
            records,
            condition,
            outcome=outcome,
            invoke_count=work.tried + (outcome is not None),  # the last attempt is not among those tried before
            request_id=work.request_id,
            event=window.event(records, close) if window and outcome else None,
            window=window.information(records, close) if window else None,
        )
