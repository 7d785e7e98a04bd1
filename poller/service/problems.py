"""Which problem was told when, so that a log does not repeat itself. Takes the time from the clock handed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from poller.model.ports import Clock

_REPEATED = 60.0
"""Seconds between two lines about the same problem of the same shard."""


class Where(NamedTuple):
    """What a line is about."""

    mapping: str
    shard: str
    """"" for the mapping as a whole."""
    doing: Literal["read", "invoke", "checkpoint", "delete", "release", "lease", "mapping", "store", ""] = ""


@dataclass(slots=True, kw_only=True)
class _Told:
    at: float
    left_out: int = 0


class Problems:
    """Which problem was told when. The same one is told once a minute, however often it comes and goes in between."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[Where, dict[str, _Told]] = {}
        self.unsolved: set[Where] = set()
        """What was told of, and not of its end."""

    def tell(self, where: Where, message: str) -> int | None:
        """How many of the same were left out since the last line; None: leave this one out too."""
        now = self._clock()
        told = self._told.setdefault(where, {})
        last = told.get(message)
        if last is not None and 0.0 <= now - last.at < _REPEATED:
            last.left_out += 1
            return None
        told[message] = _Told(at=now)
        self.unsolved.add(where)
        return last.left_out if last else 0

    def solve(self, where: Where) -> int | None:
        """How many lines were left out since the problem was told; None: there is no problem that anybody read of."""
        if where not in self.unsolved:
            return None
        self.unsolved.remove(where)
        told = self._told[where].values()
        left_out = sum(last.left_out for last in told)
        for last in told:
            last.left_out = 0
        return left_out

    def forget(self, mapping: str, shard: str | None = None) -> None:
        """Drop what is known of a mapping, or of one shard of it."""
        gone = [where for where in self._told if where.mapping == mapping and shard in (None, where.shard)]
        for where in gone:
            del self._told[where]
            self.unsolved.discard(where)
