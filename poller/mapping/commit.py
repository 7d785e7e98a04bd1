"""A shard's row in the store: one write at a time, fenced by its version, never backwards, no more often than it may."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import msgspec
import tenacity

from poller.mapping import progress
from poller.mapping.row import LaneRow, ShardRow, decode_shard, encode
from poller.mapping.tools import Tools
from poller.model.errors import Superseded, Transient
from poller.model.facts import CheckpointOutcome, CheckpointWritten
from poller.model.record import Position

T = TypeVar("T")

_SOON = 0.1
"""Seconds until the second try of a write that failed; doubled for each further one."""


class Checkpoint:
    """The stored row of one shard, as this process last wrote or read it."""

    __slots__ = ("_anew", "_asked", "_owner", "_shard", "_tools", "_unanswered", "_unsaved", "_write_at", "_writing",
                 "_written", "_wrote", "key", "row", "version")  # fmt: skip

    def __init__(self, tools: Tools, key: str, shard: str, stored: ShardRow, version: int) -> None:
        self._tools = tools
        self.key = key
        self._shard = shard
        self.row = stored
        """As it is stored."""
        self.version = version
        """0: it is not stored yet."""
        self._owner = (stored.owner, stored.epoch)
        self._unsaved: Callable[[], ShardRow] | None = None
        self._write_at = -math.inf
        self._asked = 0
        self._written = 0
        self._writing = False
        self._wrote: anyio.Event | None = None
        """Set when the writing under way has ended, for those who wait for that."""
        self._anew = False
        self._unanswered: tuple[bytes, ...] = ()
        """What was sent in the name of this version, and may be stored or not."""

    @property
    def position(self) -> Position:
        """Everything up to here is settled, and stored."""
        return self.row.position

    @property
    def late(self) -> bool:
        """What was to be stored later has to be stored now."""
        return self._unsaved is not None and self._tools.now() >= self._write_at

    @property
    def writing(self) -> bool:
        """A write is under way, which may take as long as the store is down."""
        return self._writing

    async def save(self, compose: Callable[[], ShardRow], *, urgent: bool = True) -> None:
        """Make the store say what `compose` answers now or later; what others ask for meanwhile shares the write.

        Args:
            compose: the row, whose owner is not looked at.
            urgent: now; otherwise the store's pace may put it off, until it is `late` and somebody calls `flush`.

        Raises:
            Superseded: another process has written the row.
        """
        self._unsaved = compose
        if urgent or self.late:
            await self.flush()

    async def flush(self) -> None:
        """Store what is not stored yet. Raises `Superseded`."""
        self._asked += 1
        mine = self._asked
        if self._writing:
            await self._written_by_others(mine)
            if self._written >= mine:
                return
        self._writing = True
        try:
            covers = self._asked
            await self._write(self._composed())
            self._written = covers
        finally:
            self._writing_ended()

    async def _written_by_others(self, mine: float) -> None:
        """Wait until nobody writes, or what others wrote covers what was asked for as the `mine`th."""
        while self._writing and self._written < mine:
            self._wrote = self._wrote or anyio.Event()
            await self._wrote.wait()

    def _writing_ended(self) -> None:
        self._writing = False
        if self._wrote is not None:
            self._wrote.set()
            self._wrote = None

    async def create(self) -> None:
        """Store the row if it is not stored yet. Raises `Superseded`."""
        await self.flush()

    async def own(self, owner: str, epoch: int, *, anew: bool = False) -> None:
        """Write who has the shard, together with all that is known of it.

        Args:
            owner: its name; "": nobody.
            epoch: of the owner.
            anew: write though the row says so already: somebody may be about to claim it as it is.

        Raises:
            Superseded: another process has written the row.
        """
        self._owner = (owner, epoch)
        self._anew |= anew
        await self.flush()

    async def end(self) -> None:
        """The shard is closed and settled to its last record. Raises `Superseded`."""
        position = self._composed().position
        self._unsaved = lambda: ShardRow(position=position, ended=True)
        await self.flush()

    async def jump(self, position: Position | None, serial: int, *, onwards: bool = False) -> None:
        """Go on elsewhere, as an operator wishes: batches in the middle of retries and an open window are forgotten.

        Nobody else may be writing the row for this process.

        Args:
            position: which may lie behind the present one; None: it stays, with all that is known of the shard.
            serial: of the wish.
            onwards: nothing comes again that a lane which stands ahead has settled.

        Raises:
            Superseded: another process has written the row.
        """
        await self._written_by_others(math.inf)
        self._writing = True
        try:
            new = self._composed()
            if position is not None:
                done = tuple(LaneRow(done=lane.done) for lane in new.lanes) if onwards else ()
                new = ShardRow(position=position, lanes=done, owner=new.owner, epoch=new.epoch)
            await self._write(msgspec.structs.replace(new, steered=serial))
        finally:
            self._writing_ended()

    async def remove(self) -> bool:
        """Take the row out of the store. False when the store fails now: there is no haste."""
        try:
            await self._tools.store.delete(self.key, self.version)
        except Superseded:
            return True  # gone already, by a try that seemed to fail; or another's, who will remove it
        except Transient as error:
            self._tell("error", self.row, str(error))
            return False
        return True

    async def reread(self) -> Checkpoint:
        """The row as it is stored now, for when another process has written it."""
        stored = await self._patiently(lambda: self._tools.store.get(self.key))
        if stored is None:
            return Checkpoint(self._tools, self.key, self._shard, self.row, 0)
        return Checkpoint(self._tools, self.key, self._shard, decode_shard(stored.value), stored.version)

    def _composed(self) -> ShardRow:
        new = self._unsaved() if self._unsaved else self.row
        owner, epoch = self._owner
        position = progress.forward(self.row.position, new.position)
        return msgspec.structs.replace(new, position=position, owner=owner, epoch=epoch, steered=self.row.steered)

    async def _write(self, new: ShardRow) -> None:
        self._unsaved = None
        if new == self.row and self.version and not self._anew:
            return
        self._anew = False
        self._write_at = self._tools.now() + self._tools.store.pace
        try:
            self.version = await self._put(encode(new))
        except Superseded as error:
            self._tell("superseded", new, str(error))
            raise
        self.row = new
        self._tell("written", new)

    async def _put(self, value: bytes) -> int:
        """Write, whatever became of earlier tries: one that failed, or was cancelled, may have written all the same."""
        while True:
            doubt, again = self._unanswered, False
            self._unanswered = (*doubt, value)
            try:
                try:
                    version = await self._tools.store.put(self.key, value, self.version)
                except Transient as error:
                    again = True
                    version = await self._again(error, lambda: self._tools.store.put(self.key, value, self.version))
            except Superseded:
                stored = await self._patiently(lambda: self._tools.store.get(self.key))
                sent = (*doubt, value) if again else doubt
                if stored is None or stored.version != self.version + 1 or stored.value not in sent:
                    raise
                version = stored.version
                if stored.value != value and stored.value in doubt:
                    self.row, self.version = decode_shard(stored.value), version
                    self._unanswered = ()
                    continue
            self._unanswered = ()
            return version

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """A call to the store, again and again until it does not fail in passing."""
        try:
            return await call()
        except Transient as error:
            return await self._again(error, call)

    async def _again(self, error: Transient, call: Callable[[], Awaitable[T]]) -> T:
        """The same after the first try failed so; to set this up costs more than the write of a row."""
        self._tell("error", self.row, str(error))
        await anyio.sleep(_SOON)
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(Transient),
            wait=tenacity.wait_exponential(multiplier=2 * _SOON, max=5.0),
            before_sleep=self._tell_error,
            sleep=anyio.sleep,
            reraise=True,
        )

        async def attempt() -> T:  # a lambda is not known to be a coroutine function
            return await call()

        return await retrying(attempt)

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
