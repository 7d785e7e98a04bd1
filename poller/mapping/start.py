"""Where a mapping of a stream begins: resolved once, by whichever replica sees the stream first, and stored."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import anyio

from poller.mapping import row
from poller.mapping.commit import Checkpoint
from poller.mapping.tools import Tools
from poller.model.errors import Superseded
from poller.model.policy import Latest
from poller.model.record import At, Cursor, Partition, Topology, TrimHorizon

_AT_ONCE = 16
"""Iterators asked for at the same time when LATEST is resolved."""


async def find_start(tools: Tools, topology: Topology, prefix: str) -> tuple[TrimHorizon | At, Mapping[str, Cursor]]:
    """Where shards without a row begin: as stored, or resolved and stored now.

    Returns:
        The place; and cursors of shards whose LATEST was resolved just now, good for as long as they stand there.
    """
    stored = await tools.store.get(prefix)
    if stored is not None:
        return row.decode_mapping(stored.value).start, {}
    start = tools.policy.start
    cursors: Mapping[str, Cursor] = {}
    latest = isinstance(start, Latest)
    if isinstance(start, Latest):
        cursors = await _newest(tools, topology)
        moments = [cursor.position.time for cursor in cursors.values() if isinstance(cursor.position, At)]
        start = At(min(moments, default=tools.clock()))
    try:
        await tools.store.put(prefix, row.encode(row.MappingRow(start=start)), 0)
    except Superseded:  # another replica was faster: its moment is the one, and earlier than ours or as good
        return await find_start(tools, topology, prefix)
    for shard in topology.partitions if latest else ():
        await _begin(tools, prefix, shard, start, cursors.get(shard.id))
    return start, cursors


async def _begin(tools: Tools, prefix: str, shard: Partition, start: TrimHorizon | At, cursor: Cursor | None) -> None:
    """Store where a shard begins under LATEST; one that is closed holds nothing new."""
    position = cursor.position if cursor else start
    checkpoint = Checkpoint(tools, f"{prefix}/{shard.id}", shard.id, row.ShardRow(position=position), 0)
    with suppress(Superseded):  # another replica has begun with it already, at the mapping's start, which is no later
        await (checkpoint.create() if cursor else checkpoint.end())


async def _newest(tools: Tools, topology: Topology) -> Mapping[str, Cursor]:
    """The newest record of every open shard, at one moment."""
    limiter = anyio.CapacityLimiter(_AT_ONCE)
    found: dict[str, Cursor] = {}

    async def resolve(shard: Partition) -> None:
        async with limiter:
            found[shard.id] = await tools.source.latest(shard.id)

    async with anyio.create_task_group() as tasks:
        for shard in topology.partitions:
            if not shard.closed:
                tasks.start_soon(resolve, shard)
    return found
