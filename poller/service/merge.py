"""The metrics of several processes made one page: what is counted never goes down. No I/O, no clock.

Counters and histograms are summed, gauges are joined as the table of metrics says. What a process had counted when it
was last seen stays in the sums when it ends, or does not answer; its gauges go. Sums are exact and rounded once, so
that the order in which processes end cannot take the last digit of a total back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from poller.service.families import FAMILIES, PROCESS
from poller.service.instruments import escaped, number

Value: TypeAlias = int | Fraction | float
"""Exact where it is counted, a float of a gauge."""
Series: TypeAlias = dict[str, Value]
"""By what stands before the number: the name and its labels."""

_JOIN: Mapping[str, Callable[[Iterable[Value]], Value]] = {"sum": math.fsum, "max": max, "min": min}
_TOGETHER = {family.name: _JOIN[family.together] for family in (*FAMILIES, *PROCESS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One metric of a page."""

    help: str
    kind: str
    series: Series

    @property
    def counted(self) -> bool:
        """It only grows while its process lives."""
        return self.kind in ("counter", "histogram")


Page: TypeAlias = Mapping[str, Block]
"""What one process tells, by the name of the metric, in the order in which it tells it."""


def parse(text: str) -> Page:
    """Read Prometheus text as `poller` writes it: no timestamps.

    Raises:
        ValueError: it is something else.
    """
    helps: dict[str, str] = {}
    page: dict[str, Block] = {}
    block: Block | None = None
    for line in text.split("\n"):  # a label may hold what other splitting takes for the end of a line
        if line.startswith("# HELP "):
            name, _, helps[name] = line.removeprefix("# HELP ").partition(" ")
        elif line.startswith("# TYPE "):
            name, _, kind = line.removeprefix("# TYPE ").partition(" ")
            block = page[name] = Block(help=helps.get(name, ""), kind=kind, series={})
        elif line and not line.startswith("#"):
            if block is None:
                raise ValueError(f"a number without a type: {line}")
            series, _, value = line.rpartition(" ")
            block.series[series] = _exact(value) if block.counted else float(value)
    return page


def _exact(text: str) -> Value:
    if text.isdigit():
        return int(text)
    value = float(text)
    return int(value) if value.is_integer() else Fraction(value)


class Tally:
    """What processes have counted, those that ended included."""

    def __init__(self) -> None:
        self._ended: dict[str, Series] = {}
        """By the name of the metric."""
        self._last: dict[str, dict[str, Series]] = {}
        """Of each process that lives, as it was last seen."""

    def begun(self, process: str) -> None:
        """A process lives, under a name that no other had before."""
        self._last[process] = {}

    def ended(self, process: str) -> None:
        """It ended: what it was seen to have counted stays."""
        for name, series in self._last.pop(process, {}).items():
            _add(self._ended.setdefault(name, {}), series)

    def keep(self, mappings: Collection[str]) -> None:
        """Forget what ended processes counted of other mappings than these: they are not configured any more."""
        for series in self._ended.values():
            for each in [each for each in series if _is_of_another(each, mappings)]:
                del series[each]

    def merge(self, seen: Mapping[str, Page]) -> Page:
        """One page of those that answered, and of what the others had counted.

        Args:
            seen: by process. An answer of one that has ended meanwhile comes too late: its counts are in already.
        """
        pages = {process: page for process, page in seen.items() if process in self._last}
        for process, page in pages.items():
            self._see(process, page)
        together: dict[str, Block] = {}
        for page in pages.values():
            for name, block in page.items():
                together.setdefault(name, Block(help=block.help, kind=block.kind, series={}))
        silent = [last for process, last in self._last.items() if process not in pages]
        for name, block in together.items():
            told = [page[name].series for page in pages.values() if name in page]
            if block.counted:
                for series in (*told, *(last.get(name, {}) for last in silent), self._ended.get(name, {})):
                    _add(block.series, series)
            else:
                block.series.update(_joined(told, _TOGETHER.get(name, max)))
        return together

    def _see(self, process: str, page: Page) -> None:
        # Two scrapes may cross: what was shown once is the least that there is. A series that is gone was taken away.
        before = self._last[process]
        self._last[process] = {
            name: {each: max(value, before.get(name, {}).get(each, 0)) for each, value in block.series.items()}
            for name, block in page.items()
            if block.counted
        }


def _add(total: Series, more: Mapping[str, Value]) -> None:
    for each, value in more.items():
        total[each] = total.get(each, 0) + value


def _joined(told: Sequence[Series], join: Callable[[Iterable[Value]], Value]) -> Series:
    values: dict[str, list[Value]] = {}
    for series in told:
        for each, value in series.items():
            values.setdefault(each, []).append(value)
    return {each: join(of) for each, of in values.items()}


def _is_of_another(series: str, mappings: Collection[str]) -> bool:
    """A mapping's label is the first of a series."""
    _, found, labels = series.partition('{mapping="')
    return bool(found) and not any(labels.startswith(f'{escaped(mapping)}"') for mapping in mappings)


def render(page: Page, *, openmetrics: bool, names: Collection[str] = ()) -> str:
    """The page as text.

    Args:
        names: the samples asked for; their whole metrics are told. All when there are none.
    """
    wanted = {name: block for name, block in page.items() if not names or _samples(name) & set(names)}
    end = "# EOF\n" if openmetrics else ""
    lines = (line for name, block in wanted.items() for line in _lines(name, block, openmetrics=openmetrics))
    return "".join(lines) + end


def _lines(name: str, block: Block, *, openmetrics: bool) -> Iterator[str]:
    known = name.removesuffix("_total") if openmetrics and block.kind == "counter" else name
    yield f"# HELP {known} {block.help}\n# TYPE {known} {block.kind}\n"
    for series, value in block.series.items():
        whole = block.kind == "histogram" and not series.startswith(f"{name}_sum")
        yield f"{series} {int(value) if whole else number(float(value))}\n"


def _samples(name: str) -> set[str]:
    return {name, f"{name}_bucket", f"{name}_count", f"{name}_sum"}
