"""Records on their way from a source to a function, and places in a stream. Immutable, no I/O, no clock."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from operator import is_
from typing import Self, TypeAlias

import msgspec

EVENT_LIMIT_BYTES = 6_291_456
"""The largest event of a synchronous invocation, measured on the serialized JSON. Source: Lambda quotas."""

_OPEN, _BETWEEN, _CLOSE = b'{"Records":[', b",", b"]}"


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as the function will see it."""

    id: str
    """A stream's sequence number (decimal), or a queue's message id."""
    body: bytes
    """This record's element of the event's `Records` array, serialized."""
    arrived: float
    """Unix seconds at which the source took the record."""
    key: str = ""
    """What order is kept by: partition key, item key, message group; "" where there is none."""
    receipt: str = ""
    """The handle that deletes the message (queues only)."""
    traced: bool = False
    """The message may say which trace it belongs to (queues only)."""


def are_same(some: Sequence[Record], others: Sequence[Record]) -> bool:
    """Whether these are the very records that those are, in the same order."""
    return some is others or (len(some) == len(others) and all(map(is_, some, others)))


class Counted(tuple[Record, ...]):  # noqa: SLOT001  # a tuple of any length has no room for them
    """Records with their bodies, and the bytes of these: asked for when they come, are batched, are sent and have gone."""

    bodies: Sequence[bytes]
    size_bytes: int

    def __new__(
        cls, records: Iterable[Record], bodies: Sequence[bytes] | None = None, size_bytes: int | None = None
    ) -> Self:
        """Take out the bodies, and count, unless somebody has."""
        counted = super().__new__(cls, records)
        counted.bodies = [record.body for record in counted] if bodies is None else bodies
        counted.size_bytes = sum(map(len, counted.bodies)) if size_bytes is None else size_bytes
        return counted


def event_of(records: Sequence[Record]) -> bytes:
    """The event that Lambda would send for these records, byte for byte."""
    if not records:
        return _OPEN + _CLOSE
    pieces = [_BETWEEN] * (2 * len(records) + 1)
    pieces[0], pieces[-1] = _OPEN, _CLOSE
    pieces[1::2] = bodies_of(records)
    return b"".join(pieces)  # copied once: an event may have 6 MiB


def event_size_bytes(records: Sequence[Record]) -> int:
    """`len(event_of(records))`, without building it."""
    return frame_bytes(len(records)) + bodies_bytes(records)


def frame_bytes(count: int) -> int:
    """What an event of so many records holds besides them."""
    return len(_OPEN) + len(_CLOSE) + max(0, count - 1) * len(_BETWEEN)


def bodies_bytes(records: Sequence[Record]) -> int:
    """The bytes of these records alone."""
    return records.size_bytes if type(records) is Counted else sum([len(record.body) for record in records])


def bodies_of(records: Sequence[Record]) -> Sequence[bytes]:
    """These records, serialized."""
    return records.bodies if type(records) is Counted else [record.body for record in records]


class TrimHorizon(msgspec.Struct, frozen=True, tag="trim_horizon"):
    """The oldest record that the stream holds."""


class At(msgspec.Struct, frozen=True, tag="at"):
    """The first record that arrived at or after a moment."""

    time: float
    """Unix seconds."""


class After(msgspec.Struct, frozen=True, tag="after"):
    """The first record behind this one, which is settled."""

    sequence: str


class From(msgspec.Struct, frozen=True, tag="from"):
    """This record, which is not settled: an operator's choice, or where another reader stopped within it."""

    sequence: str


Position: TypeAlias = TrimHorizon | At | From | After
"""A place in a shard that can be stored. LATEST is not one: it is resolved to `At` when the shard is first seen."""


class Cursor(msgspec.Struct, frozen=True):
    """Where a reader stands."""

    position: Position
    """The place to go back to when the token is refused: behind the last record *read*."""
    token: str = ""
    """The service's iterator, "" when one must be asked for."""


class Page(msgspec.Struct, frozen=True):
    """What one read of a partition brought."""

    records: tuple[Record, ...]
    cursor: Cursor | None
    """Where to read on; None at the end of a closed shard. A queue's cursor never changes."""
    behind: float = 0.0
    """Seconds between the source's newest record and this page's end; 0.0 when caught up or unknown."""
    full: bool = False
    """The read was cut by a limit, so there is more to read at once."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the serialized records."""
        return bodies_bytes(self.records)


class Partition(msgspec.Struct, frozen=True):
    """A shard as the source lists it; a queue is one partition."""

    id: str
    parents: tuple[str, ...] = ()
    """One after a split, two after a merge, none for an original shard."""
    closed: bool = False
    """No record will be added."""


class Topology(msgspec.Struct, frozen=True):
    """A source's partitions at one moment."""

    partitions: tuple[Partition, ...]
    retention: float
    """Seconds after which the source drops a record."""
    identity: str = ""
    """Differs when a stream was deleted and created anew under the same name (its creation time)."""
    lease: float = math.inf
    """Seconds for which a queue's message stays ours after it was received (its visibility timeout)."""

    @property
    def trouble(self) -> str:
        """Why nothing can be processed of this source, and what to do; "" when it can."""
        if self.lease > 0:
            return ""
        return (
            "the queue's visibility timeout is 0 seconds, so each message is handed out again while the function has it:"
            " set it to six times the function's timeout"
        )
