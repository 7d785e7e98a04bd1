"""A lane: pages in, batches delivered one after the other, the checkpoint behind them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from poller.mapping.batch import Batch, Batcher
from poller.model.record import Page, Position

_SKIP_PAUSE = 1.0
"""Least seconds between two checkpoints that only pass over filtered records."""


class Trail:
    """How far a shard has been read, to be committed once nothing of it is held: filtered records are never sent."""

    def __init__(self, commit: Callable[[Position], Awaitable[None]], now: float) -> None:
        self._commit = commit
        self._reached: Position | None = None
        self._last = now - _SKIP_PAUSE

    @property
    def due(self) -> float:
        """When the position should be committed; inf while there is nothing new."""
        return math.inf if self._reached is None else self._last + _SKIP_PAUSE

    def took(self, page: Page) -> None:
        """Everything up to the end of this page has been read, and either filtered out or taken into the batcher."""
        if page.cursor is not None:
            self._reached = page.cursor.position

    async def follow(self, now: float) -> None:
        """Nothing that was taken is held any more: commit."""
        if self._reached is not None:
            reached, self._reached, self._last = self._reached, None, now
            await self._commit(reached)


async def run_lane(
    pages: MemoryObjectReceiveStream[Page],
    batcher: Batcher,
    deliver: Callable[[Batch], Awaitable[bool]],
    commit: Callable[[Position], Awaitable[None]],
) -> bool:
    """Batch what arrives and deliver it in order; when the reader closes the stream, deliver what is held and return.

    Args:
        deliver: answers whether to go on; False abandons what is held (it will be read again).
        commit: everything up to this position is settled, what was filtered out behind the last batch included.

    Returns:
        Whether the shard's end was reached and everything of it delivered.
    """
    ended = False
    trail = Trail(commit, anyio.current_time())
    async with pages:
        while True:
            holds = batcher.deadline < math.inf
            try:
                with anyio.CancelScope(deadline=batcher.deadline if holds else trail.due):
                    page = await pages.receive()
                    batcher.take(page.records, anyio.current_time())
                    trail.took(page)
                    ended = page.cursor is None
            except anyio.EndOfStream:
                break
            if not await _deliver_all(batcher.ready(anyio.current_time()), batcher, deliver):
                return False
            now = anyio.current_time()
            if batcher.deadline == math.inf and now >= trail.due:
                await trail.follow(now)
    if not await _deliver_all(batcher.rest(), batcher, deliver):
        return False
    await trail.follow(anyio.current_time())
    return ended


async def _deliver_all(batches: list[Batch], batcher: Batcher, deliver: Callable[[Batch], Awaitable[bool]]) -> bool:
    for batch in batches:
        if not await deliver(batch):
            return False
        batcher.reopen(anyio.current_time())
    return True
