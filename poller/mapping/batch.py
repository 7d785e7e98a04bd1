"""Records into batches: by count, by bytes of the serialized event, by time. No I/O, no clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from poller.model.policy import Policy
from poller.model.record import Counted, Record, bodies_of, event_size_bytes, frame_bytes

Batch: TypeAlias = tuple[Record, ...]
"""What one invocation carries: in source order, never empty."""


def batches_of(records: Batch, policy: Policy) -> list[Batch]:
    """The batches of what is not gathered: nearly always one, of the records as they came."""
    if len(records) <= policy.batch_size and event_size_bytes(records) <= policy.event_limit_bytes:
        return [records]
    batcher = Batcher(policy, 0.0)
    batcher.take(records, 0.0)
    return batcher.rest()


class Batcher:
    """Gathers the records of one lane; every record leaves exactly once, in the order it came.

    A batch is ready when it holds `batch_size` records, when the next record would carry its event over the limit, or
    when the batch window closes; without a window, whatever one `take` brought is ready at once. A record that alone
    exceeds the limit makes a batch of its own, so that the function's side refuses it and the retry rules decide.

    The window opens when the previous invocation ends (`reopen`), and anew with the first record after it passed
    empty. Times are seconds of any one monotonic clock. Source: Lambda guide, "Batching behavior".
    """

    def __init__(self, policy: Policy, now: float) -> None:
        self._policy = policy
        self._held: list[Record] = []
        self._bodies: list[bytes] = []
        """Of what is held."""
        self._bodies_bytes = 0
        self._closed: list[Batch] = []
        self._opened = now

    def __len__(self) -> int:
        """Records held."""
        return len(self._held)

    @property
    def deadline(self) -> float:
        """When what is held must leave; inf while nothing is held."""
        return self._opened + self._policy.window if self._held else math.inf

    def take(self, records: Sequence[Record], now: float) -> None:
        """Add what a read brought."""
        if not self._held and now >= self._opened + self._policy.window:
            self._opened = now
        begin, most, bodies = 0, self._policy.batch_size, bodies_of(records)
        while begin < len(records):
            end = begin + most - len(self._held)
            self._gather(records[begin:end], bodies[begin:end])
            begin = end
            if len(self._held) == most:
                self._close()

    def _gather(self, records: Sequence[Record], bodies: Sequence[bytes]) -> None:
        """Add records that are not too many for what is held, though they may be too large."""
        size_bytes = sum(map(len, bodies))
        if self._fits(len(bodies), size_bytes):  # all of them, and so each
            self._held += records
            self._bodies += bodies
            self._bodies_bytes += size_bytes
            return
        for record, body in zip(records, bodies, strict=True):
            if self._held and not self._fits(1, len(body)):
                self._close()
            self._held.append(record)
            self._bodies.append(body)
            self._bodies_bytes += len(body)

    def _fits(self, count: int, size_bytes: int) -> bool:
        """Whether the event of what is held would bear so many more."""
        grown = frame_bytes(len(self._held) + count) + self._bodies_bytes + size_bytes
        return grown <= self._policy.event_limit_bytes

    def ready(self, now: float) -> list[Batch]:
        """The batches that must leave now."""
        if self._held and now >= self.deadline:
            self._close()
        ready, self._closed = self._closed, []
        return ready

    def rest(self) -> list[Batch]:
        """Everything held, whatever the window says: no more will come."""
        return self.ready(math.inf)

    def reopen(self, now: float) -> None:
        """An invocation ended: the next window opens."""
        self._opened = now

    @property
    def oldest(self) -> float:
        """Arrival of the first record held, unix seconds; inf while nothing is held."""
        return self._held[0].arrived if self._held else math.inf

    def take_out(self, arrived_until: float) -> Batch:
        """Remove the records at the head of what is held that arrived until then: they are too old."""
        count = next((place for place, each in enumerate(self._held) if each.arrived > arrived_until), len(self._held))
        out, self._held, self._bodies = tuple(self._held[:count]), self._held[count:], self._bodies[count:]
        self._bodies_bytes = sum(map(len, self._bodies))
        return out

    def _close(self) -> None:
        self._closed.append(Counted(self._held, self._bodies, self._bodies_bytes))
        self._held, self._bodies, self._bodies_bytes = [], [], 0
