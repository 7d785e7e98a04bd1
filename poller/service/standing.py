"""How each shard stands, gathered from facts: what the metrics and the board both tell of it.

No I/O. Takes the time from the clock handed in, and asks it only where a moment is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from poller.model.facts import BatchInvoked, BatchSent, ShardMoved, ShardStands, SourceRead
from poller.model.ports import Clock

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
    """What is known of one shard. Changed only by the functions of this file."""

    state: ShardState = "owned"
    checkpoint: str = ""
    owner: str = ""
    """The other replica that has it."""
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
"""Those of one mapping that were ever seen, by name, the ones let go included: late facts do not bring those back."""


def ages(shards: Mapping[str, Standing], now: float) -> dict[str, float]:
    """The iterator ages of a mapping's shards, as far as this replica can know them."""
    told = ((shard, standing.age(now)) for shard, standing in shards.items())
    return {shard: age for shard, age in told if age is not None}


def moved(shards: Shards, fact: ShardMoved, clock: Clock) -> None:
    """A shard was opened, let go, or has left the stream: what was known of it is over."""
    if fact.to == "forgotten":
        shards.pop(fact.shard, None)
    else:
        now = clock()
        shards[fact.shard] = Standing(
            state=fact.to, checkpoint=fact.position, owner=fact.owner, since=now, fresh_at=now
        )


def read(shards: Shards, fact: SourceRead, clock: Clock) -> None:
    """A shard was read, or could not be."""
    shard = shards.get(fact.shard) or _seen(shards, fact.shard, clock)
    now = clock()
    if fact.outcome in ("records", "empty"):
        shard.known, shard.fresh_at = True, now
    if fact.behind is not None:
        shard.behind = shard.told_behind = fact.behind
        shard.read_at = now


def stands(shards: Shards, fact: ShardStands, clock: Clock) -> None:
    """A shard holds more or less than before."""
    shard = shards.get(fact.shard) or _seen(shards, fact.shard, clock)
    # The same `behind` was measured by the same read: what is unread ages from there, not from this fact.
    if fact.behind != shard.behind:
        shard.behind, shard.read_at = fact.behind, clock()
    shard.checkpoint, shard.attempt = fact.checkpoint, fact.attempt
    shard.oldest, shard.held = fact.oldest, fact.held
    shard.known = shard.known or fact.oldest is not None


def sent(shards: Shards, fact: BatchSent, clock: Clock) -> None:
    """An invocation is about to start."""
    shard = shards.get(fact.shard) or _seen(shards, fact.shard, clock)
    if shard.state == "owned":
        shard.calls += 1
        shard.sent += fact.records


def invoked(shards: Shards, fact: BatchInvoked, clock: Clock) -> None:
    """An invocation ended."""
    shard = shards.get(fact.shard) or _seen(shards, fact.shard, clock)
    shard.calls = shard.calls - 1 if shard.calls else 0
    shard.sent = max(0, shard.sent - fact.records) if shard.calls else 0


def _seen(shards: Shards, shard: str, clock: Clock) -> Standing:
    standing = shards[shard] = Standing(fresh_at=clock())
    return standing
