"""The wishes of operators in the store: read by whoever runs the mapping, written by whoever takes an order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from poller.mapping import steer
from poller.mapping.row import ShardRow
from poller.mapping.steer import Pause, Seek, Wishes
from poller.mapping.tools import Tools
from poller.model.errors import Superseded, Transient
from poller.model.facts import StoreFailed, WishesSeen
from poller.model.ports import Store
from poller.model.record import Partition


class Steering:
    """What is wished of one mapping, as this replica last read it."""

    def __init__(self, tools: Tools, stream: str = "") -> None:
        self._tools = tools
        self._stream = stream
        self._version = -1
        """0: nobody wishes anything; -1: nobody has looked."""
        self.wishes = Wishes()

    async def look(self) -> None:
        """Read what is wished now. Raises `Transient`."""
        row = await self._tools.store.get(steer.key(self._tools.mapping))
        version = row.version if row else 0
        if version != self._version:  # that nothing is wished is told, too: another store may have said otherwise
            self._take(steer.decode(row.value) if row else Wishes(), version)

    def paused(self, shard: str) -> Pause | None:
        """Why nothing of a shard may be delivered; None when it may."""
        return steer.paused(self.wishes, shard)

    def pending(self, shard: str, row: ShardRow | None) -> Seek | None:
        """The seek that a shard has yet to obey."""
        return steer.pending(self.wishes, self._stream, shard, row)

    async def tidy(self, rows: Mapping[str, ShardRow], listed: Sequence[Partition]) -> None:
        """Remove the seeks that are done, whoever of the replicas sees it first."""
        left = steer.undone(self.wishes, self._stream, rows, listed)
        if left is self.wishes:
            return
        try:
            version = await self._tools.store.put(steer.key(self._tools.mapping), steer.encode(left), self._version)
        except Superseded:
            return  # the next look tells what is wished
        except Transient as error:
            self._tools.observe(StoreFailed(reason=str(error)))
            return
        self._take(left, version)

    def _take(self, wishes: Wishes, version: int) -> None:
        self.wishes, self._version = wishes, version
        self._tools.observe(seen(self._tools.mapping, wishes))


def seen(mapping: str, wishes: Wishes) -> WishesSeen:
    """The wishes as a fact."""
    return WishesSeen(
        mapping=mapping,
        paused=_by(wishes.paused) if wishes.paused else None,
        shards={shard: _by(pause) for shard, pause in wishes.shards.items()},
        seeks={shard: (seek.asked, seek.who, seek.at) for seek in wishes.seeks for shard in seek.shards},
    )


def _by(pause: Pause) -> tuple[str, float]:
    return pause.who, pause.at


async def wish(store: Store, mapping: str, change: Callable[[Wishes], Wishes]) -> Wishes:
    """Change what is wished of a mapping, whatever others change at the same time. Raises `Transient`."""
    while True:
        row = await store.get(steer.key(mapping))
        before = steer.decode(row.value) if row else Wishes()
        after = change(before)
        if after == before:
            return after
        try:
            await store.put(steer.key(mapping), steer.encode(after), row.version if row else 0)
        except Superseded:
            continue
        return after
