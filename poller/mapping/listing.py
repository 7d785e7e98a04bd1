"""What a stream's listings name, and the end of the shards that they name no more."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import partial

import anyio

from poller.mapping import progress, row, shards
from poller.mapping.commit import Checkpoint
from poller.mapping.rows import Rows
from poller.mapping.tools import Tools
from poller.model.errors import Denied, ShardGone, Superseded, Transient, Trimmed
from poller.model.facts import MappingProblem, RecordsDropped, ShardMoved, SourceListed
from poller.model.record import At, Topology, TrimHorizon

_SOON, _LATER = 1.0, 60.0
"""Seconds between two listings: soon after a shard ended (its children may not be listed yet), doubling to later."""


class Listing:
    """The last listing of a stream, and what the one before it did not name."""

    def __init__(self, tools: Tools, topology: Topology, rows: Rows) -> None:
        self._tools = tools
        self._rows = rows
        self.topology = topology
        self.at = anyio.current_time() + _SOON
        """When the next one is due."""
        self._pause = _SOON
        self._anew = True
        self._missing: frozenset[str] = frozenset()
        self._missing_before: frozenset[str] = frozenset()
        self._unnamed: Mapping[str, float] = {}

    def soon(self) -> None:
        """List at once, and then often: shards have ended, or come back."""
        self._pause = _SOON
        self.at = -math.inf

    async def again(self) -> None:
        """List the shards again; a listing that fails stops no shard.

        Raises:
            Transient: another stream stands under the name; the mapping has to begin anew.
        """
        await self._tools.unless_stopped(self._list)
        self._pause = min(_LATER, self._pause * 2)
        self.at = anyio.current_time() + self._pause

    async def _list(self) -> None:
        self._anew = False
        try:
            topology = await self._tools.source.topology()
        except (Transient, Denied) as error:
            self._tools.observe(MappingProblem(mapping=self._tools.mapping, reason=str(error), retry_in=self._pause))
            return
        if topology.identity != self.topology.identity:
            raise Transient(f"{self._tools.source_name} was deleted and created anew: starting afresh")
        self.topology, self._anew = topology, True
        self._tools.observe(SourceListed(mapping=self._tools.mapping, retention=topology.retention))

    async def plan(
        self, start: TrimHorizon | At, rows: Mapping[str, row.ShardRow], running: Collection[str]
    ) -> shards.Plan:
        """What to do with every shard; rows that say nothing any more are removed.

        Args:
            start: where the mapping began.
            rows: as operators wish them.
            running: shards in our hands.
        """
        anew = self._anew
        if anew:  # the same listing looked at twice proves nothing
            self._missing_before, self._anew = self._missing, False
        plan = shards.plan(
            self.topology.partitions,
            rows,
            start=start,
            named=start == self._tools.policy.start,
            missing=self._missing_before,
        )
        if anew:
            self._missing = plan.missing
            if plan.missing - self._missing_before:
                self._pause = _SOON
                self.at = min(self.at, anyio.current_time() + _SOON)
            await self._forget(rows, running)
        return plan

    async def is_gone(self, shard: str) -> bool | None:
        """Whether a shard that is not listed has left the stream; None when the stop came first."""
        return await self._tools.unless_stopped(partial(self._is_gone, shard))

    async def _is_gone(self, shard: str) -> bool:
        """Listings may be torn, and giving up is for ever."""
        try:
            await self._tools.source.latest(shard)
        except (ShardGone, Trimmed):
            return True
        except (Transient, Denied):
            pass  # reading it will tell
        return False

    async def give_up(self, shard: str, checkpoint: Checkpoint) -> None:
        """A shard that we had not finished has left the stream: say what is lost, and let its children start."""
        try:
            await checkpoint.own(self._tools.fleet.name, self._tools.fleet.epoch)
            self._tools.observe(
                RecordsDropped(
                    mapping=self._tools.mapping,
                    shard=shard,
                    condition="Trimmed",
                    records=0,
                    first=progress.spell(checkpoint.position),
                    last="SHARD_END",
                )
            )
            await checkpoint.end()
        except Superseded:
            await self._rows.reread(shard)
            return
        self._tools.observe(ShardMoved(mapping=self._tools.mapping, shard=shard, to="ended"))

    async def _forget(self, rows: Mapping[str, row.ShardRow], running: Collection[str]) -> None:
        """Remove the rows of shards that left the stream long ago: DynamoDB makes new ones every four hours."""
        listed, now = self.topology.partitions, anyio.current_time()
        self._unnamed = shards.unnamed(listed, rows, since=self._unnamed, now=now)
        if self._tools.fleet.name != min(self._tools.fleet.serving(self._rows.prefix), default=""):
            return  # one of all that serve the stream does it
        for shard in shards.forgettable(listed, rows, since=self._unnamed, now=now) - set(running):
            if await self._rows[shard].remove():
                self._rows.drop(shard)
                self._tools.observe(ShardMoved(mapping=self._tools.mapping, shard=shard, to="forgotten"))
