"""The order of positions, and the highest one below which everything is settled. No I/O, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

from poller.model.record import After, At, From, Position, Record, TrimHorizon

_Rank: TypeAlias = tuple[int, float]


def forward(stored: Position, reached: Position) -> Position:
    """The later of two positions of one shard."""
    if type(stored) is After and type(reached) is After:  # nearly always
        return stored if behind(reached.sequence, stored.sequence) else reached
    return reached if _rank(reached) > _rank(stored) else stored


def behind(sequence: str, other: str) -> bool:
    """Whether a sequence number lies before another. As text, "9" would follow "10"."""
    if len(sequence) == len(other):  # nearly always; then text tells the same, and costs less than numbers of 56 digits
        return sequence < other
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
        self.watermark = ""
        """The id of the last record before which, itself included, everything read is settled; "" for none yet."""
        self._held: dict[str, Record] = {}
        self._order: deque[tuple[str, str]] = deque()  # key and id of what was read; the first one is held

    def __len__(self) -> int:
        return len(self._held)

    def took(self, records: Sequence[Record]) -> None:
        """These were read, in order, behind everything read before."""
        keys = [record.receipt or record.id for record in records]  # a queue may hand out an id twice
        self._held.update(zip(keys, records, strict=True))
        self._order.extend([(key, record.id) for key, record in zip(keys, records, strict=True)])

    def settled(self, records: Sequence[Record]) -> int:
        """These are done with. Answers their bytes."""
        held, order = self._held, self._order
        freed = 0
        for record in records:
            if held.pop(record.receipt or record.id, None) is not None:
                freed += len(record.body)
        while order and order[0][0] not in held:
            _, self.watermark = order.popleft()
        return freed

    @property
    def oldest(self) -> Record | None:
        """The first record held."""
        return self._held[self._order[0][0]] if self._order else None
