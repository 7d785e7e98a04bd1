"""What happened, as values: one fact a batch or page, never one a record. Metrics, logs and the status are made of these.

A fact of a mapping carries its name. Those that tell of every read and every batch are structs, which are made for a
fifth of what a frozen dataclass costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

from poller.model.outcome import Outcome

ReadOutcome: TypeAlias = Literal["records", "empty", "throttled", "error"]
CheckpointOutcome: TypeAlias = Literal["written", "superseded", "error"]
Condition: TypeAlias = Literal["RetryAttemptsExhausted", "RecordAgeExceeded", "Expired", "Trimmed"]
State: TypeAlias = Literal["Creating", "Enabling", "Enabled", "Disabling", "Disabled", "Updating", "Deleting"]


class SourceRead(msgspec.Struct, frozen=True, kw_only=True):
    """One read of a partition ended."""

    mapping: str
    shard: str
    outcome: ReadOutcome
    records: int = 0
    size_bytes: int = 0
    seconds: float
    behind: float | None = None
    """Seconds behind the newest record, None where the source does not say."""
    reason: str = ""
    """Why it failed, one line; "" when it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceListed:
    """The source said what it is made of."""

    mapping: str
    retention: float
    """Seconds after which it drops a record."""


class BatchSent(msgspec.Struct, frozen=True, kw_only=True):
    """An invocation is about to start."""

    mapping: str
    shard: str
    records: int
    age: float
    """Seconds since the arrival of the batch's last record: AWS's IteratorAge."""


class BatchInvoked(msgspec.Struct, frozen=True, kw_only=True):
    """An invocation ended."""

    mapping: str
    shard: str
    records: int
    outcome: Outcome
    seconds: float
    request_id: str
    attempt: int
    """1 for the first try of this batch."""
    retry_in: float | None = None
    """Seconds until the next try; None when there is none."""
    first: str = ""
    last: str = ""
    """Sequence numbers or message ids; "" where a window closes without records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsDropped:
    """Records were given up, for ever."""

    mapping: str
    shard: str
    condition: Condition
    records: int
    """0 where nobody can know how many (trimmed before they were read)."""
    first: str
    last: str
    """Sequence numbers or message ids; of a trim, where we stood and where we go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsFiltered:
    """Records that no filter lets pass were settled without an invocation."""

    mapping: str
    shard: str
    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsDiverted:
    """Records were given up and the account of it was delivered to the on-failure destination."""

    mapping: str
    shard: str
    condition: Condition
    records: int
    first: str
    last: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationFailed:
    """The account of given-up records could not be delivered; the records count as dropped, the shard goes on."""

    mapping: str
    shard: str
    records: int
    reason: str


class MessagesDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """Messages of a queue were settled."""

    mapping: str
    deleted: int
    failed: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesReleased:
    """Messages that were received and not sent were made visible again."""

    mapping: str
    released: int
    failed: int
    reason: str = ""
    """Why they were not sent, or why they could not be given back."""
    request_id: str = ""
    """Of the batch that the function did not take; "" of messages that were never tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseEnded:
    """Messages were not settled when their visibility ended: the queue hands them out again, whatever becomes of them."""

    mapping: str
    messages: int
    reason: str


class ShardStands(msgspec.Struct, frozen=True, kw_only=True):
    """A shard's standing changed: what is held, how far behind it is."""

    mapping: str
    shard: str
    checkpoint: str
    """The stored position, for people: "TRIM_HORIZON", a timestamp, or a sequence number; "" for a queue."""
    oldest: float | None
    """Arrival of the oldest record held and not settled, unix seconds; None when nothing is held."""
    behind: float
    """Seconds behind the newest record at the last read."""
    held: int
    """Records in memory: read, not settled."""
    attempt: int
    """Failed tries of the batch at the head; 0 when it did not fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardMoved:
    """A shard was opened, has to wait for its parents, ended, was let go by this replica, or has left the stream."""

    mapping: str
    shard: str
    to: Literal["owned", "blocked_on_parent", "ended", "released", "forgotten", "elsewhere"]
    position: str = ""
    owner: str = ""
    """The replica that has it, where it is another: "elsewhere"; or that ended it, where it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPassed:
    """A shard changed hands."""

    mapping: str
    shard: str
    how: Literal["claimed", "adopted", "handed_over", "lost"]
    """Taken because nobody had it; found in our hands; put into another's; taken by another while we could not beat."""
    member: str
    """The other replica; "" for nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTaken:
    """An operator's order was stored, for whoever has the shards to obey."""

    mapping: str
    shard: str
    """"" for the mapping as a whole."""
    verb: Literal["pause", "resume", "seek"]
    asked: str
    """Where a seek goes; ""."""
    who: str
    """As the operator says, and from where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WishesSeen:
    """What operators wish of a mapping was read. Times are unix seconds."""

    mapping: str
    paused: tuple[str, float] | None
    """By whom and since when the whole mapping is paused."""
    shards: Mapping[str, tuple[str, float]]
    """Shards that are paused by themselves: by whom, since when."""
    seeks: Mapping[str, tuple[str, str, float]]
    """Shards that may have yet to obey a seek: to where, by whom, since when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSought:
    """A shard's position was moved because an operator wished it: what lies between is passed over, or comes again."""

    mapping: str
    shard: str
    asked: str
    """The place as it was asked for."""
    who: str
    at: float
    """When it was asked for, unix seconds."""
    before: str
    after: str
    """Positions, for people; the same when there was nothing to pass over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberMoved:
    """A replica came, leaves, or is gone."""

    member: str
    state: Literal["up", "leaving", "gone"]
    fenced: bool
    """It was silent and was declared dead; of a member that is up: it found that out and begins anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterSeen:
    """What all replicas say of themselves was read."""

    members: Mapping[str, tuple[str, float, str]]
    """By name: state, seconds since its row was first seen as it is (the age of its last beat), address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfFenced:
    """This replica could not beat for so long that others may have taken its shards: it begins no invocation."""

    seconds: float
    """Since its last acknowledged beat was sent; 0.0 when it beats again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFailed:
    """The store could not be used for what replicas tell one another; it is tried again."""

    reason: str


class CheckpointWritten(msgspec.Struct, frozen=True, kw_only=True):
    """A write of a shard's row ended."""

    mapping: str
    shard: str
    outcome: CheckpointOutcome
    position: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingMoved:
    """A mapping changed its state."""

    mapping: str
    state: State
    reason: str
    """AWS's StateTransitionReason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingProblem:
    """A mapping cannot go on for now and tries again by itself; the others are not touched."""

    mapping: str
    reason: str
    """One line: what, where, what would be right."""
    retry_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingRemoved:
    """A mapping is not configured any more: its series disappear."""

    mapping: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """A configuration was read: at the start or after SIGHUP."""

    successful: bool
    at: float
    """Unix seconds."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionPrinted:
    """A local function wrote a line to its standard output or error."""

    function: str
    request_id: str
    """"" between invocations."""
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """The process was asked to stop."""

    reason: str
    grace: float


Fact: TypeAlias = (
    SourceRead
    | SourceListed
    | BatchSent
    | BatchInvoked
    | RecordsDropped
    | RecordsFiltered
    | RecordsDiverted
    | DestinationFailed
    | MessagesDeleted
    | MessagesReleased
    | LeaseEnded
    | ShardStands
    | ShardMoved
    | ShardPassed
    | OrderTaken
    | WishesSeen
    | ShardSought
    | MemberMoved
    | RosterSeen
    | SelfFenced
    | StoreFailed
    | CheckpointWritten
    | MappingMoved
    | MappingProblem
    | MappingRemoved
    | Reloaded
    | FunctionPrinted
    | Stopping
)
