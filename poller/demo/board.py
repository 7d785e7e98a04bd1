"""What was produced and what arrived. No I/O, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from rich.table import Table

_DELIVERED = "delivered "


class Scores:
    """Counts of each mapping, by record."""

    def __init__(self, mappings: Sequence[str]) -> None:
        self.mappings = tuple(mappings)
        self.producing = True
        self.last_lines: deque[str] = deque(maxlen=20)
        """The end of the daemon's log."""
        self._produced: dict[str, set[str]] = {mapping: set() for mapping in mappings}
        self._delivered: dict[str, set[str]] = {mapping: set() for mapping in mappings}
        self._status: dict[str, dict[str, Any]] = {}

    @property
    def complete(self) -> bool:
        """Whether everything produced so far has arrived."""
        return all(self._produced[mapping] <= self._delivered[mapping] for mapping in self.mappings)

    def produced(self, mapping: str, record_id: str) -> None:
        """A record is about to be put."""
        self._produced[mapping].add(record_id)

    def read(self, line: str) -> None:
        """Take a line of the daemon's log; what a function printed about a delivery counts."""
        self.last_lines.append(line)
        try:
            printed = str(orjson.loads(line).get("message", ""))
        except orjson.JSONDecodeError:
            return
        if printed.startswith(_DELIVERED):
            record_id = printed.removeprefix(_DELIVERED)
            mapping = record_id.rpartition("-")[0]
            if mapping in self._delivered:
                self._delivered[mapping].add(record_id)

    def status(self, document: Iterable[dict[str, Any]]) -> None:
        """Take the daemon's answer about its mappings."""
        self._status = {mapping["name"]: mapping for mapping in document}

    def table(self) -> Table:
        """The live table."""
        table = Table(title="poller demo")
        for column in ("mapping", "state", "produced", "delivered", "on the way", "age of the oldest"):
            table.add_column(column, justify="left" if column in {"mapping", "state"} else "right")
        for mapping in self.mappings:
            status = self._status.get(mapping, {})
            ages = [shard["iterator_age_seconds"] or 0.0 for shard in status.get("shards", [])]
            table.add_row(
                mapping,
                status.get("State", "starting"),
                str(len(self._produced[mapping])),
                str(len(self._delivered[mapping])),
                str(len(self._produced[mapping] - self._delivered[mapping])),
                f"{max(ages):.1f} s" if ages else "",
            )
        return table

    def summary(self) -> list[str]:
        """A line for each mapping."""
        return [
            f"{mapping}: produced {len(self._produced[mapping])}, delivered "
            f"{len(self._delivered[mapping] & self._produced[mapping])}"
            for mapping in self.mappings
        ]
