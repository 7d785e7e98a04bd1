"""The order of positions, and the highest one below which everything is settled. No I/O, no clock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias

from poller.model.record import After, At, From, Position, Record, TrimHorizon

_Rank: TypeAlias = tuple[int, float]


def forward(stored: Position, reached: Position) -> Position:
    """The later of two positions of one shard."""
    return reached if _rank(reached) > _rank(stored) else stored


def behind(sequence: str, other: str) -> bool:
    """Whether a sequence number lies before another. As text, "9" would follow "10"."""
    return int(sequence) < int(other)


def _rank(position: Position) -> _Rank:
    match position:
        case TrimHorizon():
            return (0, 0)
        case At(time=time):
            return (1, time)
        case From(sequence=sequence):
            return (2, 2 * int(sequence))
        case After(sequence=sequence):
            return (2, 2 * int(sequence) + 1)


def spell(position: Position) -> str:
    """The position for people: TRIM_HORIZON, a time in unix seconds, or a sequence number."""
    match position:
        case TrimHorizon():
            return "TRIM_HORIZON"
        case At(time=time):
            return f"AT_TIMESTAMP {time:.3f}"
        case From(sequence=sequence):
            return f"AT_SEQUENCE_NUMBER {sequence}"
        case After(sequence=sequence):
            return sequence


class Progress:
    """What of a partition is held: read, and not settled. Records may be settled in any order."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, tuple[Record, str]] = OrderedDict()  # with the id of the record read before it
        self._last = ""
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def took(self, records: Sequence[Record]) -> None:
        """These were read, in order, behind everything read before."""
        for record in records:
            self._held[record.receipt or record.id] = (record, self._last)  # a queue may hand out an id twice
            self._last = record.id
            self.size_bytes += len(record.body)

    def settled(self, records: Sequence[Record]) -> int:
        """These are done with. Answers their bytes."""
        freed = 0
        for record in records:
            if self._held.pop(record.receipt or record.id, None) is not None:
                freed += len(record.body)
        self.size_bytes -= freed
        return freed

    @property
    def oldest(self) -> Record | None:
        """The first record held."""
        return next(iter(self._held.values()))[0] if self._held else None

    @property
    def watermark(self) -> str:
        """The id of the last record before which, itself included, everything read is settled; "" for none yet."""
        return next(iter(self._held.values()))[1] if self._held else self._last
