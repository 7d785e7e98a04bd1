"""When a shard is read next: as fast as there is data, no faster than the source allows. No I/O, no clock, no chance.

Idle shards are read at the same moments, all of a process, so that it wakes once for all of them: after a sleep a processor
has forgotten the program, and the first reads cost ten times what the others do. One that brings records is read at a phase
of its own: else the answers of all would come at once, again and again, and each would wait for what the others make to do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from poller.model.policy import Policy
from poller.model.record import Page

IDLE = 16
"""Reads in a row without records after which a shard counts as idle; it begins so."""
_CATCHING_UP = 0.2
"""Seconds between reads that bring nothing though there is more: five reads a second are what a Kinesis shard allows."""
_SLOT = 0.05
"""Seconds: reads that are due within one slot begin together, and the loop wakes once for all of them. The intervals that
matter are whole slots: one second, and the fifth of one that a Kinesis shard allows."""
_SOON = 0.1
"""Seconds after which, at the most, a source that bears it is read again when it has just brought records."""
_SPREAD = 1.0
"""Seconds over which shards are spread at the most: a long interval is not to waver by half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often one shard is read, and at which moments. Seconds, all of them; moments are on the caller's clock."""

    interval: float
    """Between reads of an idle shard."""
    eager: bool
    """After records it is read again in a beat, and then in twice as many after each read without, up to the interval."""
    beat: float
    """A whole part of the interval. Reads come half a beat sooner or later, so that they come at the shard's moments."""
    rest: float
    """The same of an idle shard, whose moments are whole rests from the clock's zero."""
    phase: float
    """By how much later than whole beats the moments of a shard are that brings records: less than a beat."""

    def due(self, page: Page, *, began: float, empty: int) -> float:
        """When the next read is due after one that began then: at once when that is past.

        Args:
            empty: reads in a row without records, this one included; `IDLE` or more for a shard that never had any.
        """
        interval = self.interval
        if self.eager and page.behind <= 0:
            interval = min(interval, self.beat * 2 ** min(empty, IDLE))
        apart = pause_after(page, interval=interval, took=0.0)
        if not apart:
            return began
        if page.behind > 0:
            return began + in_slot(began, apart)
        if empty >= IDLE:
            return round((began + apart) / self.rest) * self.rest
        return self.phase + round((began + apart - self.phase) / self.beat) * self.beat


def beginning(policy: Policy, *, chance: float) -> Pace:
    """The pace of a shard that is about to be read for the first time.

    Args:
        chance: uniform in [0, 1), the shard's own.
    """
    interval = policy.poll_interval
    # What is read as often as a Kinesis shard allows, or nearly, keeps to its interval: half of it would be too soon.
    longest = _SPREAD if interval >= 2 * _CATCHING_UP else _SLOT
    rest = interval / math.ceil(interval / longest)
    beat = interval / math.ceil(interval / _SOON) if policy.eager else rest
    return Pace(interval=interval, eager=policy.eager, beat=beat, rest=rest, phase=chance * beat)


def pause_after(page: Page, *, interval: float, took: float) -> float:
    """Seconds until the next read, after one that took `took` seconds.

    None at all while there is more to read; otherwise reads begin `interval` seconds apart.
    """
    if page.cursor is None or page.full or (page.records and page.behind > 0):
        return 0.0
    return max(0.0, (min(interval, _CATCHING_UP) if page.behind > 0 else interval) - took)


def in_slot(now: float, pause: float) -> float:
    """The pause that ends with the slot nearest to its end; a short one stays what it is.

    Reads an interval of whole slots apart stay so: the one that began a little late does not make the next one later.
    """
    return round((now + pause) / _SLOT) * _SLOT - now if pause > 2 * _SLOT else pause
