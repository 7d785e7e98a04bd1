"""The ages of the last quarter of an hour, for the small plots of the status page: numbers in, numbers out. No I/O, no clock.

A ring of 60 points of 15 seconds for each shard and one for each mapping. A point is the highest of the looks that fell
into it, so a short peak shows. A ring takes about 450 bytes, so 10,000 of them, more than which are not kept, 4.5 MB.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

STEP = 15.0
"""Seconds of a point."""
POINTS = 60
LOOK = 5.0
"""Seconds between two looks."""
RINGS = 10_000
"""Shards of which points are kept; of those beyond, only their mapping's are."""


@dataclass(slots=True, kw_only=True)
class History:
    """The rings of all mappings."""

    rings: int = RINGS
    _shards: dict[str, dict[str, array[float]]] = field(default_factory=dict)
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
                ring = shards.get(shard)
                if ring is None:
                    if room <= 0:
                        continue
                    room -= 1
                    ring = shards[shard] = _blank()
                _take(ring, age, step, blank)
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

    def _read(self, ring: array[float]) -> list[float | None]:
        start = (self._step + 1) % POINTS
        return [None if math.isnan(age) else round(age, 1) for age in (*ring[start:], *ring[:start])]


def _blank() -> array[float]:
    return array("f", [math.nan]) * POINTS


def _take(ring: array[float], age: float, step: int, blank: Iterable[int]) -> None:
    for each in blank:
        ring[each % POINTS] = math.nan
    slot = step % POINTS
    if not ring[slot] >= age:  # nan is not
        ring[slot] = age
