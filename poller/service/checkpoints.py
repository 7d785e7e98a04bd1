"""`poller checkpoints export` and `import`: positions as a file that people and other stores can read."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec

from poller.aws.session import open_aws
from poller.fleet.member import DEFAULT, FOLDER, Sighting, holds
from poller.fleet.member import decode as decode_member
from poller.mapping import progress, row, steer
from poller.mapping.row import MappingRow, ShardRow, decode_mapping, decode_shard
from poller.model.errors import PollerError, SettingsError, Superseded, told
from poller.model.ports import Row, Store
from poller.model.record import After, At, From, TrimHorizon
from poller.service.log_lines import one_line
from poller.settings import Settings, load
from poller.sources.sqs import SqsQueue
from poller.stores.memory import MemoryStore

_BEATS = 3 * DEFAULT.beat
"""Seconds within which a replica that lives has written its row."""


class StreamRows(msgspec.Struct, frozen=True, kw_only=True):
    """One stream of a mapping. Its key names the stream and its creation: positions of another are worth nothing."""

    key: str
    start: TrimHorizon | At
    shards: Mapping[str, ShardRow]


class Export(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file."""

    poller_checkpoints: int
    """Its version."""
    exported: float
    """Unix seconds."""
    mappings: Mapping[str, tuple[StreamRows, ...]]


_VERSION = 1
_decode = msgspec.json.Decoder(Export).decode


async def export(config: Path, environ: Mapping[str, str], *, mapping: str | None) -> str:
    """All positions of a mapping, or of all, as JSON. Raises `SettingsError`."""
    settings = load(config, environ, now=time.time())
    names = _streams(settings, mapping)
    async with _opened(settings) as store:
        found = {name: tuple([each async for each in _rows(store, name)]) for name in names}
    file = Export(poller_checkpoints=_VERSION, exported=time.time(), mappings=found)
    return json.dumps(msgspec.to_builtins(file), indent=1, sort_keys=True)


async def import_(
    config: Path,
    environ: Mapping[str, str],
    file: Path,
    *,
    force: bool,
    dry_run: bool,
    tell: Callable[[str], None],
) -> int:
    """Make the stored positions those of a file.

    Refused, unless forced, while a replica that lives has one of the shards and its mapping is not paused.

    Returns:
        0 when all is written, 1 when it was refused.

    Raises:
        SettingsError: the file or the configuration cannot be used.
    """
    settings = load(config, environ, now=time.time())
    try:
        export = _decode(await anyio.Path(file).read_bytes())
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror or error}") from error
    except msgspec.MsgspecError as error:
        raise SettingsError(f"{file}: is no export of poller checkpoints: {error}") from error
    if export.poller_checkpoints != _VERSION:
        raise SettingsError(f"{file}: has version {export.poller_checkpoints}, allowed: {_VERSION}")
    for name in export.mappings:
        _streams(settings, name)
    if wrong := _mistakes(export):
        raise SettingsError("\n".join(f"{file}: {one_line(each)}" for each in wrong))
    async with _opened(settings) as store:
        found = {key: stored for name in export.mappings async for key, stored in store.scan(f"{name}/")}
        if not force and (owned := await _owned(store, export, found)):
            for line in owned:
                tell(line)
            tell("nothing was written: pause the mapping first (poller pause), stop its replicas, or use --force")
            return 1
        writes = list(_writes(export, found))
        for key, value, version, what in writes:
            tell(one_line(f"{what}{' (dry run)' if dry_run else ''}"))
            if not dry_run:
                await store.put(key, value, version)
        tell(f"{len(writes)} rows {'would be ' if dry_run else ''}written, the others are so already")
    return 0


def _mistakes(export: Export) -> list[str]:
    """What no export says, a line each: such rows would be another mapping's or a replica's, or end their own mapping."""
    mistakes = []
    for name, streams in sorted(export.mappings.items()):
        for stream in streams:
            if not row.is_prefix(stream.key, name):
                mistakes.append(f"{stream.key!r} is no key of {name}, allowed: keys as they were exported")
            for shard, wanted in sorted(stream.shards.items()):
                position = wanted.position
                numbers = [position.sequence] if isinstance(position, From | After) else []
                for lane in wanted.lanes:
                    numbers += [*([lane.done] if lane.done else []), *(chunk.last for chunk in lane.chunks)]
                mistakes += [
                    f"{name} {shard}: {number!r} is no sequence number, allowed: digits"
                    for number in numbers
                    if not (number.isascii() and number.isdigit())
                ]
    return mistakes


def _streams(settings: Settings, name: str | None) -> list[str]:
    """The mappings of streams, or the one that is asked for. Raises `SettingsError`."""
    names = sorted(each.name for each in settings.mappings if not isinstance(each.source, SqsQueue))
    if name is None:
        return names
    if name not in names:
        raise SettingsError(f"there is no mapping {name} of a stream; there are {', '.join(names) or 'none'}")
    return [name]


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Store]:
    if isinstance(settings.store, MemoryStore):
        raise SettingsError("store: memory:// forgets when a process ends, allowed: a store that stays")
    try:
        async with open_aws(settings.aws) as aws, settings.store.open(aws) as store:
            yield store
    except* SettingsError:
        raise
    except* Superseded as group:
        raise SettingsError(f"somebody changed a row meanwhile, run it again: {told(group)}") from group
    except* PollerError as group:
        raise SettingsError(f"store: {one_line(told(group)).removeprefix('store: ')}") from group


async def _rows(store: Store, name: str) -> AsyncIterator[StreamRows]:
    """A mapping's rows, stream by stream; who has them is nobody's business elsewhere."""
    found = {key: stored async for key, stored in store.scan(f"{name}/")}
    for key in sorted(found):
        if key.count("/") == 1:
            shards = {
                other.removeprefix(f"{key}/"): _bare(decode_shard(stored.value))
                for other, stored in found.items()
                if other.startswith(f"{key}/")
            }
            yield StreamRows(key=key, start=decode_mapping(found[key].value).start, shards=shards)


def _bare(shard: ShardRow) -> ShardRow:
    return msgspec.structs.replace(shard, owner="", epoch=0, steered=0)


def _writes(export: Export, found: Mapping[str, Row]) -> list[tuple[str, bytes, int, str]]:
    """The rows that differ: key, value, version that is expected, and what it means for people."""
    writes: list[tuple[str, bytes, int, str]] = []
    for name, streams in sorted(export.mappings.items()):
        for stream in streams:
            if stream.key not in found:
                writes.append((stream.key, row.encode(MappingRow(start=stream.start)), 0, f"{name}: begins"))
            for shard, wanted in sorted(stream.shards.items()):
                key = f"{stream.key}/{shard}"
                stored = found.get(key)
                before = decode_shard(stored.value) if stored else ShardRow(position=TrimHorizon())
                after = msgspec.structs.replace(wanted, owner=before.owner, epoch=before.epoch, steered=before.steered)
                if stored is None or after != before:
                    was = _spelled(before) if stored else "nothing"
                    what = f"{name} {shard}: {was} -> {_spelled(after)}"
                    writes.append((key, row.encode(after), stored.version if stored else 0, what))
    return writes


def _spelled(shard: ShardRow) -> str:
    return "SHARD_END" if shard.ended else progress.spell(shard.position)


async def _owned(store: Store, export: Export, found: Mapping[str, Row]) -> list[str]:
    """Why the rows of these mappings must not be written now, a line each."""
    paused = {name for name in export.mappings if await _is_paused(store, name)}
    keys = [stream.key for name, streams in export.mappings.items() if name not in paused for stream in streams]
    if not keys:
        return []
    before = {key: stored.version async for key, stored in store.scan(FOLDER)}
    if not before:
        return []
    await anyio.sleep(_BEATS)
    roster = {
        key.removeprefix(FOLDER): Sighting(decode_member(stored.value), stored.version, 0.0)
        async for key, stored in store.scan(FOLDER)
        if before.get(key) != stored.version
    }
    shards = {key: decode_shard(stored.value) for key, stored in found.items() if key.count("/") > 1}
    return [
        f"{key.partition('/')[0]} {key.rpartition('/')[2]} is {shard.owner}'s, which is alive"
        for key, shard in sorted(shards.items())
        for stream in keys
        if key.startswith(f"{stream}/") and not shard.ended and holds(roster, shard.owner, shard.epoch, stream)
    ]


async def _is_paused(store: Store, name: str) -> bool:
    stored = await store.get(steer.key(name))
    return stored is not None and steer.decode(stored.value).paused is not None
