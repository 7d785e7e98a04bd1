"""What one mapping has said of itself: its state, the retries of its shards, its last problems. No I/O.

Takes the time from the clock handed in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from poller.model.facts import (
    BatchInvoked,
    CheckpointWritten,
    Fact,
    MappingMoved,
    MappingProblem,
    MessagesDeleted,
    MessagesReleased,
    RecordsDiverted,
    RecordsDropped,
    ShardMoved,
    SourceListed,
    SourceRead,
    WishesSeen,
)
from poller.model.outcome import Failed, Partial, Replied, label
from poller.model.ports import Clock
from poller.service.log_lines import one_line
from poller.service.retries import Retries, time_of

_PROBLEMS_KEPT = 10
_UNREADABLE_ANSWER = "PROBLEM: Sequence number in function response is invalid. Please check function implementation."
"""What Lambda itself says of an answer that names no record of its batch."""
_LONGEST_REASON = 2_000
_UNDERSTOOD = (Replied, Partial)


@dataclass(slots=True, kw_only=True)
class _Problem:
    time: float
    shard: str
    reason: str
    times: int = 1

    def document(self) -> dict[str, Any]:
        return {
            "time": time_of(self.time),
            "shard": self.shard or None,
            "reason": self.reason,
            "times": self.times,
        }


@dataclass(slots=True)
class MappingState:
    """What one mapping has said of itself."""

    enabled: bool
    is_queue: bool
    reported: bool = False
    """It has read its source once, or has said why it does not."""
    state: str = ""
    transition: str = ""
    retention: float | None = None
    """Seconds after which the source drops a record; None before it was asked."""
    retries: Retries = field(default_factory=Retries)
    problems: deque[_Problem] = field(default_factory=lambda: deque(maxlen=_PROBLEMS_KEPT))
    wishes: WishesSeen = field(default_factory=lambda: WishesSeen(mapping="", paused=None, shards={}, seeks={}))
    """What operators wish of it."""
    _processed: str = "No records processed"
    _unreadable: dict[str, str] = field(default_factory=dict)
    """Why a shard, or "" the whole mapping, cannot be read at present."""

    def __post_init__(self) -> None:
        self.state = "Creating" if self.enabled else "Disabled"
        self.transition = "USER_INITIATED" if self.is_queue else "User action"

    @property
    def last_result(self) -> str:
        """AWS's LastProcessingResult; a source that cannot be read hides what became of the last batch."""
        for reason in self._unreadable.values():
            return f"PROBLEM: {reason}"
        return self._processed

    def read(self, fact: SourceRead, clock: Clock) -> None:
        """A shard was read, or could not be."""
        self.reported = True
        match fact.outcome:
            case "records" | "empty":
                if self._unreadable:
                    self._unreadable.pop(fact.shard, None)
                    self._unreadable.pop("", None)
            case "throttled":
                self._problem(fact.shard, f"source throttles the read: {fact.reason}", clock())
            case "error":
                reason = self._problem(fact.shard, f"source could not be read: {fact.reason}", clock())
                self._unreadable[fact.shard] = reason

    def invoked(self, fact: BatchInvoked, clock: Clock) -> None:
        """An invocation ended."""
        if isinstance(fact.outcome, _UNDERSTOOD):
            self._processed = "OK"
            if self.is_queue:
                self.retries.forget(fact.shard)  # what was given back meanwhile is not told of each message
            else:
                self.retries.done(fact)
            return
        unread = isinstance(fact.outcome, Failed) and fact.outcome.error is None and fact.outcome.ran
        self._processed = _UNREADABLE_ANSWER if unread else "PROBLEM: Function call failed"
        reason = one_line(fact.outcome.reason, _LONGEST_REASON)
        now = clock()
        self._problem(fact.shard, f"{label(fact.outcome)}: {reason}", now)
        self.retries.failed(fact, reason, now)

    def observe(self, fact: Fact, now: float) -> None:
        """Take a rarer fact of this mapping; `now` is its moment, unix seconds."""
        match fact:
            case MappingMoved() | MappingProblem() | WishesSeen() | SourceListed():
                self._whole(fact, now)
            case RecordsDiverted() | RecordsDropped():
                self._given_up(fact, now)
            case MessagesDeleted(failed=failed) if failed:
                self._problem("", f"{failed} messages could not be deleted: {fact.reason}", now)
            case MessagesReleased():
                self.retries.given_back(fact)
            case CheckpointWritten(outcome="superseded"):
                self._problem(fact.shard, "another owner holds the shard", now)
            case CheckpointWritten(outcome="error"):
                self._problem(fact.shard, f"checkpoint could not be written: {fact.reason}", now)
            case ShardMoved():
                self.reported = self.reported or fact.to == "elsewhere"  # there may be nothing for us to read
                self.retries.forget(fact.shard)
                self._unreadable.pop(fact.shard, None)
            case _:
                pass

    def _whole(self, fact: MappingMoved | MappingProblem | WishesSeen | SourceListed, now: float) -> None:
        """What is so of the mapping as a whole."""
        match fact:
            case MappingMoved():
                self.state = fact.state
                self.transition = one_line(fact.reason) or self.transition
            case MappingProblem():
                self.reported = True
                self._unreadable[""] = self._problem("", fact.reason, now)
            case WishesSeen():
                self.reported = self.reported or fact.paused is not None  # a queue that is paused is not read
                self.wishes = fact
            case SourceListed():
                self.retention = fact.retention

    def _given_up(self, fact: RecordsDiverted | RecordsDropped, now: float) -> None:
        self.retries.given_up(fact)
        if isinstance(fact, RecordsDropped):
            count = f"{fact.records} records" if fact.records else "records"
            self._problem(fact.shard, f"{count} dropped, {fact.condition}: {fact.first} to {fact.last}", now)

    def _problem(self, shard: str, reason: str, now: float) -> str:
        """Keep a problem among the last ones, the same one once; answers its reason as it may be shown."""
        reason = one_line(reason, _LONGEST_REASON)
        for known in self.problems:
            if known.shard == shard and known.reason == reason:
                self.problems.remove(known)
                self.problems.append(_Problem(time=now, shard=shard, reason=reason, times=known.times + 1))
                return reason
        self.problems.append(_Problem(time=now, shard=shard, reason=reason))
        return reason
