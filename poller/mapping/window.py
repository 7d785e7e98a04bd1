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
from poller.mapping.row import WindowRow
from poller.model.outcome import Failed, Outcome, Replied
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
            start = math.floor(record.arrived / self._length) * self._length
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


def start_of(batch: Batch, length: float) -> float:
    """Unix seconds at which the window of a batch begins."""
    return math.floor(batch[0].arrived / length) * length


def windowed_event(
    batch: Batch, window: WindowRow, *, length: float, shard: str, source_arn: str, close: Close | None
) -> bytes:
    """The event of an invocation in a window, records first, then its siblings."""
    extra = {
        "window": {"start": _iso(window.start), "end": _iso(window.start + length)},
        "state": window.state,
        "shardId": shard,
        "eventSourceARN": source_arn,
        "isFinalInvokeForWindow": close is not None,
        "isWindowTerminatedEarly": close is not None and close.early,
    }
    return event_of(batch)[:-1] + b"," + msgspec.json.encode(extra)[1:]


def opened(start: float) -> WindowRow:
    """A window before its first invocation."""
    return WindowRow(start=start, state=_EMPTY)


class _Answer(msgspec.Struct, frozen=True):
    state: msgspec.Raw | None = None


_decode = msgspec.json.Decoder(_Answer).decode


def state_of(outcome: Outcome, body: bytes) -> tuple[Outcome, msgspec.Raw]:
    """The state that an answer hands on. An answer without one is a failed invocation.

    Args:
        outcome: what became of the invocation; only a `Replied` is looked into.
        body: the function's answer.
    """
    if not isinstance(outcome, Replied):
        return outcome, _EMPTY
    try:
        state = _decode(body).state
    except msgspec.DecodeError:
        state = None
    if state is None or not bytes(state).lstrip().startswith(b"{"):
        return Failed(reason="the answer has no state, which a tumbling window needs", error=None), _EMPTY
    return outcome, msgspec.Raw(bytes(state))


def too_large(state: msgspec.Raw) -> bool:
    """Whether a state closes its window at once."""
    return len(bytes(state)) > STATE_LIMIT_BYTES


def information(window: WindowRow, length: float, *, close: Close | None) -> dict[str, Any]:
    """The `timeWindowInfo` of a failure document."""
    return {
        "start": _iso(window.start),
        "end": _iso(window.start + length),
        "isFinalInvokeForWindow": close is not None,
        "isWindowTerminatedEarly": close is not None and close.early,
    }


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
