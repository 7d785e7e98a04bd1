"""For how long received messages are ours: until their visibility ends. No I/O, no clock, no chance.

Times are seconds of any one monotonic clock. A message may be handed out again while it is held: each time, the record
is another one, and has a lease of its own.
Source: SQS developer guide, "Visibility timeout"; semantics, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from poller.model.record import Record

LONGEST = 43_200
"""Seconds from its receipt for which SQS lets a message be hidden, however often its visibility is changed: 12 hours."""
BESIDES = 30
"""What Lambda adds to window and timeout when the queue's own visibility is shorter than both."""
BEAT = 1 / 6
"""Of the lease: how often it is looked for leases to renew."""
_RENEWED_FROM = 2 / 3
"""Of the lease: what is left of it when it is renewed."""
_MARGIN = 2.0
"""Seconds, and never more than a tenth of the lease, which a call to the function and back to the queue may need."""


def needed(*, window: float, timeout: float | None) -> int:
    """The visibility that messages are received with where the queue's own is shorter; 0: the queue's own.

    Args:
        timeout: of the function; None when it is not known.
    """
    return min(LONGEST, math.ceil(window + timeout) + BESIDES) if window and timeout else 0


@dataclass(slots=True)
class _Lease:
    record: Record
    received: float
    until: float
    seconds: float
    """For how long it was taken or renewed."""
    safe: float
    """Until when somebody may be asked to process it."""
    lost: bool = False


class Leases:
    """The leases of all messages held."""

    def __init__(self) -> None:
        self._held: dict[int, _Lease] = {}  # by the record's identity

    def __len__(self) -> int:
        return len(self._held)

    def took(self, records: Iterable[Record], *, at: float, seconds: float) -> None:
        """These were received."""
        until = at + seconds
        safe = _safe(until, seconds)
        for record in records:
            self._held[id(record)] = _Lease(record, at, until, seconds, safe)

    def ended(self, records: Iterable[Record]) -> None:
        """These are held no longer."""
        for record in records:
            self._held.pop(id(record), None)

    def until(self, records: Iterable[Record]) -> float:
        """When the first of them stops being ours."""
        held = self._held
        return min([held[id(record)].until for record in records])

    def received(self, record: Record) -> float:
        """When it was received."""
        return self._held[id(record)].received

    def over(self, records: Iterable[Record], now: float) -> list[Record]:
        """Those whose lease has ended, or ends so soon that nobody may be asked to process them."""
        held = self._held
        return [record for record in records if now >= held[id(record)].safe]

    def past(self, records: Iterable[Record], now: float) -> int:
        """How many of them are not ours any more."""
        return sum(now >= self._held[id(record)].until for record in records)

    def sent_until(self, records: Iterable[Record]) -> float:
        """Until when all of them may be sent."""
        return min(self._held[id(record)].safe for record in records)

    def leave_by(self, records: Sequence[Record], timeout: float | None) -> float:
        """When messages that are being gathered must leave, so that the function has its timeout, or half their lease.

        Args:
            timeout: of the function; None when it is not known.
        """
        leases = [self._held[id(record)] for record in records]
        return min((each.until - min(timeout or math.inf, each.seconds / 2) for each in leases), default=math.inf)

    def due(self, now: float, lease: float) -> dict[int, list[Record]]:
        """The messages to renew: for how many whole seconds from now, never beyond 12 hours from their receipt."""
        found: dict[int, list[Record]] = {}
        for each in self._held.values():
            seconds = math.floor(min(lease, each.received + LONGEST - now))
            if not each.lost and now < each.until <= now + lease * _RENEWED_FROM and now + seconds > each.until:
                found.setdefault(seconds, []).append(each.record)
        return found

    def renewed(self, records: Iterable[Record], *, at: float, seconds: float) -> None:
        """The queue hides these until then; what is held no longer is passed over."""
        for record in records:
            if lease := self._held.get(id(record)):
                lease.until, lease.seconds = at + seconds, seconds
                lease.safe = _safe(lease.until, seconds)

    def lost(self, records: Iterable[Record]) -> None:
        """The queue renews these no more."""
        for record in records:
            if lease := self._held.get(id(record)):
                lease.lost = True


def _safe(until: float, seconds: float) -> float:
    return until - min(_MARGIN, seconds / 10)
