"""For how long received messages are ours: until their visibility ends. No I/O, no clock, no chance.

Times are seconds of any one monotonic clock. A message may be handed out again while it is held: each time, the record
is another one, and has a lease of its own.
Source: SQS developer guide, "Visibility timeout"; semantics, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import msgspec
from msgspec.structs import replace

from poller.mapping.batch import Batch
from poller.model.record import Record, are_same

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
    """The leases of all messages held.

    Most batches are one receive, no more and no less: it is kept as it came, and looked at once for all its messages. When
    other messages are asked for, those of every receive are kept each by itself from then on.
    """

    def __init__(self) -> None:
        self._receives: dict[int, tuple[Batch, _Lease]] = {}  # by the identity of the first record
        self._alone: dict[int, tuple[Record, _Lease]] = {}  # by the record's identity

    def __len__(self) -> int:
        return len(self._alone) + sum(len(records) for records, _ in self._receives.values())

    def took(self, records: Batch, *, at: float, seconds: float) -> None:
        """These were received."""
        until = at + seconds
        self._receives[id(records[0])] = (records, _Lease(at, until, seconds, _safe(until, seconds)))

    def ended(self, records: Sequence[Record]) -> None:
        """These are held no longer."""
        if self._whole(records) is not None:
            del self._receives[id(records[0])]
            return
        held = self._each()
        for record in records:
            held.pop(id(record), None)

    def until(self, records: Sequence[Record]) -> float:
        """When the first of them stops being ours."""
        whole = self._whole(records)
        return min([lease.until for lease in self._each_of(records)]) if whole is None else whole.until

    def received(self, record: Record) -> float:
        """When it was received."""
        return self._each()[id(record)][1].received

    def over(self, records: Iterable[Record], now: float) -> list[Record]:
        """Those whose lease has ended, or ends so soon that nobody may be asked to process them."""
        held = self._each()
        return [record for record in records if now >= held[id(record)][1].safe]

    def past(self, records: Iterable[Record], now: float) -> int:
        """How many of them are not ours any more."""
        held = self._each()
        return sum(now >= held[id(record)][1].until for record in records)

    def sent_until(self, records: Sequence[Record]) -> float:
        """Until when all of them may be sent."""
        whole = self._whole(records)
        return min([lease.safe for lease in self._each_of(records)]) if whole is None else whole.safe

    def leave_by(self, records: Sequence[Record], timeout: float | None) -> float:
        """When messages that are being gathered must leave, so that the function has its timeout, or half their lease.

        Args:
            timeout: of the function; None when it is not known.
        """
        longest = timeout or math.inf
        whole = self._whole(records)
        leases = self._each_of(records) if whole is None else (whole,)
        return min((each.until - min(longest, each.seconds / 2) for each in leases), default=math.inf)

    def due(self, now: float, lease: float) -> dict[int, list[Record]]:
        """The messages to renew: for how many whole seconds from now, never beyond 12 hours from their receipt."""
        found: dict[int, list[Record]] = {}
        for record, each in self._each().values():
            seconds = math.floor(min(lease, each.received + LONGEST - now))
            if not each.lost and now < each.until <= now + lease * _RENEWED_FROM and now + seconds > each.until:
                found.setdefault(seconds, []).append(record)
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
        held, changed = self._each(), dict[_Lease, _Lease]()
        for record in records:
            if taken := held.get(id(record)):
                lease = taken[1]
                if lease not in changed:
                    changed[lease] = replace(lease, **changes)
                held[id(record)] = (record, changed[lease])

    def _each_of(self, records: Sequence[Record]) -> Collection[_Lease]:
        """The different leases of messages that are not one receive."""
        held = self._each()
        return {held[id(record)][1] for record in records}

    def _whole(self, records: Sequence[Record]) -> _Lease | None:
        """The lease of messages that are one receive, no more and no less."""
        taken = self._receives.get(id(records[0])) if records else None
        if taken is None:
            return None
        received, lease = taken
        if received is not records:
            if not isinstance(records, tuple) or not are_same(received, records):
                return None
            self._receives[id(records[0])] = (records, lease)  # the same batch is asked for again and again
        return lease

    def _each(self) -> dict[int, tuple[Record, _Lease]]:
        """All messages, each by itself."""
        if self._receives:
            for records, lease in self._receives.values():
                self._alone.update({id(record): (record, lease) for record in records})
            self._receives.clear()
        return self._alone


def _safe(until: float, seconds: float) -> float:
    return until - min(_MARGIN, seconds / 10)
