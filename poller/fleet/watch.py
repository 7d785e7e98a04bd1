"""The other replicas, as this one sees them. A thin shell around `member`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import anyio
import msgspec

from poller.fleet.life import Time
from poller.fleet.member import (
    FOLDER,
    Limits,
    Member,
    MemberState,
    Roster,
    Sighting,
    bells,
    decode,
    encode,
    forgettable,
    membership,
    sight,
    silent,
)
from poller.model.errors import Denied, Superseded, Transient
from poller.model.facts import MemberMoved, RosterSeen, StoreFailed
from poller.model.ports import Observe, Store

_QUICK_FOR = 10.0
"""Seconds after a change of the membership for which looks come four times as often: shards are on their way."""
_SETTLED = 1.0
"""Seconds for which the membership has to be quiet before shards are moved to make it fairer."""


class Watch:
    """Looks at the members' rows again and again, and declares dead whoever is silent."""

    def __init__(
        self, store: Store, me: str, time: Time, observe: Observe, limits: Limits, news: Callable[[], None]
    ) -> None:
        self._store = store
        self._name = me
        self._time = time
        self._observe = observe
        self._limits = limits
        self._news = news
        self.roster: Roster = {}
        self._changed = self._looked = time.elapsed()
        self._looking = anyio.Lock()
        self._looks_asked = self._looks_made = 0

    @property
    def settled(self) -> bool:
        """Nobody has come or gone for a moment."""
        return self._time.elapsed() - self._changed >= _SETTLED

    async def look(self) -> None:
        """Read what the others say of themselves, now. Raises `Transient`."""
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

    async def keep_watching(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.look()
                roster, now = self.roster, self._time.elapsed()  # what is seen from here on counts for the next look
                for name in silent(roster, self._limits, me=self._name, now=now):
                    await self._fence(name, roster[name])
                for name in forgettable(roster, now=now):
                    await self._forget(name, roster[name])
            except (Transient, Denied) as error:
                self._observe(StoreFailed(reason=str(error)))
            await self._store.wait(self._limits.watch / 4 if self._quick else self._limits.watch)

    async def _fence(self, name: str, seen: Sighting) -> None:
        """Declare a member dead, unless it has beaten meanwhile."""
        dead = msgspec.structs.replace(seen.member, epoch=seen.member.epoch + 1, state="gone", serves=())
        try:
            await self._store.put(f"{FOLDER}{name}", encode(dead), seen.version)
        except Superseded:
            return  # it lives, or somebody else was faster
        self._observe(MemberMoved(member=name, state="gone", fenced=True))
        await self.look()
        await self._store.wake()

    async def _forget(self, name: str, seen: Sighting) -> None:
        try:
            await self._store.delete(f"{FOLDER}{name}", seen.version)
        except Superseded:
            return  # it has come back, or somebody else was faster

    @property
    def _quick(self) -> bool:
        moving = any(seen.member.state == "leaving" for seen in self.roster.values())
        return moving or self._time.elapsed() - self._changed < _QUICK_FOR

    def _take(self, found: Mapping[str, tuple[Member, int]]) -> None:
        """A look has ended."""
        now, before = self._time.elapsed(), self.roster
        self.roster = sight(before, found, now, blind=now - self._looked > self._limits.blind)
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
            self._news()
        elif bells(before, self._name) != bells(self.roster, self._name):
            self._news()

    def _tell_move(
        self,
        name: str,
        was: tuple[int, MemberState, tuple[str, ...]] | None,
        now_is: tuple[int, MemberState, tuple[str, ...]] | None,
    ) -> None:
        if was is None or now_is is None or was[:2] != now_is[:2]:
            self._observe(MemberMoved(member=name, state=now_is[1] if now_is else "gone", fenced=False))
