"""The seams of the house, each as small as its callers need. Protocols only.

Every method may raise `Transient`, `Throttled` or `Denied`; others are named. Cancelling a call is always allowed,
but a cancelled `Source.read` of a queue hides its messages until their visibility ends, so nobody does it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from poller.model.account import Account
from poller.model.facts import Fact
from poller.model.outcome import Outcome
from poller.model.record import Cursor, Page, Record, Topology
from poller.model.trace import Trace

Clock: TypeAlias = Callable[[], float]
"""Wall time, unix seconds."""

Observe: TypeAlias = Callable[[Fact], None]
"""Takes a fact; never raises, never waits."""

Admit: TypeAlias = Callable[[int], Awaitable[None]]
"""Waits until this many bytes of an answer may be taken into memory. Called once a read, before its body is taken."""


class Unsettled(NamedTuple):
    """A message that could not be deleted, or whose lease could not be renewed."""

    record: Record
    reason: str
    """One line."""
    passing: bool = False
    """It may be tried again."""


class Source(Protocol):
    """Where records come from."""

    redelivers: bool
    """True for a queue: what is not deleted comes back by itself. False for a stream: its position is the checkpoint."""
    ordered: bool
    """True where batches must follow one another (shards, FIFO queues); False where they may overtake."""

    async def topology(self) -> Topology:
        """List the partitions, all pages of them. Raises `Transient` for a listing that is torn."""

    async def latest(self, partition: str) -> Cursor:
        """A cursor behind the newest record, whose position is the moment of this call by the *source's* clock."""

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        """Read at most `limit` records; a token that expired is replaced silently, from the cursor's position.

        Raises:
            Trimmed: the position is older than the oldest record.
            ShardGone: there is no such shard any more.
        """

    async def delete(self, records: Sequence[Record]) -> Sequence[Unsettled]:
        """Settle a queue's messages; answers those that could not be deleted. A stream answers nothing."""

    async def release(self, records: Sequence[Record]) -> None:
        """Make a queue's messages visible again at once. A stream does nothing."""

    async def extend(self, records: Sequence[Record], seconds: int) -> Sequence[Unsettled]:
        """Hide a queue's messages for so long from now on; answers those that are not. A stream answers nothing."""

    async def check(self) -> None:
        """Find out whether the source exists and may be read. Raises `Denied` with one line that says what to do."""


class Target(Protocol):
    """What is invoked."""

    async def invoke(self, event: bytes, request_id: str, trace: Trace | None = None) -> Outcome:
        """Invoke once, never twice. Raises nothing: whatever happens is an outcome. Cancelling kills a local function.

        Args:
            event: sent as it is.
            request_id: the same for every try of an unchanged batch.
            trace: what the event is part of; None: nobody said.
        """

    async def check(self) -> float | None:
        """Find out, without invoking it, whether the function exists and may be invoked. Raises `Denied`.

        Returns:
            The seconds that an invocation may take; None when that cannot be known.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """An invocation that is about to start, for those who trace it."""

    mapping: str
    source: str
    """Its EventSourceArn."""
    shard: str
    function: str
    records: int
    request_id: str
    attempt: int
    """1 for the first try of this batch."""
    traces: tuple[Trace, ...]
    """What its messages say that they are part of, each once."""


class Span(Protocol):
    """The trace of an invocation under way. Nothing of it raises or waits."""

    @property
    def trace(self) -> Trace:
        """What the function is told that the event is part of."""

    def end(self, outcome: Outcome | None) -> None:
        """The invocation ended; None: it was cut short."""


class Tracing(Protocol):
    """Who follows batches on their way."""

    def begin(self, sending: Sending) -> Span:
        """An invocation starts. Never raises, never waits."""


class Destination(Protocol):
    """Where the account of given-up records goes."""

    async def send(self, account: Account) -> None:
        """Deliver once. Raises `Transient` or `Denied`; the caller counts it and goes on."""

    async def check(self) -> None:
        """Find out whether the destination exists. Raises `Denied`."""


class Row(NamedTuple):
    """A stored value with the version that fences it."""

    value: bytes
    version: int


class Store(Protocol):
    """Who remembers: a map from key to versioned bytes, with compare-and-swap.

    A key is a folder, "/", and the rest: a mapping's rows lie under its name, the replicas' own under "@members".
    """

    shared: bool
    """True where other processes may see and write the same rows."""
    pace: float
    """Seconds between two writes of one shard's row while nothing fails: what a crash repeats at most. 0: no pause."""

    async def get(self, key: str) -> Row | None:
        """The row as the last acknowledged write left it, None when there is none."""

    async def put(self, key: str, value: bytes, expected: int) -> int:
        """Write if the row's version is `expected` (0: there is no row), durably. Answers the new version, `expected` + 1.

        Raises:
            Superseded: the row has another version.
        """

    def scan(self, prefix: str) -> AsyncIterator[tuple[str, Row]]:
        """All rows whose key starts with `prefix`, in key order, each as it was at some moment of the scan.

        Args:
            prefix: at least a whole folder, "/" included.
        """

    async def delete(self, key: str, expected: int) -> None:
        """Remove the row if its version is `expected`. Raises `Superseded`."""

    async def wake(self) -> None:
        """Tell the others that they should look, where the store can; a hint, which may be lost. Raises nothing."""

    async def wait(self, seconds: float) -> None:
        """Return when somebody called `wake` or, at the latest, after `seconds`. Raises nothing."""
