"""Which lane a record belongs to, and how far lanes stand ahead of their shard. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import msgspec

from poller.mapping.progress import behind
from poller.mapping.row import LaneRow
from poller.model.record import Record


class Shares(msgspec.Struct, frozen=True):
    """A page, divided."""

    parts: tuple[Sequence[Record], ...]
    """For each lane, in order."""
    done: Sequence[Record]
    """What lanes had settled before a restart."""
    beyond: bool
    """Records behind `until` were left out."""


def divide(records: Sequence[Record], lanes: Sequence[LaneRow], until: str) -> Shares:
    """Divide a page among lanes: one key (without one, one record) always in the same lane.

    Args:
        lanes: as they stood when the shard was opened.
        until: the last sequence number to hand out; "" for all.
    """
    if len(lanes) == 1 and not lanes[0].done and not until:  # nearly all shards: nothing to look at
        return Shares((records,), (), beyond=False)
    parts: tuple[list[Record], ...] = tuple([] for _ in lanes)
    done: list[Record] = []
    for record in records:
        if until and behind(until, record.id):
            return Shares(parts, done, beyond=True)
        lane = crc32((record.key or record.id).encode()) % len(lanes) if len(lanes) > 1 else 0
        settled = lanes[lane].done
        (done if settled and not behind(settled, record.id) else parts[lane]).append(record)
    return Shares(parts, done, beyond=False)


def joined(parts: Sequence[Sequence[Record]]) -> Sequence[Record]:
    """What was divided, as one part, in order."""
    return sorted((record for part in parts for record in part), key=lambda record: int(record.id))


def frontier(lanes: Sequence[LaneRow]) -> str:
    """The furthest sequence number that any lane has settled or has in hand; "" when none stands ahead."""
    reached = [lane.done for lane in lanes if lane.done]
    reached += [chunk.last for lane in lanes for chunk in lane.chunks]
    return max(reached, key=int, default="")


def told(lanes: Sequence[LaneRow], watermark: str) -> tuple[LaneRow, ...]:
    """What of the lanes has to be stored beside a position: nothing when none stands ahead of it."""
    if len(lanes) == 1 and lanes[0] == LaneRow(done=watermark):  # nearly always
        return ()
    kept = [
        lane
        if lane.done and (not watermark or behind(watermark, lane.done))
        else msgspec.structs.replace(lane, done="")
        for lane in lanes
    ]
    return tuple(kept) if any(lane != LaneRow() for lane in kept) else ()
