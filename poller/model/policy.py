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
    concurrency: int = 5
    """Batches of an unordered source in flight at once."""
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
