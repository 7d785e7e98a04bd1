"""For how long received messages are ours: until their visibility ends. No I/O, no clock, no chance.

Times are seconds of any one monotonic clock. A message may be handed out again while it is held: each time, the record
is another one, and has a lease of its own.
Source: SQS developer guide, "Visibility timeout"; semantics, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

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


class _Lease(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One lease for all messages of a receive, until some of them are renewed or lost. It is itself, whatever it says."""

    received: float
    until: float
    seconds: float
    """For how long it was taken or renewed."""
    safe: float
    """Until when somebody may be asked to process them."""
    lost: bool = False


class Leases:
    """The leases of all messages held."""

    def __init__(self) -> None:
        self._leases: dict[int, _Lease] = {}  # by the record's identity
        self._records: dict[int, Record] = {}

    def __len__(self) -> int:
        return len(self._leases)

    def took(self, records: Sequence[Record], *, at: float, seconds: float) -> None:
        """These were received."""
        until = at + seconds
        held = dict(zip(map(id, records), records, strict=True))
        self._records.update(held)
        self._leases.update(dict.fromkeys(held, _Lease(at, until, seconds, _safe(until, seconds))))

    def ended(self, records: Iterable[Record]) -> None:
        """These are held no longer."""
        for record in records:
            self._leases.pop(id(record), None)
            self._records.pop(id(record), None)

    def until(self, records: Iterable[Record]) -> float:
        """When the first of them stops being ours."""
        return min([lease.until for lease in self._of(records)])

    def received(self, record: Record) -> float:
        """When it was received."""
        return self._leases[id(record)].received

    def over(self, records: Iterable[Record], now: float) -> list[Record]:
        """Those whose lease has ended, or ends so soon that nobody may be asked to process them."""
        return [record for record in records if now >= self._leases[id(record)].safe]

    def past(self, records: Iterable[Record], now: float) -> int:
        """How many of them are not ours any more."""
        return sum(now >= self._leases[id(record)].until for record in records)

    def sent_until(self, records: Iterable[Record]) -> float:
        """Until when all of them may be sent."""
        return min([lease.safe for lease in self._of(records)])

    def leave_by(self, records: Sequence[Record], timeout: float | None) -> float:
        """When messages that are being gathered must leave, so that the function has its timeout, or half their lease.

        Args:
            timeout: of the function; None when it is not known.
        """
        longest = timeout or math.inf
        return min((each.until - min(longest, each.seconds / 2) for each in self._of(records)), default=math.inf)

    def due(self, now: float, lease: float) -> dict[int, list[Record]]:
        """The messages to renew: for how many whole seconds from now, never beyond 12 hours from their receipt."""
        found: dict[int, list[Record]] = {}
        for identity, each in self._leases.items():
            seconds = math.floor(min(lease, each.received + LONGEST - now))
            if not each.lost and now < each.until <= now + lease * _RENEWED_FROM and now + seconds > each.until:
                found.setdefault(seconds, []).append(self._records[identity])
        return found

    def renewed(self, records: Iterable[Record], *, at: float, seconds: float) -> None:
        """The queue hides these until then; what is held no longer is passed over."""
        until = at + seconds
        self._replace(records, until=until, seconds=seconds, safe=_safe(until, seconds))

    def lost(self, records: Iterable[Record]) -> None:
        """The queue renews these no more."""
        self._replace(records, lost=True)

    def _replace(self, records: Iterable[Record], **changes: float) -> None:
        """Give some messages another lease, the same one to those who shared one; the others keep theirs."""
        changed: dict[_Lease, _Lease] = {}
        for identity in map(id, records):
            if lease := self._leases.get(identity):
                if lease not in changed:
                    changed[lease] = replace(lease, **changes)
                self._leases[identity] = changed[lease]

    def _of(self, records: Iterable[Record]) -> set[_Lease]:
        """The different leases of these: mostly a single one."""
        return set(map(self._leases.__getitem__, map(id, records)))


def _safe(until: float, seconds: float) -> float:
    return until - min(_MARGIN, seconds / 10)
