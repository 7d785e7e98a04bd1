"""How each shard stands, gathered from facts: what the metrics and the board both tell of it.

No I/O. Takes the time from the clock handed in, and asks it only where a moment is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from poller.model.facts import (
    BatchInvoked,
    BatchSent,
    MappingMoved,
    MappingRemoved,
    ShardMoved,
    ShardStands,
    SourceRead,
)
from poller.model.ports import Clock
from poller.service.kept import Kept
from poller.service.takers import Takers

ShardState: TypeAlias = Literal["owned", "blocked_on_parent", "ended", "released", "elsewhere"]


def iterator_age(*, oldest: float | None, behind: float, read_at: float, now: float) -> float:
    """Seconds since the arrival of the oldest record that is read or readable, but not settled; 0.0 when caught up.

    Args:
        oldest: arrival of the oldest record held, unix seconds; None when nothing is held.
        behind: how far the end of the last read was behind the newest record.
        read_at: when that read ended, unix seconds. What it left unread has aged since.
        now: unix seconds.
    Source: `poller_iterator_age_seconds`; it never goes below zero, though clocks of machines differ.
    """
    if oldest is not None:
        return max(0.0, now - oldest)
    if behind > 0.0:
        return behind + max(0.0, now - read_at)
    return 0.0


@dataclass(slots=True, kw_only=True)
class Standing:
    """What is known of one shard. Changed only by `Standings`."""

    state: ShardState = "owned"
    checkpoint: str = ""
    owner: str = ""
    """The other replica that has it, or has ended it."""
    since: float = 0.0
    """Unix seconds at which it came into this state."""
    oldest: float | None = None
    behind: float = 0.0
    read_at: float = 0.0
    fresh_at: float = 0.0
    """When it was last read successfully, or was opened; unix seconds."""
    held: int = 0
    attempt: int = 0
    told_behind: float | None = None
    """`behind` as the source told it; None where it does not."""
    known: bool = False
    """The source has answered, so an age can be told: before that, 0 would claim that we caught up."""
    calls: int = 0
    """Invocations in flight."""
    sent: int = 0
    """Records in these invocations."""

    def age(self, now: float) -> float | None:
        """The iterator age; None while this replica cannot know it."""
        if self.state != "owned" or not self.known:
            return None
        return iterator_age(oldest=self.oldest, behind=self.behind, read_at=self.read_at, now=now)


Shards: TypeAlias = dict[str, Standing]
"""Those of one mapping that were ever seen, by name, the ones let go included."""


class Standings:
    """The shards of every mapping. What comes late brings back neither a shard that was let go nor a mapping that was removed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._mappings = Kept[Shards](_none, _none)
        self.takers: Takers = {
            SourceRead: self._read,
            ShardStands: self._stands,
            BatchSent: self._sent,
            BatchInvoked: self._invoked,
            ShardMoved: self._moved,
            MappingMoved: self._configured,
            MappingRemoved: self._removed,
        }

    def of(self, mapping: str) -> Mapping[str, Standing]:
        """The shards of a mapping that were ever seen, those let go included."""
        return self._mappings.get(mapping, {})

    def ages(self, mapping: str, now: float) -> dict[str, float]:
        """The iterator ages of a mapping's shards, as far as this replica can know them."""
        ages = ((shard, standing.age(now)) for shard, standing in self.of(mapping).items())
        return {shard: age for shard, age in ages if age is not None}

    def _read(self, fact: SourceRead) -> None:
        shard = self._mappings[fact.mapping].get(fact.shard) or self._seen(fact.mapping, fact.shard)
        now = self._clock()
        if fact.outcome in ("records", "empty"):
            shard.known, shard.fresh_at = True, now
        if fact.behind is not None:
            shard.behind = shard.told_behind = fact.behind
            shard.read_at = now

    def _stands(self, fact: ShardStands) -> None:
        shard = self._mappings[fact.mapping].get(fact.shard) or self._seen(fact.mapping, fact.shard)
        # The same `behind` was measured by the same read: what is unread ages from there, not from this fact.
        if fact.behind != shard.behind:
            shard.behind, shard.read_at = fact.behind, self._clock()
        shard.checkpoint, shard.attempt = fact.checkpoint, fact.attempt
        shard.oldest, shard.held = fact.oldest, fact.held
        shard.known = shard.known or fact.oldest is not None

    def _sent(self, fact: BatchSent) -> None:
        shard = self._mappings[fact.mapping].get(fact.shard) or self._seen(fact.mapping, fact.shard)
        if shard.state == "owned":
            shard.calls += 1
            shard.sent += fact.records

    def _invoked(self, fact: BatchInvoked) -> None:
        shard = self._mappings[fact.mapping].get(fact.shard) or self._seen(fact.mapping, fact.shard)
        shard.calls = shard.calls - 1 if shard.calls else 0
        shard.sent = max(0, shard.sent - fact.records) if shard.calls else 0

    def _moved(self, fact: ShardMoved) -> None:
        shards = self._mappings[fact.mapping]
        if fact.to == "forgotten":
            shards.pop(fact.shard, None)
            return
        now = self._clock()
        shards[fact.shard] = Standing(
            state=fact.to, checkpoint=fact.position, owner=fact.owner, since=now, fresh_at=now
        )

    def _configured(self, fact: MappingMoved) -> None:
        self._mappings.configured(fact.mapping)
        if fact.state in ("Enabling", "Disabled"):  # nothing of it runs; one that was cut short has not told its end
            self._mappings.pop(fact.mapping, None)

    def _removed(self, fact: MappingRemoved) -> None:
        self._mappings.remove(fact.mapping)

    def _seen(self, mapping: str, shard: str) -> Standing:
        standing = self._mappings[mapping][shard] = Standing(fresh_at=self._clock())
        return standing


def _none(_: str) -> Shards:
    return {}
