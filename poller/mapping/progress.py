"""The order of positions, and the highest one below which everything is settled. No I/O, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice, repeat
from operator import is_
from typing import TypeAlias

from poller.model.record import After, At, From, Position, Record, TrimHorizon, bodies_bytes

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
    """What of a partition is held: read, and not settled. Records may be settled in any order.

    A queue's messages are settled as they were read, nearly always: a read is kept as it came until others are settled.
    """

    def __init__(self, *, by_receipt: bool = False) -> None:
        """A queue's messages are told apart by their receipts: one may be read twice under one id."""
        self.watermark = ""
        """The key of the last record before which, itself included, everything read is settled; "" for none yet."""
        self._by_receipt = by_receipt
        self._held: dict[str, Record] = {}
        self._order: deque[str] = deque()  # the keys of what was read; the first one is held
        self._reads: dict[int, Sequence[Record]] = {}  # behind those, by the identity of their first record
        self._in_reads = 0

    def __len__(self) -> int:
        return len(self._held) + self._in_reads

    def took(self, records: Sequence[Record]) -> None:
        """These were read, in order, behind everything read before."""
        if self._by_receipt and records:
            self._reads[id(records[0])] = records
            self._in_reads += len(records)
        else:
            self._took(records)

    def _took(self, records: Sequence[Record]) -> None:
        keys = self._keys(records)
        self._held.update(zip(keys, records, strict=True))
        self._order.extend(keys)

    def settled(self, records: Sequence[Record]) -> int:
        """These are done with. Answers their bytes."""
        if self._reads:
            read = self._reads.get(id(records[0])) if records else None
            if read is not None and (read is records or _same(read, records)):
                del self._reads[id(records[0])]
                self._in_reads -= len(records)
                return bodies_bytes(records)
            for read in self._reads.values():
                self._took(read)
            self._reads.clear()
            self._in_reads = 0
        held, order = self._held, self._order
        keys = self._keys(records)
        done = list(filter(None, map(held.pop, keys, repeat(None))))
        if keys and keys == list(islice(order, len(keys))):  # they are the first of all, as nearly always
            for _ in keys:
                order.popleft()
            self.watermark = keys[-1]
        while order and order[0] not in held:
            self.watermark = order.popleft()
        return bodies_bytes(done)

    @property
    def oldest(self) -> Record | None:
        """The first record held."""
        if self._order:
            return self._held[self._order[0]]
        return next(iter(self._reads.values()))[0] if self._reads else None

    def _keys(self, records: Sequence[Record]) -> list[str]:
        return [record.receipt for record in records] if self._by_receipt else [record.id for record in records]


def _same(read: Sequence[Record], records: Sequence[Record]) -> bool:
    return len(read) == len(records) and all(map(is_, read, records))
