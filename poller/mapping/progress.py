"""The order of positions: a checkpoint only ever moves forward. No I/O, no clock."""

from __future__ import annotations

from typing import TypeAlias

from poller.model.record import After, At, Position, TrimHorizon

_Rank: TypeAlias = tuple[int, float]


def forward(stored: Position, reached: Position) -> Position:
    """The later of two positions of one shard."""
    return reached if _rank(reached) > _rank(stored) else stored


def _rank(position: Position) -> _Rank:
    """Sequence numbers compare as integers: as text, "9" would follow "10"."""
    match position:
        case TrimHorizon():
            return (0, 0)
        case At(time=time):
            return (1, time)
        case After(sequence=sequence):
            return (2, int(sequence))


def spell(position: Position) -> str:
    """The position for people: TRIM_HORIZON, a time in unix seconds, or a sequence number."""
    match position:
        case TrimHorizon():
            return "TRIM_HORIZON"
        case At(time=time):
            return f"AT_TIMESTAMP {time:.3f}"
        case After(sequence=sequence):
            return sequence
