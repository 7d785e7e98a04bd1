"""A mapping's filters: which records are delivered. Records are handed on as they are. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import UNSET

from poller.mapping.filtering.explain import refusal
from poller.mapping.filtering.look import Kind, Looker
from poller.mapping.filtering.match import matches
from poller.mapping.filtering.operators import PatternError
from poller.mapping.filtering.pattern import Node, compile_pattern
from poller.model.record import Record


@dataclass(frozen=True, slots=True)
class Filters:
    """FilterCriteria, compiled. Two of the same patterns are equal."""

    kind: Kind
    patterns: tuple[str, ...]
    """JSON texts; a record that matches any of them is delivered."""
    _nodes: tuple[Node, ...] = field(init=False, repr=False, compare=False)
    _looker: Looker = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        nodes = tuple(compile_pattern(pattern) for pattern in self.patterns)
        object.__setattr__(self, "_nodes", nodes)
        object.__setattr__(self, "_looker", Looker(self.kind, nodes))

    def split(self, records: Sequence[Record]) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
        """The records to deliver and those to settle without, each in their order."""
        kept: list[Record] = []
        dropped: list[Record] = []
        for record in records:
            (kept if self.match(record.body) else dropped).append(record)
        return tuple(kept), tuple(dropped)

    def match(self, body: bytes) -> bool:
        """Whether a record is delivered, by its element of the event."""
        seen = self._looker.look(body)
        return seen is not UNSET and any(matches(node, seen) for node in self._nodes)

    def reads(self, body: bytes) -> bool:
        """Whether a record can be read at all; one that cannot is not delivered."""
        return self._looker.look(body) is not UNSET

    def refusals(self, body: bytes) -> tuple[str, ...]:
        """Why a record is not delivered, one line for each filter; nothing when it is."""
        seen = self._looker.look(body)
        if seen is UNSET:
            return ("the record cannot be read",)
        found = [refusal(node, seen) for node in self._nodes]
        return () if "" in found else tuple(found)


def mistakes_for(kind: Kind, pattern: Node) -> Iterator[PatternError]:
    """What AWS refuses of a pattern that is right in itself: plain text where records of this source hold JSON."""
    key = _JSON_ONLY.get(kind)
    if any(each.key == key and each.node.leaf is not None for each in pattern.named()):
        text = f"is a list of alternatives, but {key} of this source is matched as JSON, allowed: an object of its keys"
        yield PatternError((str(key),), text)


_JSON_ONLY: Mapping[Kind, str] = {"kinesis": "data", "dynamodb": "dynamodb"}
