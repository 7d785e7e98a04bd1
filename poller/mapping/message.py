"""What becomes of a queue's messages: sent, deleted, given back, or kept hidden while the function has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio

from poller.mapping.batch import Batch
from poller.mapping.call import Attempts, call, tell
from poller.mapping.lease import Leases
from poller.mapping.retry import Advance, Again, Leave, next_queue_step
from poller.mapping.standing import Standing
from poller.mapping.tools import Tools
from poller.model.errors import Denied, Transient
from poller.model.facts import LeaseEnded, MessagesDeleted, MessagesReleased
from poller.model.outcome import Outcome
from poller.model.ports import Unsettled
from poller.model.record import Record, event_of

_REASONS = 3
"""Different reasons that one fact tells."""


class Messages:
    """The messages of one mapping, between their receipt and their end."""

    def __init__(self, tools: Tools, shard: str, standing: Standing, leases: Leases) -> None:
        self._tools = tools
        self._shard = shard
        self._standing = standing
        self._leases = leases
        self._renewing = anyio.Lock()

    async def deliver(self, batch: Batch, called: Callable[[Outcome], None]) -> Batch:
        """Invoke with a batch until something is decided about it, as long as it is ours.

        What never reached the function is given back, when the mapping stops or when its lease is nearly over.

        Args:
            called: is told every outcome.

        Returns:
            The messages that are settled; the others come back when their visibility ends.
        """
        tools, attempts = self._tools, Attempts(self._tools.new_id())
        event = event_of(batch)
        while not tools.stop.is_set() and tools.now() < (safe := self._leases.sent_until(batch)):
            ended = await call(tools, self._shard, batch, event, attempts)
            called(ended.outcome)
            step = next_queue_step(batch, ended.outcome, failures=attempts.failures, chance=tools.chance())
            retry_in = step.after if isinstance(step, Again) else None
            tell(tools, self._shard, batch, ended, attempts, retry_in=retry_in)
            if tools.now() >= safe:
                self._tell_overrun(batch)
            match step:
                case Advance():
                    return batch
                case Leave(failed=failed):
                    return tuple(record for record in batch if record.id not in failed)
                case Again(after=after):
                    self._standing.failed(attempts.failures)
                    await self._pause(batch, after)
        reason = (
            "the mapping stops" if tools.stop.is_set() else "the function was not reached before their visibility ended"
        )
        await self._release(batch, reason, attempts.request_id)
        return ()

    async def _pause(self, batch: Batch, seconds: float) -> None:
        """Wait for the next try, or for the end of the lease, which may be renewed meanwhile."""
        end = self._tools.now() + seconds
        while (now := self._tools.now()) < (until := min(end, self._leases.sent_until(batch))):
            if not await self._tools.pause(until - now):
                return

    def _tell_overrun(self, batch: Batch) -> None:
        now = self._tools.now()
        over = now - self._leases.until(batch)
        if over >= 0.0:
            past = self._leases.past(batch, now)
            self._ended(past, f"the function took {over:.1f} s longer than the messages were hidden for")

    async def delete(self, batch: Batch) -> Batch:
        """Delete what is settled. Answers those that are deleted."""
        try:
            unsettled: Sequence[Unsettled] = await self._tools.source.delete(batch)
        except (Transient, Denied) as error:
            unsettled = [Unsettled(record, str(error)) for record in batch]
        self._tools.observe(
            MessagesDeleted(
                mapping=self._tools.mapping,
                deleted=len(batch) - len(unsettled),
                failed=len(unsettled),
                reason=_reasons(unsettled) if unsettled else "",
            )
        )
        if not unsettled:
            return batch
        failed = {each.record.receipt for each in unsettled}
        return tuple(record for record in batch if record.receipt not in failed)

    def left(self, records: Sequence[Record]) -> None:
        """These are held no longer."""
        self._leases.ended(records)
        self._standing.left(records)
        self._standing.stands(None)

    async def release(self, records: Sequence[Record], *, reason: str) -> None:
        """Give unsent messages back at once, and hold them no longer; where that fails, their visibility does it later."""
        if records:
            await self._release(records, reason)
            self.left(records)

    async def _release(self, records: Sequence[Record], reason: str, request_id: str = "") -> None:
        released = len(records)
        try:
            async with self._renewing:  # or a renewal under way would hide them again
                self._leases.lost(records)
                await self._tools.source.release(records)
        except (Transient, Denied) as error:
            released, reason = 0, str(error)
        self._tools.observe(
            MessagesReleased(
                mapping=self._tools.mapping,
                released=released,
                failed=len(records) - released,
                reason=reason,
                request_id=request_id,
            )
        )

    async def renew(self, lease: float) -> None:
        """Renew the leases that need it. What fails in a way that passes is tried again with the next beat.

        Args:
            lease: seconds, from now on.
        """
        async with self._renewing:
            for seconds, records in self._leases.due(self._tools.now(), lease).items():
                began = self._tools.now()
                try:
                    unsettled = await self._tools.source.extend(records, seconds)
                except (Transient, Denied) as error:
                    self._ended(len(records), f"their visibility could not be extended: {error}")
                    continue
                failed = {each.record.receipt for each in unsettled}
                kept = [record for record in records if record.receipt not in failed]
                self._leases.renewed(kept, at=began, seconds=seconds)
                if unsettled:
                    self._leases.lost([each.record for each in unsettled if not each.passing])
                    self._ended(len(unsettled), f"their visibility could not be extended: {_reasons(unsettled)}")

    def _ended(self, messages: int, reason: str) -> None:
        self._tools.observe(LeaseEnded(mapping=self._tools.mapping, messages=messages, reason=reason))


def _reasons(unsettled: Sequence[Unsettled]) -> str:
    return "; ".join(list(dict.fromkeys(each.reason for each in unsettled))[:_REASONS])
