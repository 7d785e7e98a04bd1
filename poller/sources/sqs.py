"""SQS queues, standard and FIFO."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SqsQueue:
    """The source part of a mapping of an SQS queue."""

    arn: str
    role_arn: str | None = None
    """Role to assume for reading."""
    wait: int = 1
    """Whole seconds a long poll waits, 1 to 20."""
    windowed: bool = False
    """The mapping has a batching window: Lambda then writes `md5OfMessageAttributes` as null instead of leaving it out."""

    @property
    def fifo(self) -> bool:
        """Whether order is kept within message groups."""
        return self.arn.endswith(".fifo")
