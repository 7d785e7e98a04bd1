"""Whose turn it is on a FIFO queue: a message group has one batch in flight, and its others follow in order. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence, Set

from poller.mapping.batch import Batch
from poller.model.record import Record


def groups_of(records: Sequence[Record]) -> set[str]:
    """The message groups of these."""
    return {record.key for record in records}


def apart(records: Sequence[Record], blocked: Set[str]) -> list[Batch]:
    """A receive in parts, none of them empty: what belongs to no blocked group, which the rest does not hold up; the rest."""
    free = tuple([each for each in records if each.key not in blocked])
    held = tuple([each for each in records if each.key in blocked])
    return [part for part in (free, held) if part]


def turn(waiting: Sequence[Batch], busy: Set[str], free: int) -> tuple[list[Batch], list[Batch]]:
    """The batches that may go now, and those that wait on.

    Args:
        waiting: in the order they were received.
        busy: groups that have a batch in flight.
        free: batches that may go.
    """
    going, left, blocked = list[Batch](), list[Batch](), set(busy)
    for batch in waiting:
        groups = groups_of(batch)
        (going if len(going) < free and groups.isdisjoint(blocked) else left).append(batch)
        blocked |= groups
    return going, left
