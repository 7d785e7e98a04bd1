"""Counters, gauges and histograms that write themselves as lines of a scrape. No I/O, no clock, no lock: one thread.

A series knows the beginning of its lines from its birth, so a scrape only adds the numbers: it runs on the event loop
that delivers records, and the client library's own way through samples and label dictionaries takes nearly ten times as long.
Both text formats have the same lines for what we export.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Generic, Protocol, TypeVar

from poller.service.families import Family


class Series(Protocol):
    """One family's numbers for one set of labels."""

    def text(self) -> str:
        """Its lines as they stand now."""


S = TypeVar("S", bound=Series)


class Instrument(Generic[S]):
    """A family whose series are made when they are first asked for; one without labels has its series at once."""

    def __init__(self, family: Family, make: Callable[[Family, str], S]) -> None:
        self._family = family
        self._make = make
        self._series: dict[tuple[str, ...], S] = {}
        if not family.labels:
            self.labels()

    def labels(self, *values: str) -> S:
        """The series with these values of all labels, in the order of the table."""
        series = self._series.get(values)
        if series is None:
            named = zip(self._family.labels, values, strict=True)
            series = self._series[values] = self._make(self._family, ",".join(f'{n}="{escaped(v)}"' for n, v in named))
        return series

    def remove_by_labels(self, labels: Mapping[str, str]) -> None:
        """Forget the series that have these labels."""
        places = {self._family.labels.index(name): value for name, value in labels.items()}
        for values in [each for each in self._series if all(each[at] == value for at, value in places.items())]:
            del self._series[values]

    def text(self) -> Iterator[str]:
        """The lines of all series, in the order of their birth."""
        return (series.text() for series in self._series.values())


class Counter:
    """A number that grows: whoever counts adds to `value`."""

    __slots__ = ("_start", "value")

    def __init__(self, family: Family, labels: str) -> None:
        self._start = start(family.name, labels)
        self.value = 0.0

    def text(self) -> str:
        """Its line."""
        return f"{self._start}{self.value!r}\n"


class Gauge:
    """A number that is what it is."""

    __slots__ = ("_start", "_value")

    def __init__(self, family: Family, labels: str) -> None:
        self._start = start(family.name, labels)
        self._value = 0.0

    def set(self, value: float) -> None:
        """Make it this."""
        self._value = float(value)

    def text(self) -> str:
        """Its line."""
        return f"{self._start}{number(self._value)}\n"


class Histogram:
    """How often a number was at most so large."""

    __slots__ = ("_bounds", "_count", "_counts", "_starts", "_sum", "_total")

    def __init__(self, family: Family, labels: str) -> None:
        name, others = family.name, f"{labels}," if labels else ""
        self._bounds = family.buckets
        self._counts = [0] * (len(family.buckets) + 1)
        self._total = 0.0
        bounds = (*family.buckets, math.inf)
        self._starts = tuple(start(f"{name}_bucket", f'{others}le="{number(float(bound))}"') for bound in bounds)
        self._count = start(f"{name}_count", labels)
        self._sum = start(f"{name}_sum", labels)

    def observe(self, value: float) -> None:
        """Count a number."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def text(self) -> str:
        """Its lines: a bucket holds those of the smaller ones, too."""
        counts = list(accumulate(self._counts))
        buckets = "".join([f"{start}{count}\n" for start, count in zip(self._starts, counts, strict=True)])
        return f"{buckets}{self._count}{counts[-1]}\n{self._sum}{self._total!r}\n"


def start(name: str, labels: str) -> str:
    """A line up to its number."""
    return f"{name}{{{labels}}} " if labels else f"{name} "


def escaped(value: str) -> str:
    """The value of a label as it stands between its quotes."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def number(value: float) -> str:
    """As both formats spell it."""
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
