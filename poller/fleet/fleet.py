"""This replica among the others, as its mappings see it: who is there, who has what, who shall have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import anyio
from anyio.abc import TaskStatus

from poller.fleet.assign import Seat, Shard, assign
from poller.fleet.life import Identity, Life, Time
from poller.fleet.member import DEFAULT, EVERYBODY, Limits, Roster, holds
from poller.fleet.watch import Watch
from poller.model.facts import RosterSeen
from poller.model.ports import Observe, Store

__all__ = ["Fleet", "Identity", "Time"]


class Fleet:
    """The members that share a store. Where none can, it holds this one alone and costs nothing."""

    def __init__(self, store: Store, who: Identity, time: Time, observe: Observe, *, limits: Limits = DEFAULT) -> None:
        self.limits = limits
        self.name = who.name
        """Mine."""
        self.shared = store.shared
        """There may be others."""
        self._observe = observe
        self._life = Life(store, who, time, observe, limits, self._tell_all)
        self._watch = Watch(store, who.name, time, observe, limits, self._tell_all)
        self._wakers: dict[str, Callable[[], None]] = {}
        self._hearers: list[Callable[[], None]] = []
        self._seats: dict[str, Mapping[Shard, Seat]] = {}

    # ---------------------------------------------------------------- what the mappings ask

    @property
    def roster(self) -> Roster:
        """Every member that has a row."""
        return self._watch.roster

    @property
    def epoch(self) -> int:
        """Mine: a shard's row that names me with a smaller one is not mine any more."""
        return self._life.epoch

    @property
    def leaving(self) -> bool:
        """This replica hands over what it has."""
        return self._life.leaving

    @property
    def settled(self) -> bool:
        """Nobody has come or gone for a moment, so that it is worth while to move shards."""
        return self._watch.settled

    @property
    def safe(self) -> bool:
        """Nobody can have declared this member dead yet."""
        return not self.shared or self._life.safe

    async def until_safe(self) -> None:
        """Wait while this member cannot beat: somebody else may be processing its shards."""
        if self.shared:
            await self._life.until_safe()

    async def serve(self, stream: str, woken: Callable[[], None]) -> None:
        """Say that this replica processes a stream, and have it known before anything of it is claimed.

        Args:
            stream: the key under which its rows lie.
            woken: called when it is worth while to look at its shards again.
        """
        self._wakers[stream] = woken
        self._seats[stream] = {}
        if self.shared:
            await self._life.say(serves=tuple(sorted(self._wakers)))

    def cease(self, stream: str) -> None:
        """Say that this replica does not process a stream any more: the others may take what is left of it."""
        del self._wakers[stream], self._seats[stream]
        self._life.mention(serves=tuple(sorted(self._wakers)))

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
            self._life.handed(name, self.roster)

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
        if self.shared:
            await self._watch.look()

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
            self._observe(RosterSeen(members={}))  # another store may have had some
            task_status.started()
            await anyio.sleep_forever()
        await self._life.join(self._watch.look)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._life.keep_beating)
            tasks.start_soon(self._watch.keep_watching)
            task_status.started()

    async def leave(self) -> None:
        """Say that I shall leave, and wait until the others know: they will look for what is handed to them.

        Not for ever: while the store is away, nobody can be told, and what is in flight wants to be finished.
        """
        if not self.shared:
            return
        with anyio.move_on_after(self.limits.self_fence):
            await self._life.say(state="leaving")
            if len(self._staying()):
                await anyio.sleep(self.limits.watch * 1.2)

    async def farewell(self) -> None:
        """Say that I am gone: what I could not hand over is free at once."""
        if self.shared:
            await self._life.farewell()

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

    def _tell_all(self) -> None:
        for woken in [*self._wakers.values(), *self._hearers]:
            woken()
