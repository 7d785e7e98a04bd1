"""Looks at a daemon's memory between waves of records: whether it grows with what it has delivered."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from tests.servers.loaded import Daemon, Double, until

_SETTLED = 0.5
"""Seconds of reading empty shards before a look, in which what is delivered is let go."""
_PATIENCE = 600.0


@dataclass(frozen=True, kw_only=True)
class Look:
    """The daemon between two waves."""

    records: int
    """Delivered so far."""
    resident_bytes: int


def waves(double: Double, process: Daemon, *, shards: int, records: int, count: int) -> Iterator[Look]:
    """Deliver so many records in every shard in so many waves, and look after each."""
    each = records // count
    for number in range(1, count + 1):
        double.fill(each)
        until(lambda: bool(double.totals()["records"] >= each * shards), patience=_PATIENCE, every=0.1)
        time.sleep(_SETTLED)
        yield Look(records=number * each * shards, resident_bytes=process.resident_bytes())


def slope(looks: Sequence[Look]) -> float:
    """Bytes for each record: the median of the slopes between any two looks, which one step more or less does not move."""
    return statistics.median(
        (after.resident_bytes - before.resident_bytes) / (after.records - before.records)
        for before, after in combinations(looks, 2)
    )
