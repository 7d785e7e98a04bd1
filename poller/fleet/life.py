"""This replica's own row: its beats, and what it says with them. A thin shell around `member`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import anyio
import msgspec

from poller.fleet.member import EVERYBODY, FOLDER, Limits, Member, MemberState, Roster, decode, encode
from poller.model.errors import Denied, NameTaken, Superseded, Transient
from poller.model.facts import MemberMoved, SelfFenced, StoreFailed
from poller.model.ports import Clock, Observe, Store

_SHORTEST = 0.1
"""Seconds between two beats at the least, however often the bell is rung."""
_FAREWELL = 2.0
"""Seconds given to the last writes of a member that leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this replica is."""

    name: str
    """Unique among the replicas that share the store; the same after a restart where that can be had."""
    boot: str
    """Different for every process."""
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """The clocks and the chance that a member is given."""

    clock: Clock
    elapsed: Callable[[], float]
    """Monotonic seconds, which count on while the machine sleeps."""
    chance: Callable[[], float]
    """Uniform in [0, 1)."""


class Life:
    """A member's life: it begins with `join` and ends with `farewell`."""

    def __init__(
        self, store: Store, who: Identity, time: Time, observe: Observe, limits: Limits, news: Callable[[], None]
    ) -> None:
        self._store = store
        self._who = who
        self._time = time
        self._observe = observe
        self._limits = limits
        self._news = news
        self._me = Member(epoch=1, boot=who.boot, since=time.clock(), address=who.address)
        self._version = 0
        self._epoch = self._me.epoch
        self._acked = time.elapsed()
        self._fenced_itself = False
        self._ring = anyio.Event()
        self._changes = self._told = 0
        self._beaten = anyio.Event()

    @property
    def epoch(self) -> int:
        """Grows whenever this replica begins anew, when that is stored and not before: nothing may be owned in it yet."""
        return self._epoch

    @property
    def leaving(self) -> bool:
        """It has said so."""
        return self._me.state == "leaving"

    @property
    def safe(self) -> bool:
        """Nobody can have declared this member dead yet."""
        alive = self._epoch == self._me.epoch
        return alive and self._time.elapsed() - self._acked < self._limits.self_fence

    async def until_safe(self) -> None:
        """Wait while this member cannot beat."""
        while not self.safe:
            await self._beaten.wait()

    async def say(self, *, state: Literal["leaving"] | None = None, serves: tuple[str, ...] | None = None) -> None:
        """Change what my row says, and wait until it does."""
        if state:
            self._me = msgspec.structs.replace(self._me, state=state)
        if serves is not None:
            self._me = msgspec.structs.replace(self._me, serves=serves)
        self._changes += 1
        mine = self._changes
        while self._told < mine:
            self._ring.set()
            await self._beaten.wait()

    def mention(self, *, serves: tuple[str, ...]) -> None:
        """Change what my row says with the next beat, which comes at once."""
        self._me = msgspec.structs.replace(self._me, serves=serves)
        self._ring.set()

    def handed(self, name: str, roster: Roster) -> None:
        """Ring for a member."""
        known = {each: count for each, count in self._me.handed.items() if each in roster or each == EVERYBODY}
        self._me = msgspec.structs.replace(self._me, handed={**known, name: known.get(name, 0) + 1})
        self._ring.set()

    async def join(self, look: Callable[[], Awaitable[None]]) -> None:
        """Begin: whatever an older life of this name owned is free.

        Args:
            look: at the others; it has to succeed, too.
        """
        while True:
            try:
                row = await self._store.get(self._key)
                before = decode(row.value) if row else None
                self._version = row.version if row else 0
                epoch = max(before.epoch + 1 if before else 1, int(self._time.clock()))
                await self._write(epoch=epoch)
                await look()
            except Superseded:
                continue
            except (Transient, Denied) as error:
                self._observe(StoreFailed(reason=str(error)))
                await anyio.sleep(self._limits.beat)
            else:
                return

    async def keep_beating(self) -> None:
        """Beat until cancelled. Raises `NameTaken`."""
        while True:
            pause = self._limits.beat * (0.9 + 0.2 * self._time.chance())
            try:
                with anyio.fail_after(self._limits.beat * 2 / 3):
                    await self._write()
            except Superseded:
                await self._find_out()
                continue
            except (Transient, Denied, TimeoutError) as error:
                pause = self._limits.beat / 3
                self._observe(StoreFailed(reason=f"no beat: {str(error) or 'the store does not answer'}"))
            self._fence_itself()
            with anyio.move_on_after(pause):
                await self._ring.wait()
            await anyio.sleep(_SHORTEST)

    async def farewell(self) -> None:
        """Say that I am gone: what I could not hand over is free at once."""
        with anyio.move_on_after(_FAREWELL, shield=True):
            try:
                row = await self._store.get(self._key)  # a beat may have been cut short: its version is not known
                found = decode(row.value) if row else None
                if row and found and found.boot == self._who.boot:
                    self._version = row.version
                    await self._write(state="gone", epoch=max(self._me.epoch, found.epoch))
                    await self._store.wake()
            except (Transient, Denied, Superseded) as error:
                self._observe(StoreFailed(reason=f"the farewell was not written: {error}"))

    async def _write(self, *, state: MemberState | None = None, epoch: int | None = None) -> None:
        """One beat. Raises `Transient`, `Superseded`."""
        self._me = msgspec.structs.replace(self._me, state=state or self._me.state, epoch=epoch or self._me.epoch)
        sent, changes, epoch = self._time.elapsed(), self._changes, self._me.epoch
        rung, self._ring = self._ring, anyio.Event()
        try:
            self._version = await self._store.put(self._key, encode(self._me), self._version)
        except BaseException:
            if rung.is_set():
                self._ring.set()
            raise
        begun_anew, self._epoch = self._epoch != epoch, epoch
        self._acked, self._told = sent, changes
        if self._fenced_itself:
            self._fenced_itself = False
            self._observe(SelfFenced(seconds=0.0))
            begun_anew = True
        if begun_anew:
            self._news()
        self._beaten.set()
        self._beaten = anyio.Event()
        if rung.is_set():
            await self._store.wake()

    async def _find_out(self) -> None:
        """My row is not as I wrote it."""
        try:
            row = await self._store.get(self._key)
        except (Transient, Denied) as error:
            self._observe(StoreFailed(reason=str(error)))
            await anyio.sleep(self._limits.beat / 3)
            return
        found = decode(row.value) if row else None
        self._version = row.version if row else 0
        if found and found.boot != self._who.boot and found.state != "gone":
            raise NameTaken(
                f"another process joined as {self._who.name!r}: this one stops; each replica needs a name of its own"
            )
        if found and found.boot == self._who.boot and found.epoch == self._me.epoch and found.state != "gone":
            return  # a write whose answer was lost
        epoch = max(found.epoch + 1 if found else 1, self._me.epoch + 1)
        self._me = msgspec.structs.replace(self._me, epoch=epoch, since=self._time.clock())
        self._observe(MemberMoved(member=self._who.name, state="up", fenced=True))

    def _fence_itself(self) -> None:
        if not self.safe and not self._fenced_itself:
            self._fenced_itself = True
            self._observe(SelfFenced(seconds=self._time.elapsed() - self._acked))

    @property
    def _key(self) -> str:
        return f"{FOLDER}{self._who.name}"
