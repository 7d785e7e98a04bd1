"""A mapping of a stream: finds its shards, reads each in a task of its own, children after their parents."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

import anyio
from anyio.abc import TaskGroup

from poller.mapping import progress, row, shards
from poller.mapping.commit import Checkpoint
from poller.mapping.shard import process
from poller.mapping.tools import Tools
from poller.model.errors import Denied, ShardGone, Superseded, Transient, Trimmed
from poller.model.facts import MappingProblem, RecordsDropped, ShardMoved, SourceListed
from poller.model.policy import Latest
from poller.model.record import At, Cursor, Partition, Position, Topology, TrimHorizon

_LISTING_SOON, _LISTING_LATER = 1.0, 60.0
"""Seconds between two listings: soon after a shard ended (its children may not be listed yet), doubling to later."""
_LATEST_AT_ONCE = 16
"""Iterators asked for at the same time when LATEST is resolved."""


class Stream:
    """The running state of one mapping of a stream."""

    def __init__(self, tools: Tools, topology: Topology) -> None:
        self._tools = tools
        self._topology = topology
        self._prefix = row.prefix(tools.mapping, tools.source_name, topology.identity)
        self._rows: dict[str, Checkpoint] = {}
        self._running: set[str] = set()
        self._let_go: set[str] = set()
        self._latest: dict[str, Cursor] = {}
        self._missing: frozenset[str] = frozenset()
        self._blocked: frozenset[str] = frozenset()
        self._unnamed: Mapping[str, float] = {}
        self._listed_anew = True
        self._nap = anyio.CancelScope()
        self._listing_pause = _LISTING_SOON

    async def run(self) -> None:
        """Process the stream until the stop."""
        async for key, stored in self._tools.store.scan(f"{self._prefix}/"):
            shard = key.removeprefix(f"{self._prefix}/")
            self._rows[shard] = Checkpoint(self._tools, key, shard, row.decode_shard(stored.value), stored.version)
        start = await self._tools.unless_stopped(self._start)
        if start is None:
            return
        async with anyio.create_task_group() as tasks:
            while not self._tools.stop.is_set():
                await self._follow(start, tasks)
                await self._nap_until_listing()
                if not self._tools.stop.is_set():
                    await self._tools.unless_stopped(self._list)

    async def _start(self) -> TrimHorizon | At:
        """Where shards without a row begin: as stored, or resolved and stored now."""
        stored = await self._tools.store.get(self._prefix)
        if stored is not None:
            return row.decode_mapping(stored.value).start
        start = self._tools.policy.start
        latest = isinstance(start, Latest)
        if isinstance(start, Latest):
            start = await self._resolve_latest()
        await self._tools.store.put(self._prefix, row.encode(row.MappingRow(start=start)), 0)
        for shard in self._topology.partitions if latest else ():
            cursor = self._latest.get(shard.id)
            checkpoint = self._checkpoint(shard.id, cursor.position if cursor else start)
            await (checkpoint.create() if cursor else checkpoint.end())
        return start

    async def _resolve_latest(self) -> At:
        """The newest record of every open shard, at one moment; closed shards hold nothing new."""
        limiter = anyio.CapacityLimiter(_LATEST_AT_ONCE)

        async def resolve(shard: Partition) -> None:
            async with limiter:
                self._latest[shard.id] = await self._tools.source.latest(shard.id)

        async with anyio.create_task_group() as tasks:
            for shard in self._topology.partitions:
                if not shard.closed:
                    tasks.start_soon(resolve, shard)
        moments = [cursor.position.time for cursor in self._latest.values() if isinstance(cursor.position, At)]
        return At(min(moments, default=self._tools.clock()))

    def _checkpoint(self, shard: str, position: Position) -> Checkpoint:
        """A row that is not stored yet."""
        checkpoint = Checkpoint(self._tools, f"{self._prefix}/{shard}", shard, row.ShardRow(position=position), 0)
        self._rows[shard] = checkpoint
        return checkpoint

    async def _follow(self, start: TrimHorizon | At, tasks: TaskGroup) -> None:
        """Open what may be read, tell what waits, give up what the stream dropped."""
        rows = {shard: checkpoint.row for shard, checkpoint in self._rows.items()}
        missing = self._missing if self._listed_anew else frozenset()  # the same listing twice proves nothing
        plan = shards.plan(self._topology.partitions, rows, start=start, missing=missing)
        for shard in plan.lost - self._running:
            gone = await self._tools.unless_stopped(partial(self._is_gone, shard))
            if gone:
                await self._give_up(shard, self._rows[shard])
            elif gone is not None:  # it is there, only not listed, and its children wait for it
                self._open(shard, self._rows[shard], tasks)
        if self._listed_anew:
            await self._forget(rows)
            if plan.missing - self._missing:
                self._listing_pause = _LISTING_SOON
            self._missing = plan.missing
        for shard in plan.blocked.keys() - self._blocked:
            self._moved(shard, "blocked_on_parent", " ".join(plan.blocked[shard]))
        self._blocked = frozenset(plan.blocked)
        for shard, position in plan.open.items():
            if shard not in self._running:
                self._open(shard, self._rows.get(shard) or self._checkpoint(shard, position), tasks)

    def _open(self, shard: str, checkpoint: Checkpoint, tasks: TaskGroup) -> None:
        self._running.add(shard)
        tasks.start_soon(self._run_shard, shard, checkpoint)

    async def _is_gone(self, shard: str) -> bool:
        """Whether a shard that is not listed has left the stream: listings may be torn, and giving up is for ever."""
        try:
            await self._tools.source.latest(shard)
        except (ShardGone, Trimmed):
            return True
        except (Transient, Denied):
            pass  # reading it will tell
        return False

    async def _forget(self, rows: Mapping[str, row.ShardRow]) -> None:
        """Remove the rows of shards that left the stream long ago: DynamoDB makes new ones every four hours."""
        listed, now = self._topology.partitions, anyio.current_time()
        self._unnamed = shards.unnamed(listed, rows, since=self._unnamed, now=now)
        for shard in shards.forgettable(listed, rows, since=self._unnamed, now=now) - self._running:
            if await self._rows[shard].remove():
                del self._rows[shard]
                self._let_go.discard(shard)
                self._moved(shard, "forgotten")

    async def _nap_until_listing(self) -> None:
        with anyio.move_on_after(self._listing_pause) as self._nap:
            await self._tools.stop.wait()
        self._listing_pause = min(_LISTING_LATER, self._listing_pause * 2)

    async def _list(self) -> None:
        """List the shards again; a listing that fails stops no shard.

        Raises:
            Transient: another stream stands under the name; the mapping has to begin anew.
        """
        self._listed_anew = False
        try:
            topology = await self._tools.source.topology()
        except (Transient, Denied) as error:
            self._tools.observe(
                MappingProblem(mapping=self._tools.mapping, reason=str(error), retry_in=self._listing_pause)
            )
            return
        if topology.identity != self._topology.identity:
            raise Transient(f"{self._tools.source_name} was deleted and created anew: starting afresh")
        self._topology, self._listed_anew = topology, True
        self._tools.observe(SourceListed(mapping=self._tools.mapping, retention=topology.retention))

    async def _run_shard(self, shard: str, checkpoint: Checkpoint) -> None:
        """Process a shard to its end, the stop, or the loss of its ownership."""
        state: Literal["ended", "released"] = "released"
        superseded = False
        self._moved(shard, "owned", progress.spell(checkpoint.position))
        try:
            await checkpoint.create()
            if await self._process(shard, checkpoint):
                await checkpoint.end()
                state = "ended"
        except* Superseded:
            superseded = True
        if superseded:
            self._rows[shard] = await checkpoint.reread()
        self._running.discard(shard)
        self._moved(shard, state, progress.spell(checkpoint.position))
        if state == "ended" or shard not in self._let_go:  # one that goes again and again waits for its turn
            self._listing_pause = _LISTING_SOON
            self._nap.cancel()
        self._let_go.add(shard)

    async def _process(self, shard: str, checkpoint: Checkpoint) -> bool:
        """Read, batch and deliver. Answers whether the shard's end was reached and settled."""
        cursor = self._latest.pop(shard, None) or Cursor(position=checkpoint.position)
        return await process(self._tools, shard, checkpoint, cursor, self._kept_for)

    def _kept_for(self) -> float:
        return self._topology.retention

    async def _give_up(self, shard: str, checkpoint: Checkpoint) -> None:
        """A shard that we had not finished has left the stream: say what is lost, and let its children start."""
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
        self._moved(shard, "ended")

    def _moved(
        self,
        shard: str,
        to: Literal["owned", "blocked_on_parent", "ended", "released", "forgotten"],
        position: str = "",
    ) -> None:
        self._tools.observe(ShardMoved(mapping=self._tools.mapping, shard=shard, to=to, position=position))
