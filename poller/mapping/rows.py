"""The rows of a stream's shards, as this replica last read or wrote them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import anyio

from poller.fleet.assign import Seat
from poller.mapping.commit import Checkpoint
from poller.mapping.row import ShardRow, decode_shard
from poller.mapping.tools import Tools
from poller.model.errors import Transient
from poller.model.facts import ShardMoved, StoreFailed
from poller.model.record import Partition, Position


class Rows:
    """Checkpoints by shard."""

    def __init__(self, tools: Tools, prefix: str) -> None:
        self._tools = tools
        self.prefix = prefix
        """The key of the stream's rows."""
        self._kept: dict[str, Checkpoint] = {}

    async def look(self, running: Collection[str]) -> frozenset[str]:
        """Read what is stored now, then who is there: a row may name a member that nobody has seen yet.

        A look that fails changes nothing, or the shards of such a member would pass for free.

        Args:
            running: shards in our hands, of whose rows nobody knows more than we.

        Returns:
            Those of them that another replica has taken. Raises `Transient`.
        """
        taken: set[str] = set()
        found: set[str] = set()
        before = {shard: checkpoint.version for shard, checkpoint in self._kept.items()}
        rows = [each async for each in self._tools.store.scan(f"{self.prefix}/")]
        await self._tools.fleet.look()
        for key, stored in rows:
            shard = key.removeprefix(f"{self.prefix}/")
            found.add(shard)
            known = self._kept.get(shard)
            if shard not in running:
                # What we wrote ourselves since we asked is younger than the answer.
                if known is None or (known.version != stored.version and before.get(shard) == known.version):
                    row = decode_shard(stored.value)
                    self._kept[shard] = Checkpoint(self._tools, key, shard, row, stored.version)
            elif known and stored.version > known.version and self._is_anothers(decode_shard(stored.value)):
                taken.add(shard)
        for shard in before.keys() - found:
            if before[shard] and shard in self._kept and self._kept[shard].version == before[shard]:
                self._removed(shard, running=shard in running)
        return frozenset(taken)

    def _removed(self, shard: str, *, running: bool) -> None:
        """Somebody removed a row: one that has ended has been forgotten, another begins again where we saw it last."""
        known = self._kept[shard]
        if known.row.ended and not running:
            del self._kept[shard]
            self._tools.observe(ShardMoved(mapping=self._tools.mapping, shard=shard, to="forgotten"))
        elif running:
            known.version = 0
        else:
            self._kept[shard] = Checkpoint(self._tools, known.key, shard, known.row, 0)

    def _is_anothers(self, row: ShardRow) -> bool:
        return row.owner != self._tools.fleet.name

    def __getitem__(self, shard: str) -> Checkpoint:
        return self._kept[shard]

    def __contains__(self, shard: object) -> bool:
        return shard in self._kept

    def of(self, shard: str, position: Position) -> Checkpoint:
        """The row of a shard, or one that is not stored yet and begins at `position`."""
        if shard not in self._kept:
            key = f"{self.prefix}/{shard}"
            self._kept[shard] = Checkpoint(self._tools, key, shard, ShardRow(position=position), 0)
        return self._kept[shard]

    async def reread(self, shard: str) -> None:
        """Read the row of a shard that another replica has written, and who is there: whoever wrote it may be new."""
        found = await self._kept[shard].reread()
        while True:
            try:
                await self._tools.fleet.look()
                break
            except Transient as error:
                self._tools.observe(StoreFailed(reason=str(error)))
                await anyio.sleep(self._tools.fleet.limits.watch)
        self._kept[shard] = found

    def drop(self, shard: str) -> None:
        """The row was removed."""
        del self._kept[shard]

    def all(self) -> Mapping[str, ShardRow]:
        """Every row."""
        return {shard: checkpoint.row for shard, checkpoint in self._kept.items()}

    def naming(self, owner: str) -> frozenset[str]:
        """Shards whose rows name this owner, in whichever of its lives."""
        return frozenset(shard for shard, checkpoint in self._kept.items() if checkpoint.row.owner == owner)

    def holder(self, shard: str) -> str:
        """The live member that has a shard; "" when nobody has it."""
        row = self._kept[shard].row if shard in self._kept else None
        held = row is not None and self._tools.fleet.holds(row.owner, row.epoch, self.prefix)
        return row.owner if row and held else ""

    def seat(self, shard: Partition, *, running: bool) -> Seat:
        """Who has a shard, and who had it last or has its parent."""
        if running:
            return Seat(holder=self._tools.fleet.name)
        row = self._kept[shard.id].row if shard.id in self._kept else None
        near = (
            row.owner if row else next((self._kept[each].row.owner for each in shard.parents if each in self._kept), "")
        )
        return Seat(holder=self.holder(shard.id), near=near)
