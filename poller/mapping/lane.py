"""A lane: records in, batches out, in order; what a restart interrupted comes first."""

from __future__ import annotations

import math
from collections.abc import Sequence

import anyio
from anyio.lowlevel import checkpoint

from poller.mapping.batch import Batcher
from poller.mapping.channel import Channel
from poller.mapping.deliver import Around, Delivery
from poller.mapping.row import LaneRow
from poller.mapping.window import Close, Piece, Tumbler
from poller.mapping.work import Resumption
from poller.model.record import Record

_LOOK_AGAIN = 1.0
"""Seconds between two looks at a window that is over, while what has arrived is not all read."""


class Lane:
    """One lane of a shard."""

    def __init__(self, around: Around, number: int, stored: LaneRow) -> None:
        self.drained = False
        """Everything was delivered: the records ended, and no stop came between."""
        self._around = around
        self._tools = around.tools
        self._delivery = Delivery(around, number)
        self.resumption = Resumption(stored)
        """Of what a restart interrupted."""
        now, window = around.tools.now(), around.tumbling
        if window:
            opened = window.row.start if window.row else None
            self._batcher: Tumbler | Batcher = Tumbler(self._tools.policy, now, opened)
        else:
            self._batcher = Batcher(self._tools.policy, now)

    async def run(self, parts: Channel[Sequence[Record]]) -> None:
        """Batch what arrives and deliver it in order; when no more comes, deliver what is held and return.

        A stop ends it after the call in flight; what is held then will be read again.
        """
        try:
            while (part := await self._next(parts)) is not None:
                taking = self._take(part)
                del part  # or its records would stay in memory when they have been delivered
                if not await taking:
                    return
                self._close_window_if_due()
                if not await self._deliver(self._due()):  # no name here holds what is delivered in memory
                    return
        finally:
            parts.leave()
        if not await self._delivery.finish(self.resumption.rest(self._tools.new_id)):
            return
        self.drained = await self._deliver(self._batcher.rest())

    async def _next(self, parts: Channel[Sequence[Record]]) -> Sequence[Record] | None:
        """What arrives; nothing when something is due before; None when no more will come."""
        deadline = self._deadline()
        if deadline == math.inf:  # nothing is held, as nearly always: no scope is needed
            return await parts.take()
        with anyio.CancelScope(deadline=deadline):
            await checkpoint()  # what is due goes first, whatever has arrived
            return await parts.take()
        return ()

    async def _take(self, records: Sequence[Record]) -> bool:
        if self.resumption.waiting:
            work, records = self.resumption.take(records, self._tools.new_id)
            finishing = self._delivery.finish(work)
            del work  # a part of it may be retried for long when the others have been delivered
            if not await finishing:
                return False
        self._batcher.take(records, self._tools.now())
        return True

    async def _deliver(self, pieces: Sequence[Piece]) -> bool:
        waiting = list(reversed(pieces))
        del pieces
        while waiting:
            piece = waiting.pop()
            if isinstance(piece, Close):
                window = self._around.tumbling
                done = window is None or window.row is None or await self._delivery.finish(self._delivery.of(()), piece)
            else:
                finishing = self._delivery.finish(self._delivery.of(piece))
                del piece  # nothing here holds on to what was delivered
                done = await finishing
            if not done:
                return False
            self._batcher.reopen(self._tools.now())
        return True

    def _due(self) -> list[Piece]:
        """What must leave now, in order: what is too old lies behind the batches that are full."""
        due: list[Piece] = [*self._batcher.ready(self._tools.now())]
        age = self._tools.policy.record_age
        if age is not None and (too_old := self._batcher.take_out(self._tools.clock() - age)):
            due.append(too_old)  # it reached that age while its batch was gathered; delivering it gives it up
        return due

    def _deadline(self) -> float:
        """When something is due, on `Tools.now`."""
        due = self._batcher.deadline
        if self._tools.policy.record_age is not None and self._batcher.oldest < math.inf:
            left = self._batcher.oldest + self._tools.policy.record_age - self._tools.clock()
            due = min(due, self._tools.now() + max(0.0, left))
        if isinstance(self._batcher, Tumbler) and self._batcher.closes_at < math.inf:
            wait = max(_LOOK_AGAIN, self._batcher.closes_at - self._tools.clock())
            due = min(due, self._tools.now() + wait)
        return due

    def _close_window_if_due(self) -> None:
        """A window that is over closes without a later record, once everything that has arrived is in this lane."""
        tumbler, standing = self._batcher, self._around.standing
        if not isinstance(tumbler, Tumbler) or tumbler.closes_at > self._tools.clock():
            return
        if standing.caught_up and len(standing.held) == len(tumbler):
            tumbler.close(self._tools.now())
