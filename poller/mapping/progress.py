"""The order of positions, and the highest one below which everything is settled. No I/O, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice, repeat
from typing import TypeAlias

from poller.model.record import After, At, From, Position, Record, TrimHorizon, are_same, bodies_bytes

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

    A read is kept as it came until some of its records are settled without the others: nearly always all are at once.
    """

    __slots__ = ("_apart", "_by_receipt", "_count", "_reads", "watermark")

    def __init__(self, *, by_receipt: bool = False) -> None:
        """A queue's messages are told apart by their receipts: one may be read twice under one id."""
        self.watermark = ""
        """The key of the last record before which, itself included, everything read is settled; "" for none yet."""
        self._by_receipt = by_receipt
        self._apart: _Apart | None = None
        """What is told apart record by record."""
        self._reads: dict[int, Sequence[Record]] = {}
        """What came behind those, read by read, by the identity of the first record."""
        self._count = 0
        """The records of these."""

    def __len__(self) -> int:
        return self._count + (len(self._apart.held) if self._apart else 0)

    def took(self, records: Sequence[Record]) -> None:
        """These were read, in order, behind everything read before."""
        if not records:
            return
        first = id(records[0])
        if first in self._reads:  # a source that hands out what it handed out before
            self._tell_apart()
        self._reads[first] = records
        self._count += len(records)

    def settled(self, records: Sequence[Record]) -> int:
        """These are done with. Answers their bytes."""
        if not records:
            return 0
        if self._is_next_read(records):
            del self._reads[id(records[0])]
            self._count -= len(records)
            if not self._by_receipt:
                self.watermark = records[-1].id
            return bodies_bytes(records)
        apart = self._tell_apart()
        done = apart.settled([self._key(record) for record in records])
        self.watermark = apart.watermark or self.watermark
        if not apart.held:
            self._apart = None
        return bodies_bytes(done)

    def _tell_apart(self) -> _Apart:
        """Keep what was kept read by read record by record."""
        apart = self._apart = self._apart or _Apart()
        for read in self._reads.values():
            apart.took([self._key(record) for record in read], read)
        self._reads.clear()
        self._count = 0
        return apart

    @property
    def oldest(self) -> Record | None:
        """The first record held."""
        if self._apart:
            return self._apart.held[self._apart.order[0]]
        return next(iter(self._reads.values()))[0] if self._reads else None

    def _is_next_read(self, records: Sequence[Record]) -> bool:
        """Whether this is one whole read, behind which nothing older is held; of a queue, one in any order."""
        first = id(records[0])
        read = self._reads.get(first)
        if read is None or not (self._by_receipt or (self._apart is None and first == next(iter(self._reads)))):
            return False
        return are_same(read, records)

    def _key(self, record: Record) -> str:
        return record.receipt if self._by_receipt else record.id


class _Apart:
    """Records told apart by their keys."""

    __slots__ = ("held", "order", "watermark")

    def __init__(self) -> None:
        self.held: dict[str, Record] = {}
        self.order: deque[str] = deque()
        """Of what was read, settled or not; the first one is held."""
        self.watermark = ""

    def took(self, keys: Sequence[str], records: Sequence[Record]) -> None:
        self.held.update(zip(keys, records, strict=True))
        self.order.extend(keys)

    def settled(self, keys: Sequence[str]) -> list[Record]:
        """Answers those of them that were held."""
        held, order = self.held, self.order
        done = list(filter(None, map(held.pop, keys, repeat(None))))
        if keys == list(islice(order, len(keys))):  # they are the first of all, as nearly always
            for _ in keys:
                order.popleft()
            self.watermark = keys[-1]
        while order and order[0] not in held:
            self.watermark = order.popleft()
        return done
