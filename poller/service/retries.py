"""The batches that block their shards: which records they hold, how often they were tried, and why they fail. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from poller.model.facts import BatchInvoked, MessagesReleased, RecordsDiverted, RecordsDropped
from poller.model.outcome import label


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A batch that failed and is tried again. Times are unix seconds."""

    attempt: int
    outcome: str = ""
    reason: str = ""
    next_try: float | None = None
    first: str = ""
    last: str = ""
    """Sequence numbers or message ids; "" where this process has not tried the batch yet."""
    records: int | None = None
    first_failed: float | None = None
    """None where its tries began before this process did."""
    request_id: str = ""

    def document(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "attempt": self.attempt,
            "outcome": self.outcome,
            "reason": self.reason,
            "next_try": None if self.next_try is None else time_of(self.next_try),
            "first_failed": None if self.first_failed is None else time_of(self.first_failed),
            "first_record": self.first or None,
            "last_record": self.last or None,
            "records": self.records,
            "request_id": self.request_id or None,
        }


@dataclass(slots=True)
class Retries:
    """Of one mapping. A shard may have several: one for each lane."""

    _shards: dict[str, dict[str, Retry]] = field(default_factory=dict)
    """By shard and the request id that a batch keeps over its tries, in the order in which they began to fail."""

    def of(self, shard: str) -> Retry | None:
        """The one that has blocked the shard the longest."""
        return next(iter(self._shards.get(shard, {}).values()), None)

    def failed(self, fact: BatchInvoked, reason: str, now: float) -> None:
        """A call failed; without a next try the batch is split or given up."""
        if fact.retry_in is None:
            return self.done(fact)
        known = self._shards.setdefault(fact.shard, {})
        before = known.get(fact.request_id)
        retry = Retry(
            attempt=fact.attempt,
            outcome=label(fact.outcome),
            reason=reason,
            next_try=now + fact.retry_in,
            first=fact.first,
            last=fact.last,
            records=fact.records,
            first_failed=now if fact.attempt == 1 else None,
            request_id=fact.request_id,
        )
        known[fact.request_id] = replace(retry, first_failed=before.first_failed) if before else retry
        return None

    def done(self, fact: BatchInvoked) -> None:
        """The batch is not tried again."""
        self._shards.get(fact.shard, {}).pop(fact.request_id, None)

    def given_back(self, fact: MessagesReleased) -> None:
        """The batch of a queue is not tried again: its messages will come back in others."""
        for known in self._shards.values():
            known.pop(fact.request_id, None)

    def given_up(self, fact: RecordsDropped | RecordsDiverted) -> None:
        """The batch that begins with these records has lost them."""
        known = self._shards.get(fact.shard, {})
        for request_id in [each for each, retry in known.items() if retry.first == fact.first]:
            del known[request_id]

    def forget(self, shard: str) -> None:
        """The shard was let go, or begins anew; a queue's messages have settled or come back by themselves."""
        self._shards.pop(shard, None)


def time_of(moment: float) -> str:
    """Unix seconds for JSON."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
