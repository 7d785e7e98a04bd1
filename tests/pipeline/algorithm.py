"""Lambda's retry rules a second time, as slowly and as plainly as they are written down; shares no code with the poller.

`Expected` follows one lane of a shard: told what the poller did and what the function answered, it says what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from zlib import crc32


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an answer means for a batch."""

    kind: Literal["success", "failure", "not reached"]
    settled: int = 0
    """Records at the head that succeeded though the call did not."""


Flaw: TypeAlias = Literal["none", "raises", "named", "foreign", "no key", "too large"]
"""What a function does with a batch that holds such a record."""


def meaning(flaws: list[Flaw], *, partial: bool) -> Meaning:
    """What a function answers to a batch whose records have these flaws."""
    if "too large" in flaws or "raises" in flaws:
        return Meaning("failure")
    if not partial:
        return Meaning("success")
    if "foreign" in flaws or "no key" in flaws:
        return Meaning("failure")
    return Meaning("failure", settled=flaws.index("named")) if "named" in flaws else Meaning("success")


def lane_of(sequence: int, key: str, lanes: int) -> int:
    """Which lane a record belongs to; it is stored by number, so it must never change."""
    return crc32((key or str(sequence)).encode()) % lanes


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The part of a mapping's configuration that retries depend on."""

    batch_size: int
    retries: int | None
    record_age: float | None
    retention: float
    bisect: bool


@dataclass
class Expected:
    """One lane: the batches that are to be sent next, and how often the first of them has failed."""

    rules: Rules
    arrived: Mapping[int, float]
    used: set[str]
    """Request ids of the whole mapping."""
    batches: list[list[int]] = field(default_factory=list)
    failed: int = 0
    request_id: str = ""
    called: bool = False
    """The first batch was sent at least once, as it is."""
    stored: bool = False
    """A failure made these batches or was spent on them, so they outlive a restart."""
    exhausted: bool = False
    """The first batch has to be given up now."""
    not_before: float = 0.0

    def begins(self, at: float, request_id: str, batch: list[int]) -> str:
        """A call begins. Answers what is wrong with it, "" for nothing."""
        if self.exhausted:
            return f"{batch} is sent, but {self.batches[0]} had to be given up"
        if at < self.not_before:
            return f"{batch} is sent again after too short a pause"
        if not self.batches:
            self.batches = [batch]
            if len(batch) > self.rules.batch_size:
                return f"{batch} is larger than the batch size"
        if batch != self.batches[0]:
            return f"{batch} is sent instead of {self.batches[0]}"
        if self.request_id and request_id != self.request_id:
            return f"{batch} is sent again under another request id"
        if not self.request_id and request_id in self.used:
            return f"{batch} is a new batch under an old request id"
        if self.called and at - self.arrived[batch[0]] >= self.rules.retention:
            return f"{batch} is sent again though the source has dropped it"
        self.used.add(request_id)
        self.request_id, self.called = request_id, True
        return ""

    def ends(self, at: float, meant: Meaning) -> None:
        """The call ended."""
        batch = self.batches[0]
        if meant.kind == "not reached":
            self.not_before = at + 0.199
            return
        if meant.kind == "success":
            self._next(self.batches[1:])
            return
        rest = batch[meant.settled :]
        if self.rules.bisect and len(rest) > 1:
            half = len(rest) // 2
            self._next([rest[:half], rest[half:], *self.batches[1:]])
        elif meant.settled:
            self._next([rest, *self.batches[1:]])
        else:
            self.failed += 1
            self.exhausted = self.rules.retries is not None and self.failed > self.rules.retries
            self.not_before = 0.0 if self.exhausted else at + 0.199
        self.stored = True

    def gives_up(self, condition: str, batch: list[int]) -> str:
        """Records are given up. Answers what is wrong with it, "" for nothing."""
        if condition == "RetryAttemptsExhausted":
            if not self.exhausted or batch != self.batches[0]:
                return f"{batch} is given up before its retries are spent"
            self._next(self.batches[1:])
            return ""
        if not self.batches:
            return "" if condition == "RecordAgeExceeded" else f"{batch} is called expired though it was never tried"
        if condition == "Expired" and not self.called:
            return f"{batch} is called expired though it was never tried"
        first = self.batches[0]
        if first[: len(batch)] != batch:
            return f"{batch} is given up, which is not the head of {first}"
        rest = first[len(batch) :]
        self._next([rest, *self.batches[1:]] if rest else self.batches[1:])
        self.stored = True
        return ""

    def restarts(self) -> None:
        """The mapping was stopped and started: what was not stored is made anew."""
        self.not_before = 0.0
        self.called = self.failed > 0
        if not self.stored:
            self.used.discard(self.request_id)
            self._next([])

    def _next(self, batches: list[list[int]]) -> None:
        self.batches = batches
        self.failed, self.request_id, self.called, self.exhausted, self.not_before = 0, "", False, False, 0.0
        self.stored = self.stored and bool(batches)
