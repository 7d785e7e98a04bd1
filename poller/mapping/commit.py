"""A shard's row in the store: one write at a time, fenced by its version, never backwards."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import tenacity

from poller.mapping import progress
from poller.mapping.row import ShardRow, encode
from poller.mapping.tools import Tools
from poller.model.errors import Superseded, Transient
from poller.model.facts import CheckpointOutcome, CheckpointWritten
from poller.model.record import Position


class Checkpoint:
    """The stored row of one shard, as this process last wrote or read it."""

    def __init__(self, tools: Tools, key: str, shard: str, stored: ShardRow, version: int) -> None:
        self._tools = tools
        self.key = key
        self._shard = shard
        self.row = stored
        self._version = version
        self._asked = 0
        self._written = 0
        self._writing = anyio.Lock()

    @property
    def position(self) -> Position:
        """Everything up to here is settled."""
        return self.row.position

    async def save(self, compose: Callable[[], ShardRow]) -> None:
        """Make the store say what `compose` answers now or later; what others ask for meanwhile shares the write.

        Raises:
            Superseded: another process has written the row.
        """
        self._asked += 1
        mine = self._asked
        async with self._writing:
            if self._written < mine:
                covers, new = self._asked, compose()
                await self._write(ShardRow(
                    position=progress.forward(self.row.position, new.position),
                    ended=new.ended,
                    lanes=new.lanes,
                    window=new.window,
                ))
                self._written = covers

    async def create(self) -> None:
        """Store the row if it is not stored yet. Raises `Superseded`."""
        await self.save(lambda: self.row)

    async def end(self) -> None:
        """The shard is closed and settled to its last record. Raises `Superseded`."""
        await self.save(lambda: ShardRow(position=self.row.position, ended=True))

    async def _write(self, new: ShardRow) -> None:
        if new == self.row and self._version:
            return
        value = encode(new)
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(Transient),
            wait=tenacity.wait_exponential(multiplier=0.1, max=5.0),
            before_sleep=self._tell_error,
            sleep=anyio.sleep,
            reraise=True,
        ):
            with attempt:
                try:
                    self._version = await self._tools.store.put(self.key, value, self._version)
                except Superseded as error:
                    self._tell("superseded", new, str(error))
                    raise
        self.row = new
        self._tell("written", new)

    def _tell_error(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self._tell("error", self.row, str(error))

    def _tell(self, outcome: CheckpointOutcome, new: ShardRow, reason: str = "") -> None:
        self._tools.observe(
            CheckpointWritten(
                mapping=self._tools.mapping,
                shard=self._shard,
                outcome=outcome,
                position="SHARD_END" if new.ended else progress.spell(new.position),
                reason=reason,
            )
        )
