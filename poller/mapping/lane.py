"""A lane: pages in, batches delivered one after the other, the checkpoint behind them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from poller.mapping.batch import Batch, Batcher
from poller.model.record import Page


async def run_lane(
    pages: MemoryObjectReceiveStream[Page], batcher: Batcher, deliver: Callable[[Batch], Awaitable[bool]]
) -> bool:
    """Batch what arrives and deliver it in order; when the reader closes the stream, deliver what is held and return.

    Args:
        deliver: answers whether to go on; False abandons what is held (it will be read again).

    Returns:
        Whether the shard's end was reached and everything of it delivered.
    """
    ended = False
    async with pages:
        while True:
            try:
                with anyio.CancelScope(deadline=batcher.deadline):  # inf while nothing is held
                    page = await pages.receive()
                    batcher.take(page.records, anyio.current_time())
                    ended = page.cursor is None
                    del page  # or its records would stay in memory when they have been delivered
            except anyio.EndOfStream:
                break
            if not await _deliver_all(batcher.ready(anyio.current_time()), batcher, deliver):
                return False
    return await _deliver_all(batcher.rest(), batcher, deliver) and ended


async def _deliver_all(batches: list[Batch], batcher: Batcher, deliver: Callable[[Batch], Awaitable[bool]]) -> bool:
    batches.reverse()
    while batches:
        if not await deliver(batches.pop()):  # nothing here holds on to what was delivered
            return False
        batcher.reopen(anyio.current_time())
    return True
