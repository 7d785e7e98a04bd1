"""This replica's part of a limit that all share: a thin shell around `quota`."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from poller.fleet import quota
from poller.fleet.fleet import Fleet
from poller.model.errors import Denied, Superseded, Transient
from poller.model.facts import StoreFailed
from poller.model.ports import Observe, Store

_FOLDER = "@shares/"
_ASK_EVERY = 20.0
"""Seconds between two looks at the row while nobody comes or goes and nothing is missing."""


class Share:
    """A part of one limit. It is 0 until it is granted, and while others may have declared this replica dead."""

    def __init__(
        self, fleet: Fleet, store: Store, observe: Observe, *, stream: str, limit: int, in_flight: Callable[[], int]
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._observe = observe
        self._stream = stream
        self._limit = limit
        self._in_flight = in_flight
        self._part = 0
        self._epoch = 0
        self._news = anyio.Event()
        self._changed: Callable[[], None] = lambda: None

    @property
    def part(self) -> int:
        """Calls that may be in flight here now."""
        if not self._fleet.shared:
            return self._limit
        mine = self._epoch == self._fleet.epoch and (self._fleet.safe or len(self._fleet.live()) <= 1)
        return self._part if mine else 0

    async def keep(self, changed: Callable[[], None]) -> None:
        """Ask for the fair part, whenever somebody comes or goes, until cancelled; then give it back.

        Args:
            changed: called when the part may have grown.
        """
        if not self._fleet.shared:
            return
        self._changed = changed
        try:
            await self._fleet.serve(self._stream, self._wake)
            while True:
                self._news = anyio.Event()
                satisfied = await self._try(self._wanted())
                with anyio.move_on_after(_ASK_EVERY if satisfied else self._fleet.limits.watch):
                    await self._news.wait()
        finally:
            self._fleet.cease(self._stream)
            with anyio.move_on_after(self._fleet.limits.beat, shield=True):
                await self._try(0)

    def _wake(self) -> None:
        self._news.set()

    def _wanted(self) -> int:
        return (
            0 if self._fleet.leaving else quota.fair(self._limit, self._fleet.serving(self._stream), self._fleet.name)
        )

    async def _try(self, wanted: int) -> bool:
        """One step towards it. Answers whether it was reached."""
        epoch = self._fleet.epoch
        try:
            row = await self._store.get(f"{_FOLDER}{self._stream}")
            await self._fleet.look()  # a grant of somebody who has come since the last look is as good as any
            grants = quota.decode(row.value) if row else quota.Grants()
            after = quota.regrant(
                grants,
                self._limit,
                me=self._fleet.name,
                epochs=dict(self._fleet.live()) | {self._fleet.name: epoch},
                wanted=wanted,
                in_flight=self._in_flight(),
            )
            granted = after.parts[self._fleet.name].part
            self._part = min(self._part, granted, wanted)  # what shall be given up is not used from now on
            if after != grants:
                await self._store.put(f"{_FOLDER}{self._stream}", quota.encode(after), row.version if row else 0)
        except Superseded:
            return False
        except (Transient, Denied) as error:
            self._observe(StoreFailed(reason=str(error)))
            return False
        self._part, self._epoch = min(granted, wanted), epoch
        self._changed()
        return granted == wanted
