"""The ages of the last quarter of an hour, for the small plots of the status page: numbers in, numbers out. No I/O, no clock.

A ring of 60 points of 15 seconds for each mapping, and for each shard that was ever behind. A point is the highest of
the looks that fell into it, so a short peak shows. A ring takes about 450 bytes, so 10,000 of them, more than which are
not kept, 4.5 MB.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

STEP = 15.0
"""Seconds of a point."""
POINTS = 60
LOOK = 5.0
"""Seconds between two looks."""
RINGS = 10_000
"""Shards of which points are kept; of those beyond, only their mapping's are."""

Points: TypeAlias = "array[float] | int"
"""A ring; or the step since which a shard has been seen, and never behind."""


@dataclass(slots=True, kw_only=True)
class History:
    """The rings of all mappings."""

    rings: int = RINGS
    _shards: dict[str, dict[str, Points]] = field(default_factory=dict)
    _mappings: dict[str, array[float]] = field(default_factory=dict)
    _step: int = 0

    def look(self, ages: Mapping[str, Mapping[str, float]], at: float) -> None:
        """Take the ages of this moment. What they do not name is forgotten: it is gone, or another replica's.

        Args:
            ages: seconds, by mapping and shard.
            at: seconds on a clock that never goes back.
        """
        step = int(at // STEP)
        blank = range(max(self._step + 1, step - POINTS + 1), step + 1)
        for gone in self._mappings.keys() - ages.keys():
            del self._mappings[gone], self._shards[gone]
        room = self.rings - sum(len(shards) for shards in self._shards.values())
        for mapping, now in ages.items():
            shards = self._shards.setdefault(mapping, {})
            for gone in shards.keys() - now.keys():
                del shards[gone]
                room += 1
            for shard, age in now.items():
                points = shards.get(shard)
                if points is None:
                    if room <= 0:
                        continue
                    room -= 1
                    points = shards[shard] = step
                if isinstance(points, int):
                    if age <= 0.0:
                        continue
                    points = shards[shard] = _level(points, step)
                _take(points, age, step, blank)
            ring = self._mappings.get(mapping)
            if ring is None:
                ring = self._mappings[mapping] = _blank()
            _take(ring, max(now.values(), default=math.nan), step, blank)
        self._step = step

    def of_mappings(self) -> dict[str, list[float | None]]:
        """The oldest shard of each mapping, oldest point first; None where nothing is known."""
        return {mapping: self._read(ring) for mapping, ring in self._mappings.items()}

    def of_shards(self, mapping: str, shards: Iterable[str]) -> dict[str, list[float | None]]:
        """The same of these shards, as far as there is anything."""
        rings = self._shards.get(mapping, {})
        return {shard: self._read(rings[shard]) for shard in shards if shard in rings}

    def _read(self, ring: Points) -> list[float | None]:
        if isinstance(ring, int):
            ring = _level(ring, self._step + 1)
        start = (self._step + 1) % POINTS
        return [None if math.isnan(age) else round(age, 1) for age in (*ring[start:], *ring[:start])]


def _blank() -> array[float]:
    return array("f", [math.nan]) * POINTS


def _level(since: int, until: int) -> array[float]:
    """A ring that is 0 from one step to another, which is not part of it."""
    ring = _blank()
    for step in range(max(since, until - POINTS), until):
        ring[step % POINTS] = 0.0
    return ring


def _take(ring: array[float], age: float, step: int, blank: Iterable[int]) -> None:
    for each in blank:
        ring[each % POINTS] = math.nan
    slot = step % POINTS
    if not ring[slot] >= age:  # nan is not
        ring[slot] = age
