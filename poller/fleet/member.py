"""What a replica says of itself in the store, and what the others conclude from it. No I/O, no clock, no chance.

A member is alive while its row changes. Nobody compares clocks: each observer measures on its own monotonic clock for
how long it has seen the same version of the row. Source: the survey of leases, `leases.md` 4; the same idea keeps
Kubernetes' leader election and the Kinesis Client Library free of clock skew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import msgspec

FOLDER = "@members/"
"""Where the members' rows lie in the store; no mapping's name holds an "@"."""
FORGOTTEN_AFTER = 3600.0
"""Seconds for which a member has been gone before its row is removed: names of containers never come back."""
EVERYBODY = "*"

MemberState: TypeAlias = Literal["up", "leaving", "gone"]


class Member(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A replica's row. Each write of it is a beat: its version is what the others watch."""

    epoch: int
    """Grows with every life of this name, and when others declare it dead: what was owned in an older one is free."""
    boot: str
    """Different for every process: tells two that run under one name from one that comes back."""
    state: MemberState = "up"
    since: float = 0.0
    """Unix seconds at which this life began, for people."""
    address: str = ""
    """Where its status page is, for people."""
    serves: tuple[str, ...] = ()
    """The streams that it processes. What it owned of another is free."""
    handed: Mapping[str, int] = {}
    """How often it put shards into each other member's hands: a bell, rung by counting on."""


encode = msgspec.json.Encoder(order="deterministic").encode
decode = msgspec.json.Decoder(Member).decode


class Sighting(NamedTuple):
    """A member's row as an observer knows it."""

    member: Member
    version: int
    since: float
    """The observer's monotonic clock when it first saw this version, seconds."""


Roster: TypeAlias = Mapping[str, Sighting]
"""Every member that has a row, by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The constants of the protocol, in seconds.

    Raises:
        ValueError: a member could be declared dead while it still works.
    """

    beat: float = 1.5
    """Between two beats of a member."""
    watch: float = 1.0
    """Between two looks at the others; a quarter of it while something moves."""
    self_fence: float = 5.0
    """After the *sending* of the last acknowledged beat, a member begins no invocation any more."""
    expiry: float = 6.5
    """After it first saw a version, an observer that still sees it declares the member dead."""

    @property
    def blind(self) -> float:
        """Between two looks, so much says that the store was away, or this process."""
        return self.beat + 2 * self.watch

    def __post_init__(self) -> None:
        if self.expiry < 1.2 * self.self_fence or self.expiry < 3 * self.beat:
            raise ValueError("expiry has to be at least 1.2 times self_fence and three beats")


DEFAULT = Limits()
FAST = Limits(beat=0.5, watch=0.5, self_fence=1.9, expiry=2.5)
"""Recovers within four seconds and writes three times as often."""


def sight(before: Roster, found: Mapping[str, tuple[Member, int]], now: float, *, blind: bool = False) -> Roster:
    """The roster after a look: a row that has not changed was first seen when it was first seen.

    Args:
        before: the roster of the last look.
        found: the rows.
        now: monotonic seconds.
        blind: the last look was long ago. The others may not have reached the store either, so that their silence
            counts from now.
    """
    return {
        name: before[name]
        if name in before and before[name].version == version and not blind
        else Sighting(member, version, now)
        for name, (member, version) in found.items()
    }


def silent(roster: Roster, limits: Limits, *, me: str, now: float) -> tuple[str, ...]:
    """Members that have to be declared dead."""
    return tuple(
        name
        for name, seen in sorted(roster.items())
        if name != me and seen.member.state != "gone" and now - seen.since >= limits.expiry
    )


def forgettable(roster: Roster, *, now: float) -> tuple[str, ...]:
    """Members whose rows say nothing any more."""
    return tuple(
        name
        for name, seen in sorted(roster.items())
        if seen.member.state == "gone" and now - seen.since >= FORGOTTEN_AFTER
    )


def membership(roster: Roster) -> Mapping[str, tuple[int, MemberState, tuple[str, ...]]]:
    """What of a roster decides who shall have what."""
    return {
        name: (seen.member.epoch, seen.member.state, seen.member.serves)
        for name, seen in roster.items()
        if seen.member.state != "gone"
    }


def bells(roster: Roster, me: str) -> Mapping[str, tuple[int, int, int]]:
    """How often each member has rung for me, in which of its lives."""
    return {
        name: (seen.member.epoch, seen.member.handed.get(me, 0), seen.member.handed.get(EVERYBODY, 0))
        for name, seen in roster.items()
    }


def holds(roster: Roster, owner: str, epoch: int, stream: str) -> bool:
    """Whether the owner that a shard's row names still has it.

    The roster must be younger than the row: a member writes its own row before it writes a shard's.

    Args:
        roster: every member.
        owner: "": nobody.
        epoch: of the owner, when it wrote the row.
        stream: whose shard it is.
    """
    seen = roster.get(owner)
    if seen is None or seen.member.state == "gone" or epoch < seen.member.epoch:
        return False
    return stream in seen.member.serves
