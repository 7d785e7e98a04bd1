"""What follows an attempt. No I/O, no clock, no chance.

Source: `semantics` of Lambda's stream and queue pollers: a stream's batch is tried again until the source drops it; a
queue's failed batch waits out its visibility and is not tried again by us; a throttle or a service error is tried
again while the batch is ours. Neither spends an attempt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from poller.mapping.batch import Batch
from poller.model.outcome import Failed, Outcome, Refused, Replied, Unavailable

CAP = 60.0
"""The longest pause between two tries, seconds, before jitter. AWS's own cap is not known."""
ASKED_CAP = 900.0
"""The longest pause that somebody else may ask for: a Retry-After can be absurd, and nothing may stop for ever."""
_JITTER = 0.35
_EXPONENT_LIMIT = 16


@dataclass(frozen=True, slots=True)
class Advance:
    """The batch is settled."""


@dataclass(frozen=True, slots=True)
class Again:
    """The same batch once more, under the same request id."""

    after: float
    """Seconds to wait first."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The batch goes back to its queue by itself, when its visibility ends."""


Step: TypeAlias = Advance | Again | Leave


def next_step(outcome: Outcome, *, failures: int, redelivers: bool, chance: float) -> Step:
    """Decide what follows an attempt.

    Args:
        failures: attempts in a row that did not succeed, this one included; 0 after a success.
        redelivers: the source is a queue.
        chance: uniform in [0, 1), for jitter.
    """
    match outcome:
        case Replied():
            return Advance()
        case Failed():
            return Leave() if redelivers else Again(backoff(failures, chance))
        case Refused(after=after):
            return Again(max(min(after, ASKED_CAP), backoff(failures, chance)))
        case Unavailable(lasting=lasting):
            return Again(backoff(failures, chance, base=5.0 if lasting else 1.0))


def backoff(failures: int, chance: float, *, base: float = 0.2) -> float:
    """Seconds before try `failures` + 1: `base`, doubling up to `CAP`, plus up to 35 %.

    Source: first retries of real mappings follow after 0.20 to 0.27 s, then about 0.39 s.
    """
    return float(min(CAP, base * 2 ** min(max(failures - 1, 0), _EXPONENT_LIMIT)) * (1 + _JITTER * chance))


def expired(batch: Batch, *, now: float, retention: float) -> int:
    """How many records at the head of a stream's batch the source has dropped by now.

    Args:
        now: unix seconds, the clock `Record.arrived` is on.
        retention: seconds the source keeps a record.
    """
    for count, record in enumerate(batch):
        if now - record.arrived < retention:
            return count
    return len(batch)
