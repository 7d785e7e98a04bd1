"""The order of positions, and the highest one below which everything is settled. No I/O, no clock."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import islice, repeat
from operator import is_
from typing import TypeAlias

from poller.model.record import After, At, From, Position, Record, TrimHorizon, are_same, bodies_bytes

_Rank: TypeAlias = tuple[int, float]
_GONE = 16
"""Receives that have gone and may be remembered besides as many as are held."""


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
    """What of a shard is held: read, and not settled. Records may be settled in any order.

    They are kept in the order they came until some are settled before others: nearly always the next ones are.
    """

    __slots__ = ("_apart", "_next", "watermark")

    def __init__(self) -> None:
        self.watermark = ""
        """The id of the last record before which, itself included, everything read is settled; "" for none yet."""
        self._apart: _Apart | None = None
        """What is told apart record by record."""
        self._next: deque[Record] | None = None
        """What came behind those; an empty deque takes as much as all else that an idle shard is."""

    def __len__(self) -> int:
        return (len(self._next) if self._next else 0) + (len(self._apart.held) if self._apart else 0)

    def took(self, records: Sequence[Record]) -> None:
        """These were read, in order, behind everything read before."""
        if self._next is None:
            self._next = deque(records)
        else:
            self._next += records

    def settled(self, records: Sequence[Record]) -> int:
        """These are done with. Answers their bytes."""
        if not records:
            return 0
        if self._are_next(records):
            self.watermark = records[-1].id
            return bodies_bytes(records)
        apart = self._apart = self._apart or _Apart()
        apart.took([record.id for record in self._next or ()], self._next or ())
        self._next = None
        done = apart.settled([record.id for record in records])
        self.watermark = apart.watermark or self.watermark
        if not apart.held:
            self._apart = None
        return bodies_bytes(done)

    def _are_next(self, records: Sequence[Record]) -> bool:
        """Whether these are the first of all that are held; then they are let go."""
        held = self._next
        if self._apart or held is None or len(records) > len(held) or not all(map(is_, records, held)):
            return False
        if len(records) == len(held):
            self._next = None
        else:
            for _ in records:
                held.popleft()
        return True

    @property
    def oldest(self) -> float | None:
        """When the first record held arrived."""
        if self._apart:
            return self._apart.first.arrived
        return self._next[0].arrived if self._next else None


class Received:
    """What of a queue is held. Messages are told apart by their receipts: one may be received twice under one id.

    A receive is kept as it came until some of its messages are settled without the others, in whatever order.
    """

    __slots__ = ("_apart", "_arrivals", "_count", "_reads")

    def __init__(self) -> None:
        self._apart: _Apart | None = None
        """What is told apart message by message."""
        self._reads: dict[int, tuple[float, Sequence[Record]]] = {}
        """What came behind those, receive by receive, by the identity of the first message; and the oldest arrival."""
        self._count = 0
        """The messages of these."""
        self._arrivals: list[tuple[float, int]] = []
        """A heap of theirs: each receive's oldest arrival and its key; of some that have gone, too."""

    def __len__(self) -> int:
        return self._count + (len(self._apart.held) if self._apart else 0)

    def took(self, records: Sequence[Record]) -> None:
        """These were received."""
        if not records:
            return
        first = id(records[0])
        if first in self._reads:  # a source that hands out what it handed out before
            self._tell_apart()
        arrived = min([record.arrived for record in records])
        self._reads[first] = arrived, records
        self._count += len(records)
        if len(self._arrivals) > 2 * len(self._reads) + _GONE:
            self._arrivals = [(arrived, key) for key, (arrived, _) in self._reads.items()]
            heapify(self._arrivals)
        else:
            heappush(self._arrivals, (arrived, first))

    def settled(self, records: Sequence[Record]) -> int:
        """These are done with. Answers their bytes."""
        if not records:
            return 0
        first = id(records[0])
        read = self._reads.get(first)
        if read is not None and are_same(read[1], records):
            del self._reads[first]
            self._count -= len(records)
            return bodies_bytes(records)
        apart = self._tell_apart()
        done = apart.settled([record.receipt for record in records])
        if not apart.held:
            self._apart = None
        return bodies_bytes(done)

    def _tell_apart(self) -> _Apart:
        """Keep what was kept receive by receive message by message."""
        apart = self._apart = self._apart or _Apart()
        for _, read in self._reads.values():
            apart.took([record.receipt for record in read], read)
        self._reads.clear()
        self._arrivals.clear()
        self._count = 0
        return apart

    @property
    def oldest(self) -> float | None:
        """When the message arrived that is older than all others held: one that comes again may come behind new ones."""
        arrivals, reads = self._arrivals, self._reads
        oldest = math.inf
        while arrivals:
            arrived, key = arrivals[0]
            if key in reads and reads[key][0] == arrived:
                oldest = arrived
                break
            heappop(arrivals)
        if self._apart:
            oldest = min(oldest, *[message.arrived for message in self._apart.held.values()])
        return None if oldest == math.inf else oldest


class _Apart:
    """Records told apart by their keys."""

    __slots__ = ("_order", "held", "watermark")

    def __init__(self) -> None:
        self.held: dict[str, Record] = {}
        self._order: deque[str] = deque()
        """Of what was read, settled or not; the first one is held."""
        self.watermark = ""

    @property
    def first(self) -> Record:
        """The first one held, where there is one."""
        return self.held[self._order[0]]

    def took(self, keys: Sequence[str], records: Iterable[Record]) -> None:
        self.held.update(zip(keys, records, strict=True))
        self._order.extend(keys)

    def settled(self, keys: Sequence[str]) -> list[Record]:
        """Answers those of them that were held."""
        held, order = self.held, self._order
        done = list(filter(None, map(held.pop, keys, repeat(None))))
        if keys == list(islice(order, len(keys))):  # they are the first of all, as nearly always
            for _ in keys:
                order.popleft()
            self.watermark = keys[-1]
        while order and order[0] not in held:
            self.watermark = order.popleft()
        return done
