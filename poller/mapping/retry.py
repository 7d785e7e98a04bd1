"""What follows an attempt: the retry rules of streams and queues. No I/O, no clock, no chance.

A stream's batch is split, shortened, retried or given up; a queue's failed batch waits out its visibility. A call that
did not reach the function is tried again and spends no attempt. Source: Lambda guide, "Error handling with streams",
and the sequences of invocations that real mappings were seen to make.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from poller.mapping.batch import Batch
from poller.mapping.reply import first_failed
from poller.model.outcome import Failed, Outcome, Partial, Refused, Replied, Unavailable
from poller.model.policy import Policy

CAP = 60.0
"""The longest pause between two tries, seconds, before jitter. AWS's own cap is not known."""
ASKED_CAP = 900.0
"""The longest pause that somebody else may ask for: a Retry-After can be absurd, and nothing may stop for ever."""
_JITTER = 0.35
_EXPONENT_LIMIT = 16


@dataclass(frozen=True, slots=True)
class Advance:
    """The whole batch is settled."""


@dataclass(frozen=True, slots=True)
class Again:
    """The same batch once more, under the same request id."""

    after: float
    """Seconds to wait first."""
    counts: bool = True
    """This failure spent an attempt."""


@dataclass(frozen=True, slots=True)
class Split:
    """The first `settled` records are settled; the others follow at once, each part a new batch with a fresh budget."""

    settled: int
    parts: tuple[Batch, ...]
    """In order; one part after a partial success, two where the batch is bisected."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The budget is spent: the destination is told, and the shard goes on behind the batch."""


@dataclass(frozen=True, slots=True)
class Leave:
    """What failed goes back to its queue by itself, when its visibility ends."""

    failed: frozenset[str]
    """Message ids; the others of the batch are settled."""


StreamStep: TypeAlias = Advance | Again | Split | GiveUp
QueueStep: TypeAlias = Advance | Again | Leave


def next_step(
    batch: Batch, outcome: Outcome, *, tried: int, failures: int, policy: Policy, chance: float
) -> StreamStep:
    """Decide what follows an attempt with a stream's batch.

    Args:
        batch: what was sent, in sequence order, never empty.
        tried: attempts that the function failed with this very batch, before this one.
        failures: calls in a row that did not succeed, this one included, whatever the reason; for the back-off.
        chance: uniform in [0, 1), for jitter.
    """
    match outcome:
        case Replied():
            return Advance()
        case Refused() | Unavailable():
            return Again(_pause(outcome, failures, chance), counts=False)
        case Partial():
            settled = first_failed(outcome, batch)
        case Failed():
            settled = 0
    rest = batch[settled:]
    if policy.bisect and len(rest) > 1:
        half = len(rest) // 2
        return Split(settled, (rest[:half], rest[half:]))
    if settled:
        return Split(settled, (rest,))
    if policy.retry_attempts is not None and tried >= policy.retry_attempts:
        return GiveUp()
    return Again(backoff(failures, chance))


def next_queue_step(batch: Batch, outcome: Outcome, *, failures: int, chance: float) -> QueueStep:
    """Decide what follows an attempt with a queue's batch. Arguments as in `next_step`."""
    match outcome:
        case Replied():
            return Advance()
        case Partial(failed=failed):
            return Leave(frozenset(failed))
        case Failed():
            return Leave(frozenset(record.id for record in batch))
        case Refused() | Unavailable():
            return Again(_pause(outcome, failures, chance), counts=False)


def backoff(failures: int, chance: float, *, base: float = 0.2) -> float:
    """Seconds before try `failures` + 1: `base`, doubling up to `CAP`, plus up to 35 %.

    Source: first retries of real mappings follow after 0.20 to 0.27 s, then about 0.39 s.
    """
    return float(min(CAP, base * 2 ** min(max(failures - 1, 0), _EXPONENT_LIMIT)) * (1 + _JITTER * chance))


def older_than(batch: Batch, *, now: float, age: float) -> int:
    """How many records at the head of a batch have reached an age.

    Args:
        now: unix seconds, the clock `Record.arrived` is on.
        age: seconds: the source's retention, or MaximumRecordAgeInSeconds.
    """
    for count, record in enumerate(batch):
        if now - record.arrived < age:
            return count
    return len(batch)


def _pause(outcome: Refused | Unavailable, failures: int, chance: float) -> float:
    match outcome:
        case Refused(after=after):
            return max(min(after, ASKED_CAP), backoff(failures, chance))
        case Unavailable(lasting=lasting):
            return backoff(failures, chance, base=5.0 if lasting else 1.0)
