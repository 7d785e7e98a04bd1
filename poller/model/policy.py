"""The rules of one mapping, in plain values: what the deciding files need of its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from poller.model.record import EVENT_LIMIT_BYTES, At, Record, TrimHorizon


@dataclass(frozen=True, slots=True)
class Latest:
    """StartingPosition LATEST, before it is resolved."""


class Sieve(Protocol):
    """Tells the records that are delivered from those that are settled without. Equal to another of the same rules."""

    def split(self, records: Sequence[Record]) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
        """The records to deliver and the others, the same objects, each in their order. Never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """How many batches of a queue are in flight at once. Source: Lambda guide, "Scaling for Amazon SQS"."""

    least: int = 2
    """However often the function fails or is throttled."""
    start: int = 5
    """At the beginning, and again when the queue is idle."""
    most: int = 1250
    """MaximumConcurrency, or ten for each of MaximumPollers."""
    total: int | None = None
    """MaximumConcurrency: of all replicas together; None: no bound but each one's own."""
    per_minute: int = 300
    """Batches more within a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a mapping batches, starts and retries."""

    batch_size: int
    """Records an event holds at most."""
    window: float = 0.0
    """Seconds a batch is gathered for, 0.0 sends what one read returned."""
    event_limit_bytes: int = EVENT_LIMIT_BYTES
    start: TrimHorizon | Latest | At
    """Where a mapping without checkpoints begins."""
    poll_interval: float = 1.0
    """Seconds between reads of an idle shard."""
    eager: bool = False
    """The source bears more reads of a shard than AWS: one that has just brought records is read again sooner."""
    scaling: Scaling = Scaling()
    """How a queue's batches in flight grow and shrink."""
    function_timeout: float | None = None
    """Seconds an invocation may take; None: not known."""
    extend_visibility: bool = False
    """Renew the leases of a queue's messages as long as they are held."""
    retry_attempts: int | None = None
    """MaximumRetryAttempts: retries of one batch; None: until the source drops it."""
    record_age: float | None = None
    """MaximumRecordAgeInSeconds; None: until the source drops it."""
    bisect: bool = False
    """BisectBatchOnFunctionError."""
    partial: bool = False
    """FunctionResponseTypes holds ReportBatchItemFailures."""
    lanes: int = 1
    """ParallelizationFactor."""
    tumbling: float = 0.0
    """TumblingWindowInSeconds, 0.0: off."""
    filters: Sieve | None = None
    """FilterCriteria; None delivers every record."""
