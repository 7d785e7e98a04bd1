"""This replica among the others: its beat, its look at them, and its way out. A thin shell around `member`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import anyio
import msgspec
from anyio.abc import TaskStatus

from poller.fleet.assign import Seat, Shard, assign
from poller.fleet.member import (
    DEFAULT,
    EVERYBODY,
    FOLDER,
    Limits,
    Member,
    MemberState,
    Roster,
    bells,
    decode,
    encode,
    forgettable,
    holds,
    membership,
    sight,
    silent,
)
from poller.model.errors import NameTaken, Superseded, Transient
from poller.model.facts import MemberMoved, RosterSeen, SelfFenced, StoreFailed
from poller.model.ports import Clock, Observe, Store

_SHORTEST = 0.1
"""Seconds between two beats at the least, however often the bell is rung."""
_QUICK_FOR = 10.0
"""Seconds after a change of the membership for which looks come four times as often: shards are on their way."""
_SETTLED = 1.0
"""Seconds for which the membership has to be quiet before shards are moved to make it fairer."""
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


class Fleet:
    """The members that share a store, as this one sees them."""

    def __init__(self, store: Store, who: Identity, time: Time, observe: Observe, *, limits: Limits = DEFAULT) -> None:
        self._store = store
        self._who = who
        self._time = time
        self._observe = observe
        self.limits = limits
        self._me = Member(epoch=1, boot=who.boot, since=time.clock(), address=who.address)
        self._version = 0
        self._acked = time.elapsed()
        self._fenced_itself = False
        self.roster: Roster = {}
        self._changed = self._looked = time.elapsed()
        self._wakers: dict[str, Callable[[], None]] = {}
        self._hearers: list[Callable[[], None]] = []
        self._seats: dict[str, Mapping[Shard, Seat]] = {}
        self._ring = anyio.Event()
        self._changes = self._told = 0
        self._beaten = anyio.Event()
        self._looking = anyio.Lock()
        self._looks_asked = self._looks_made = 0

    # ---------------------------------------------------------------- what the mappings ask

    @property
    def name(self) -> str:
        """Mine."""
        return self._who.name

    @property
    def epoch(self) -> int:
        """Mine: a shard's row that names me with a smaller one is not mine any more."""
        return self._me.epoch

    @property
    def leaving(self) -> bool:
        """This replica hands over what it has."""
        return self._me.state == "leaving"

    @property
    def shared(self) -> bool:
        """There may be others."""
        return self._store.shared

    @property
    def settled(self) -> bool:
        """Nobody has come or gone for a moment, so that it is worth while to move shards."""
        return self._time.elapsed() - self._changed >= _SETTLED

    @property
    def safe(self) -> bool:
        """Nobody can have declared this member dead yet."""
        return not self.shared or self._time.elapsed() - self._acked < self.limits.self_fence

    async def until_safe(self) -> None:
        """Wait while this member cannot beat: somebody else may be processing its shards."""
        while not self.safe:
            await self._beaten.wait()

    async def serve(self, stream: str, woken: Callable[[], None]) -> None:
        """Say that this replica processes a stream, and have it known before anything of it is claimed.

        Args:
            stream: the key under which its rows lie.
            woken: called when it is worth while to look at its shards again.
        """
        self._wakers[stream] = woken
        self._seats[stream] = {}
        await self._say(serves=tuple(sorted(self._wakers)))

    def cease(self, stream: str) -> None:
        """Say that this replica does not process a stream any more: the others may take what is left of it."""
        del self._wakers[stream], self._seats[stream]
        self._me = msgspec.structs.replace(self._me, serves=tuple(sorted(self._wakers)))
        self._ring.set()

    def holds(self, owner: str, epoch: int, stream: str) -> bool:
        """Whether the owner that a row names still has it. The roster must be younger than the row: see `look`."""
        if not self.shared:
            return owner == self.name and epoch == self.epoch
        return holds(self.roster, owner, epoch, stream)

    def assigned(self, stream: str, shards: Mapping[str, Seat]) -> Mapping[str, str]:
        """Who shall have each shard of a stream, as fair to all members as all streams together allow.

        Args:
            stream: whose.
            shards: those that may be processed now.
        """
        self._seats[stream] = {Shard(stream, each): seat for each, seat in shards.items()}
        everything = {shard: seat for of in self._seats.values() for shard, seat in of.items()}
        given = assign(self._staying(), everything)
        return {shard.id: name for shard, name in given.items() if shard.stream == stream}

    def epoch_of(self, name: str) -> int:
        """The present epoch of a member; 0 of one that is not there."""
        seen = self.roster.get(name)
        return seen.member.epoch if seen else 0

    def handed(self, name: str = EVERYBODY) -> None:
        """Ring for a member: something has been put into its hands."""
        if self.shared:
            known = {each: count for each, count in self._me.handed.items() if each in self.roster or each == EVERYBODY}
            handed = {**known, name: known.get(name, 0) + 1}
            self._me = msgspec.structs.replace(self._me, handed=handed)
            self._ring.set()

    def ring(self) -> None:
        """Have everybody look again, this replica too: something was stored that all have to know."""
        self.handed()
        self._tell_all()

    @contextmanager
    def heard(self, woken: Callable[[], None]) -> Iterator[None]:
        """Have something called whenever the fleet changes or somebody rings."""
        self._hearers.append(woken)
        try:
            yield
        finally:
            self._hearers.remove(woken)

    async def look(self) -> None:
        """Read what the others say of themselves, now. Raises `Transient`."""
        if not self.shared:
            return
        self._looks_asked += 1
        mine = self._looks_asked
        async with self._looking:
            if self._looks_made < mine:
                covers = self._looks_asked
                found = {
                    key.removeprefix(FOLDER): (decode(row.value), row.version)
                    async for key, row in self._store.scan(FOLDER)
                }
                self._take(found)
                self._looks_made = covers

    def serving(self, stream: str) -> frozenset[str]:
        """The members that stay and serve a stream, or a queue."""
        return frozenset(name for name, serves in self._staying().items() if stream in serves)

    def live(self) -> Mapping[str, int]:
        """Every member that is not gone, with its epoch."""
        if not self.shared:
            return {self.name: self.epoch}
        return {name: seen.member.epoch for name, seen in self.roster.items() if seen.member.state != "gone"}

    # ---------------------------------------------------------------- its life

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Join, and stay a member until cancelled.

        Raises:
            NameTaken: another process runs under this name, and it is the younger one.
        """
        if not self.shared:
            task_status.started()
            await anyio.sleep_forever()
        await self._join()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_beating)
            tasks.start_soon(self._keep_watching)
            task_status.started()

    async def leave(self) -> None:
        """Say that I shall leave, and wait until the others know: they will look for what is handed to them."""
        if not self.shared:
            return
        await self._say(state="leaving")
        if len(self._staying()):
            await anyio.sleep(self.limits.watch * 1.2)

    async def farewell(self) -> None:
        """Say that I am gone: what I could not hand over is free at once."""
        if not self.shared:
            return
        with anyio.move_on_after(_FAREWELL, shield=True):
            try:
                row = await self._store.get(
                    self._key
                )  # a beat may have been cut short, so that its version is not known
                if row and decode(row.value).boot == self._who.boot:
                    self._version = row.version
                    await self._write(state="gone")
                    await self._store.wake()
            except (Transient, Superseded) as error:
                self._observe(StoreFailed(reason=f"the farewell was not written: {error}"))

    async def _join(self) -> None:
        """Begin a life: whatever an older one of this name owned is free."""
        while True:
            try:
                row = await self._store.get(self._key)
                before = decode(row.value) if row else None
                self._version = row.version if row else 0
                epoch = max(before.epoch + 1 if before else 1, int(self._time.clock()))
                await self._write(epoch=epoch)
                await self.look()
            except Superseded:
                continue
            except Transient as error:
                self._observe(StoreFailed(reason=str(error)))
                await anyio.sleep(self.limits.beat)
            else:
                return

    async def _keep_beating(self) -> None:
        while True:
            pause = self.limits.beat * (0.9 + 0.2 * self._time.chance())
            try:
                with anyio.fail_after(self.limits.beat * 2 / 3):
                    await self._write()
            except Superseded:
                await self._find_out()
                continue
            except (Transient, TimeoutError) as error:
                pause = self.limits.beat / 3
                self._observe(StoreFailed(reason=f"no beat: {str(error) or 'the store does not answer'}"))
            self._fence_itself()
            with anyio.move_on_after(pause):
                await self._ring.wait()
            await anyio.sleep(_SHORTEST)

    async def _find_out(self) -> None:
        """My row is not as I wrote it."""
        try:
            row = await self._store.get(self._key)
        except Transient as error:
            self._observe(StoreFailed(reason=str(error)))
            await anyio.sleep(self.limits.beat / 3)
            return
        found = decode(row.value) if row else None
        self._version = row.version if row else 0
        if found and found.boot != self._who.boot and found.state != "gone":
            raise NameTaken(
                f"another process joined as {self.name!r}: this one stops; each replica needs a name of its own"
            )
        if found and found.boot == self._who.boot and found.epoch == self.epoch and found.state != "gone":
            return  # a write whose answer was lost
        epoch = max(found.epoch + 1 if found else 1, self.epoch + 1)
        self._me = msgspec.structs.replace(self._me, epoch=epoch, since=self._time.clock())
        self._observe(MemberMoved(member=self.name, state="up", fenced=True))
        self._tell_all()

    async def _keep_watching(self) -> None:
        while True:
            try:
                await self.look()
                for name in silent(self.roster, self.limits, me=self.name, now=self._time.elapsed()):
                    await self._fence(name)
                for name in forgettable(self.roster, now=self._time.elapsed()):
                    await self._forget(name)
            except Transient as error:
                self._observe(StoreFailed(reason=str(error)))
            await self._store.wait(self.limits.watch / 4 if self._quick else self.limits.watch)

    async def _fence(self, name: str) -> None:
        """Declare a member dead, unless it has beaten meanwhile."""
        seen = self.roster[name]
        dead = msgspec.structs.replace(seen.member, epoch=seen.member.epoch + 1, state="gone", serves=())
        try:
            await self._store.put(f"{FOLDER}{name}", encode(dead), seen.version)
        except Superseded:
            return  # it lives, or somebody else was faster
        self._observe(MemberMoved(member=name, state="gone", fenced=True))
        await self.look()
        await self._store.wake()

    async def _forget(self, name: str) -> None:
        try:
            await self._store.delete(f"{FOLDER}{name}", self.roster[name].version)
        except Superseded:
            return  # it has come back, or somebody else was faster

    # ---------------------------------------------------------------- within

    @property
    def _key(self) -> str:
        return f"{FOLDER}{self.name}"

    @property
    def _quick(self) -> bool:
        moving = any(seen.member.state == "leaving" for seen in self.roster.values())
        return moving or self._time.elapsed() - self._changed < _QUICK_FOR

    def _staying(self) -> Mapping[str, frozenset[str]]:
        """Members that shards may be given to, and the streams that each serves."""
        if not self.shared:
            return {self.name: frozenset(self._wakers)}
        staying = {
            name: frozenset(seen.member.serves)
            for name, seen in self.roster.items()
            if seen.member.state == "up" and name != self.name
        }
        return staying if self.leaving else staying | {self.name: frozenset(self._wakers)}

    async def _write(self, *, state: MemberState | None = None, epoch: int | None = None) -> None:
        """One beat. Raises `Transient`, `Superseded`."""
        self._me = msgspec.structs.replace(self._me, state=state or self._me.state, epoch=epoch or self.epoch)
        sent, changes = self._time.elapsed(), self._changes
        rung, self._ring = self._ring, anyio.Event()
        try:
            self._version = await self._store.put(self._key, encode(self._me), self._version)
        except BaseException:
            if rung.is_set():
                self._ring.set()
            raise
        self._acked, self._told = sent, changes
        if self._fenced_itself:
            self._fenced_itself = False
            self._observe(SelfFenced(seconds=0.0))
            self._tell_all()
        self._beaten.set()
        self._beaten = anyio.Event()
        if rung.is_set():
            await self._store.wake()

    async def _say(self, *, state: Literal["leaving"] | None = None, serves: tuple[str, ...] | None = None) -> None:
        """Change what my row says, and wait until it does."""
        if state:
            self._me = msgspec.structs.replace(self._me, state=state)
        if serves is not None:
            self._me = msgspec.structs.replace(self._me, serves=serves)
        if not self.shared:
            return
        self._changes += 1
        mine = self._changes
        while self._told < mine:
            self._ring.set()
            await self._beaten.wait()

    def _fence_itself(self) -> None:
        if not self.safe and not self._fenced_itself:
            self._fenced_itself = True
            self._observe(SelfFenced(seconds=self._time.elapsed() - self._acked))

    def _take(self, found: Mapping[str, tuple[Member, int]]) -> None:
        """A look has ended."""
        now, before = self._time.elapsed(), self.roster
        self.roster = sight(before, found, now, blind=now - self._looked > self.limits.blind)
        self._looked = now
        was, now_is = membership(before), membership(self.roster)
        for name in now_is.keys() | was.keys():
            self._tell_move(name, was.get(name), now_is.get(name))
        self._observe(
            RosterSeen(
                members={
                    name: (seen.member.state, now - seen.since, seen.member.address)
                    for name, seen in self.roster.items()
                }
            )
        )
        if was != now_is:
            self._changed = now
            self._tell_all()
        elif bells(before, self.name) != bells(self.roster, self.name):
            self._tell_all()

    def _tell_move(
        self,
        name: str,
        was: tuple[int, MemberState, tuple[str, ...]] | None,
        now_is: tuple[int, MemberState, tuple[str, ...]] | None,
    ) -> None:
        if was is None or now_is is None or was[:2] != now_is[:2]:
            self._observe(MemberMoved(member=name, state=now_is[1] if now_is else "gone", fenced=False))

    def _tell_all(self) -> None:
        for woken in [*self._wakers.values(), *self._hearers]:
            woken()
