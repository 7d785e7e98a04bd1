"""`poller import-kcl`: an application of the Kinesis Client Library goes on here, and back again."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

import anyio

from poller.aws.session import Aws, open_aws
from poller.fleet.member import DEFAULT
from poller.mapping import row
from poller.mapping.kcl import back, carry
from poller.mapping.kcl.leases import Lease, Table, named_there, selected, stream_id
from poller.mapping.kcl.quiet import Look, at_work
from poller.model.errors import Denied, PollerError, SettingsError, Superseded, told
from poller.model.policy import Latest
from poller.model.ports import Clock, Row, Source, Store
from poller.model.record import At, Topology, TrimHorizon
from poller.service.kcl_look import Looker
from poller.service.kcl_table import LeaseTable
from poller.settings import MappingSettings, Settings
from poller.sources.arn import parse_arn
from poller.sources.sqs import SqsQueue
from poller.stores.memory import MemoryStore

_MEMBERS = "@members/"
_BEATS = 3 * DEFAULT.beat
"""Seconds within which a replica that lives has written its row."""
"""Where replicas say that they live, in a store that several share."""

Say: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line says."""

    table: str
    mapping: str
    timestamp: float | None = None
    """Unix seconds, what AT_TIMESTAMP stands for."""
    force: bool = False
    dry_run: bool = False
    write_back: bool = False
    settle: float = 30.0
    """Seconds for which nothing may move: three times the failover time of the library's workers."""


async def import_kcl(settings: Settings, asked: Asked, *, clock: Clock, tell: Say, complain: Say) -> int:
    """Carry the leases of a table over into our store, or our rows back into the table.

    Args:
        tell: takes what becomes of each row, a line each.
        complain: takes what is in the way, and what takes time.

    Returns:
        0 when all of it is done, 1 when it was refused or failed.

    Raises:
        SettingsError: what is asked for cannot be done with this configuration.
    """
    try:
        async with _opened(settings, asked, clock) as room:
            await (_write_back if asked.write_back else _carry)(room, asked, tell, complain)
        return 0
    except* SettingsError:
        raise
    except* PollerError as group:
        complain(told(group))
    return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Room:
    """What both directions need."""

    mapping: MappingSettings
    aws: Aws
    store: Store
    source: Source
    table: LeaseTable
    topology: Topology
    look: Looker
    clock: Clock

    @property
    def prefix(self) -> str:
        return row.prefix(self.mapping.name, self.mapping.source.arn, self.topology.identity)

    @property
    def stream(self) -> str:
        """By which rows of an application of several streams name this one."""
        arn = parse_arn(self.mapping.source.arn)
        return stream_id(arn.resource, account=arn.account, region=arn.region, identity=self.topology.identity)

    async def at_this_moment(self) -> Look:
        """What moves while somebody works."""
        members = {key: stored.version async for key, stored in self.store.scan(_MEMBERS)}
        return Look(table=await self.table.read(), rows=await self.rows(), members=members)

    async def listed_anew(self) -> _Room:
        """With a listing that is younger than the table: what has ended there is closed in it."""
        return replace(self, topology=await self.source.topology())

    async def rows(self) -> Mapping[str, Row]:
        """Our rows of the mapping's shards, by shard."""
        start = f"{self.prefix}/"
        return {key.removeprefix(start): stored async for key, stored in self.store.scan(start)}


@asynccontextmanager
async def _opened(settings: Settings, asked: Asked, clock: Clock) -> AsyncIterator[_Room]:
    mapping = _mapping(settings, asked.mapping)
    if isinstance(settings.store, MemoryStore):
        raise SettingsError("store: memory:// forgets when this command ends, allowed: a store that stays")
    async with (
        open_aws(settings.aws) as aws,
        settings.store.open(aws) as store,
        mapping.source.open(aws, clock) as source,
    ):
        yield _Room(
            mapping=mapping,
            aws=aws,
            store=store,
            source=source,
            table=LeaseTable(await aws.client("dynamodb"), asked.table),
            topology=await source.topology(),
            look=Looker(source, mapping.source),
            clock=clock,
        )


def _mapping(settings: Settings, name: str) -> MappingSettings:
    found = {mapping.name: mapping for mapping in settings.mappings}
    if name not in found:
        raise SettingsError(f"mappings.{name}: there is no such mapping, allowed: {', '.join(sorted(found)) or 'none'}")
    if isinstance(found[name].source, SqsQueue):
        raise SettingsError(f"mappings.{name}: its source is a queue, allowed: a stream, which has checkpoints")
    return found[name]


async def _carry(room: _Room, asked: Asked, tell: Say, complain: Say) -> None:
    table, stored = await room.table.read(), await room.rows()
    room = await room.listed_anew()
    leases = _of_stream(room, asked, table)
    if (stored or await room.store.get(room.prefix)) and not asked.force:
        raise Denied(
            f"the store has rows of {room.mapping.name} already ({len(stored)} shards), which this would overwrite:"
            " use --force, or another mapping"
        )
    if carry.needs_timestamp(leases) and asked.timestamp is None:
        raise SettingsError(
            f"table {asked.table} holds AT_TIMESTAMP, and not which: give --timestamp as the application is configured"
        )
    if not asked.dry_run:
        quiet = await _settled(room, asked, complain)
        table, stored, room = quiet.table, quiet.rows, await room.listed_anew()
        leases = _of_stream(room, asked, table)
    known = carry.Known(
        counts=await room.look.counts(carry.to_look_at(leases)),
        latest=await room.look.latest(carry.to_resolve(leases), room.topology, room.clock),
        timestamp=math.nan if asked.timestamp is None else asked.timestamp,
    )
    carried = carry.carry(leases, room.topology.partitions, known)
    for fate in (*carried.fates, *carry.passed_over(table, leases)):
        tell(str(fate))
    if asked.dry_run:
        complain("nothing was written (--dry-run)")
        return
    await _store(room, carried.rows, stored, tell)
    tell(f"{room.mapping.name} goes on at {len(carried.rows)} shards of table {asked.table}")


def _of_stream(room: _Room, asked: Asked, table: Table) -> tuple[Lease, ...]:
    """The mapping's leases. Raises `Denied` when it cannot be the table of an application that reads the stream."""
    leases = selected(table.leases, named_there(table.leases, room.stream, force=asked.force))
    if not leases:
        others = sorted({lease.stream for lease in table.leases})
        of = f", only of {', '.join(others)}" if others else ""
        hint = "; --force takes the one of that account and name, if it is this stream all the same" if others else ""
        raise Denied(f"table {asked.table} holds no lease of {room.stream}{of}{hint}")
    listed = {partition.id for partition in room.topology.partitions}
    if listed.isdisjoint(lease.shard for lease in leases) and not asked.force:
        raise Denied(
            f"table {asked.table} names no shard that {room.mapping.source.arn} lists: it is of another stream, or was"
            " left long ago; --force takes it all the same"
        )
    if open_here := carry.contradicted(leases, room.topology.partitions):
        raise Denied(
            f"table {asked.table} says SHARD_END of {', '.join(open_here[:3])}, which {room.mapping.source.arn} lists as"
            " open: its rows are of another stream, or of one of that name that was deleted since"
        )
    return leases


async def _settled(room: _Room, asked: Asked, complain: Say) -> Look:
    """Table and rows, once nothing of them moved for the time that is asked for. Raises `Denied` when something did."""
    before = await room.at_this_moment()
    seconds = max(asked.settle, _BEATS if before.members else 0.0)
    complain(f"watching table {asked.table} for {seconds:g} s: nobody may work on it")
    await anyio.sleep(seconds)
    after = await room.at_this_moment()
    if reason := at_work(before, after):
        raise Denied(f"table {asked.table}, mapping {room.mapping.name}: {reason}")
    return after


async def _store(room: _Room, rows: Mapping[str, row.ShardRow], stored: Mapping[str, Row], tell: Say) -> None:
    mapping = await room.store.get(room.prefix)
    start = row.decode_mapping(mapping.value).start if mapping else await _start(room)
    try:
        await write_rows(room.store, room.prefix, rows, stored, start)
    except Superseded as error:
        raise Denied(
            f"a poller is processing {room.mapping.name}: stop it first, then use --force ({error})"
        ) from error
    for shard in sorted(stored.keys() - rows.keys()):
        tell(f"{shard}: known here alone -> forgotten, it starts anew")


async def write_rows(
    store: Store,
    prefix: str,
    rows: Mapping[str, row.ShardRow],
    stored: Mapping[str, Row],
    start: TrimHorizon | At,
) -> None:
    """Make the rows of a mapping these.

    When it is cut short nothing is lost: until all is written, shards without a row begin at their oldest record.

    Args:
        prefix: the key of the mapping's own row.
        rows: by shard.
        stored: what is there now, by shard.
        start: where shards without a row begin from then on.

    Raises:
        Superseded: somebody else writes them, too.
    """
    mapping = await store.get(prefix)
    unfinished = row.encode(row.MappingRow(start=TrimHorizon()))
    version = await store.put(prefix, unfinished, mapping.version if mapping else 0)
    for shard, new in rows.items():
        before = stored.get(shard)
        await store.put(f"{prefix}/{shard}", row.encode(new), before.version if before else 0)
    for shard in stored.keys() - rows.keys():
        await store.delete(f"{prefix}/{shard}", stored[shard].version)
    await store.put(prefix, row.encode(row.MappingRow(start=start)), version)


async def _start(room: _Room) -> TrimHorizon | At:
    """Where shards begin that have neither a row nor a parent with one."""
    start = room.mapping.policy.start
    if not isinstance(start, Latest):
        return start
    still_open = [partition.id for partition in room.topology.partitions if not partition.closed]
    resolved = await room.look.latest(still_open[:1], room.topology, room.clock)
    return min(resolved.values(), key=lambda at: at.time, default=At(room.clock()))


async def _write_back(room: _Room, asked: Asked, tell: Say, complain: Say) -> None:
    if not (stored := await room.rows()):
        raise Denied(f"the store has no rows of {room.mapping.name} and its stream as it is now: nothing to write back")
    table = await room.table.read()
    if not asked.dry_run:
        quiet = await _settled(room, asked, complain)
        table, stored, room = quiet.table, quiet.rows, await room.listed_anew()
    rows = {shard: row.decode_shard(each.value) for shard, each in stored.items()}
    named = named_there(table.leases, room.stream, force=asked.force)
    leases = selected(table.leases, named)
    moments = {shard: moment for shard, each in rows.items() if (moment := back.moment_of(each)) is not None}
    records = {shard: record for shard, each in rows.items() if (record := back.record_of(each)) is not None}
    returned = back.give_back(
        leases,
        rows,
        await room.look.shards(room.aws, room.topology),
        back.Looked(counts=await room.look.counts(records), firsts=await room.look.firsts(moments)),
        back.Rules(stream=named, typed=table.typed, force=asked.force),
    )
    for fate in returned.fates:
        tell(str(fate))
    if asked.dry_run:
        complain("nothing was written (--dry-run)")
        return
    await room.table.write_all(returned.writes)
    tell(
        f"{len(returned.writes)} rows of table {asked.table} written: the application goes on where the poller stopped"
    )
