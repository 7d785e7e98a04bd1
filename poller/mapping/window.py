"""Tumbling windows: which records belong together, what their events hold, what the state becomes. No I/O, no clock.

A window is as long as the mapping says and begins at a multiple of that, by the arrival of its records. Its
invocations pass on the state that the one before returned; the last carries no records. Source: Lambda guide, "Using
Lambda to process records: tumbling windows", and flags and limits that real mappings were seen to show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from poller.mapping.batch import Batch, Batcher
from poller.mapping.retry import Advance, Again, Split, StreamStep
from poller.mapping.row import WindowRow
from poller.model.outcome import Failed, Outcome, Partial, Replied
from poller.model.policy import Policy
from poller.model.record import Record, event_of

ALLOWANCE = 10.0
"""Seconds after a window's end that its last records may take to be read. AWS takes up to two minutes."""
STATE_LIMIT_BYTES = 1_048_576
"""A larger state closes the window at once."""
_FRAME_BYTES = 2_048
"""What an event holds besides records and state, at the most."""
_EMPTY = msgspec.Raw(b"{}")


@dataclass(frozen=True, slots=True)
class Close:
    """The open window ends: its final invocation is due."""

    early: bool = False
    """Its state grew too large."""


Piece: TypeAlias = Batch | Close


class Tumbler:
    """A batcher whose batches never hold records of two windows. Closing a window is a piece of its own."""

    def __init__(self, policy: Policy, now: float, opened: float | None) -> None:
        room = policy.event_limit_bytes - STATE_LIMIT_BYTES - _FRAME_BYTES
        self._length = policy.tumbling
        self._batcher = Batcher(replace(policy, event_limit_bytes=max(1, room)), now)
        self._ready: list[Piece] = []
        self._opened = opened

    def __len__(self) -> int:
        """Records held."""
        return len(self._batcher)

    @property
    def deadline(self) -> float:
        """When records must leave; inf while none are held."""
        return self._batcher.deadline

    @property
    def closes_at(self) -> float:
        """Unix seconds from which the open window may close if nothing more comes; inf while none is open."""
        return math.inf if self._opened is None else self._opened + self._length + ALLOWANCE

    def take(self, records: Sequence[Record], now: float) -> None:
        """Add what a read brought. A record that comes late belongs to the window that is open."""
        begin = 0
        for place, record in enumerate(records):
            start = _start_of(record, self._length)
            if self._opened is None:
                self._opened = start
            elif start > self._opened:
                self._batcher.take(records[begin:place], now)
                begin = place
                self.close(now)
                self._opened = start
        self._batcher.take(records[begin:], now)

    def close(self, now: float) -> None:
        """End the open window, if there is one: what it holds leaves first."""
        self._batcher.reopen(now)
        self._ready += self._batcher.rest()
        if self._opened is not None:
            self._ready.append(Close())
            self._opened = None

    def ready(self, now: float) -> list[Piece]:
        """What must leave now."""
        ready, self._ready = [*self._ready, *self._batcher.ready(now)], []
        return ready

    def rest(self) -> list[Piece]:
        """Everything: the shard has ended, and its window with it."""
        self.close(math.inf)
        return self.ready(math.inf)

    def reopen(self, now: float) -> None:
        """An invocation ended: the next batch window opens."""
        self._batcher.reopen(now)

    @property
    def oldest(self) -> float:
        """Arrival of the first record held, unix seconds; inf while nothing is held."""
        return self._batcher.oldest

    def take_out(self, arrived_until: float) -> Batch:
        """Remove the records at the head of what is held that arrived until then: they are too old."""
        return self._batcher.take_out(arrived_until)


class Tumbling:
    """The window that a shard has open: what its invocations are told and what they hand on."""

    def __init__(self, *, length: float, shard: str, source_arn: str, stored: WindowRow | None) -> None:
        self.row = stored
        """What has to outlive a restart; None while no window is open."""
        self._length = length
        self._shard = shard
        self._source_arn = source_arn
        self._returned = _EMPTY

    @property
    def overflows(self) -> bool:
        """The state is too large: the window closes at once."""
        return self.row is not None and len(bytes(self.row.state)) > STATE_LIMIT_BYTES

    def event(self, batch: Batch, close: Close | None) -> bytes:
        """The event of an invocation, records first, then its siblings. A batch of another window opens that."""
        if self.row is None and batch:
            self.row = WindowRow(start=_start_of(batch[0], self._length), state=_EMPTY)
        state = self.row.state if self.row else _EMPTY
        siblings = {
            "window": self._bounds(),
            "state": state,
            "shardId": self._shard,
            "eventSourceARN": self._source_arn,
        }
        return event_of(batch)[:-1] + b"," + msgspec.json.encode(siblings | _flags(close))[1:]

    def read(self, outcome: Outcome, body: bytes) -> Outcome:
        """Take the state from an answer; an answer without one is a failed invocation."""
        if not isinstance(outcome, Replied | Partial):
            return outcome
        try:
            state = bytes(_decode(body).state)
        except msgspec.DecodeError:
            state = b""
        if not state.startswith(b"{"):
            return Failed(reason="the answer has no state, which a tumbling window needs", error=None)
        self._returned = msgspec.Raw(state)
        return outcome

    def follow(self, step: StreamStep, close: Close | None) -> None:
        """The state moves with what is settled; a closed window is forgotten, processed or given up."""
        if self.row is None or isinstance(step, Again):
            return
        if close is not None:
            self.row = None
        elif isinstance(step, Advance) or (isinstance(step, Split) and step.settled):
            self.row = WindowRow(start=self.row.start, state=self._returned)

    def ended_for(self, now: float) -> float:
        """Seconds since the open window's end, by unix seconds."""
        return now - self.row.start - self._length if self.row else 0.0

    def information(self, records: Batch, close: Close | None) -> dict[str, Any]:
        """The `timeWindowInfo` of a failure document. Records that were never sent have opened no window."""
        return {"window": self._bounds(records), "shardId": self._shard} | _flags(close)

    def _bounds(self, records: Batch = ()) -> dict[str, str]:
        start = self.row.start if self.row else _start_of(records[0], self._length) if records else 0.0
        return {"start": _iso(start), "end": _iso(start + self._length)}


class _Answer(msgspec.Struct, frozen=True):
    state: msgspec.Raw = msgspec.Raw(b"")


_decode = msgspec.json.Decoder(_Answer).decode


def _start_of(record: Record, length: float) -> float:
    """Where the window begins that a record belongs to, unix seconds."""
    return math.floor(record.arrived / length) * length


def _flags(close: Close | None) -> dict[str, bool]:
    return {
        "isFinalInvokeForWindow": close is not None,
        "isWindowTerminatedEarly": close is not None and close.early,
    }


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
