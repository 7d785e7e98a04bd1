"""How a partition stands: what it holds in memory, how old that is, how far it is behind. Tells facts, does no I/O."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio

from poller.mapping.budget import Holder
from poller.mapping.progress import Progress, Received, spell
from poller.mapping.tools import Tools
from poller.model.facts import ShardStands
from poller.model.record import Page, Position, Record


class Standing:
    """The records of one partition between their read and their settlement."""

    __slots__ = ("_attempt", "_behind", "_freed", "_holder", "_position", "_shard", "_tools", "caught_up", "held")

    def __init__(
        self, tools: Tools, shard: str, holder: Holder, held: Progress | Received, position: Position | None = None
    ) -> None:
        """Tell how it stands.

        Args:
            held: what of it is held: nothing yet.
            position: the stored one; None: of a queue.
        """
        self.held = held
        self.caught_up = False
        """The last read brought everything there was."""
        self._tools = tools
        self._shard = shard
        self._holder = holder
        self._position = _spelled(position)
        self._behind = 0.0
        self._attempt = 0
        self._freed: anyio.Event | None = None
        """What a reader that waits for room is woken by."""
        self._tell()

    def took(self, page: Page, size_bytes: int, holder: Holder) -> None:
        """A read, which had this room in memory, brought a page of this size (or, with an empty one, nothing)."""
        holder.took(len(page.records), size_bytes, more=page.full or page.behind > 0)
        if page.records:
            self.held.took(page.records)
        self.caught_up = not page.full and page.behind == 0
        if page.records or page.behind != self._behind:
            self._behind = page.behind
            self._tell()

    def left(self, records: Sequence[Record]) -> None:
        """Records have left memory: settled, or given back."""
        self._holder.settle(self.held.settled(records))
        self._attempt = 0
        if self._freed is not None:
            self._freed.set()
            self._freed = None

    def stands(self, position: Position | None) -> None:
        """What was settled is stored as far as this."""
        self._position = _spelled(position)
        self._tell()

    def failed(self, attempt: int) -> None:
        """The batch at the head failed for the `attempt`th time."""
        self._attempt = attempt
        self._tell()

    @property
    def has_room(self) -> bool:
        """Another page would not carry this partition over its share of memory, or nothing of it is held.

        What is stuck must not take the memory that others read with.
        """
        return not len(self.held) or self._holder.may_read_ahead

    async def room(self, cramped: Callable[[], Awaitable[None]] | None = None) -> None:
        """Wait until it has room.

        Args:
            cramped: called at first, and again whenever there is still none after records have left.
        """
        while not self.has_room:
            freed = self._freed = anyio.Event()
            if cramped is not None:
                await cramped()
            await freed.wait()

    def _tell(self) -> None:
        self._tools.observe(
            ShardStands(
                mapping=self._tools.mapping,
                shard=self._shard,
                checkpoint=self._position,
                oldest=self.held.oldest,
                behind=self._behind,
                held=len(self.held),
                attempt=self._attempt,
            )
        )


def _spelled(position: Position | None) -> str:
    return spell(position) if position else ""
