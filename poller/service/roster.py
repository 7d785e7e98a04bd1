"""The replicas that share the store and the shards that moved between them: facts in, a document out. No I/O, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from poller.model.facts import MemberMoved, RosterSeen, SelfFenced, ShardPassed, StoreFailed
from poller.service.log_lines import one_line
from poller.service.retries import time_of

_MOVES_KEPT = 30
FleetFact: TypeAlias = RosterSeen | MemberMoved | SelfFenced | StoreFailed | ShardPassed


@dataclass(slots=True, kw_only=True)
class Roster:
    """What is known of the replicas."""

    _members: Mapping[str, tuple[str, float, str]] = field(default_factory=dict)
    _seen: float = 0.0
    _fenced: float | None = None
    """Since when this replica begins no invocation, unix seconds."""
    _store: tuple[float, str] | None = None
    """When and why the store could not be used; None once it was read again."""
    _fences: int = 0
    """Replicas that this one has declared dead."""
    _changed_hands: int = 0
    """Shards that were taken here, received, handed over or lost."""
    _moves: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_MOVES_KEPT))

    def observe(self, fact: FleetFact, now: float) -> None:
        """Take a fact; `now` is its moment, unix seconds."""
        match fact:
            case RosterSeen():
                self._members, self._seen, self._store = fact.members, now, None
            case StoreFailed():
                self._store = (self._store[0] if self._store else now, one_line(fact.reason))
            case SelfFenced():
                self._fenced = now - fact.seconds if fact.seconds else None
            case MemberMoved():
                self._fences += fact.fenced and fact.state == "gone"
                what = "fenced" if fact.fenced and fact.state == "gone" else fact.state
                self._moves.append({"time": time_of(now), "what": what, "member": fact.member})
            case ShardPassed():
                self._changed_hands += 1
                where = {"mapping": fact.mapping, "shard": fact.shard}
                self._moves.append({"time": time_of(now), "what": fact.how, "member": fact.member or None} | where)

    def document(self, name: str, now: float) -> dict[str, Any]:
        """All of it, ready for JSON; `name` is this replica's."""
        members = self._members or {name: ("up", 0.0, "")}
        passed = max(0.0, now - self._seen) if self._members else 0.0
        return {
            "name": name,
            "members": [
                {
                    "name": each,
                    "state": state,
                    "beat_age_seconds": round(age + passed, 3),
                    "address": address or None,
                    "moves": self._changed_hands if each == name else None,
                    "fences": self._fences if each == name else None,
                }
                for each, (state, age, address) in sorted(members.items())
                if state != "gone"
            ],
            "fenced_since": None if self._fenced is None else time_of(self._fenced),
            "store_problem": self._store and {"since": time_of(self._store[0]), "reason": self._store[1]},
            "moves": list(reversed(self._moves)),
        }
