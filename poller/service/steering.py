"""Takes operators' orders: judges them, and stores them where whoever has the shards will obey."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

import msgspec

from poller.aws.session import Aws
from poller.mapping import row, steer
from poller.mapping.row import ShardRow, decode_shard
from poller.mapping.steer import Pause, Seek
from poller.mapping.wishes import wish
from poller.model.errors import Denied, PollerError, ShardGone, Trimmed
from poller.model.facts import Fact, OrderTaken
from poller.model.ports import Clock, Source, Store
from poller.model.record import After, At, Cursor, From, Position, Topology, TrimHorizon
from poller.service.log_lines import one_line
from poller.settings import MappingSettings
from poller.settings.values import timestamp
from poller.sources.sqs import SqsQueue

_SEQUENCE_DIGITS = 16
"""A number of so many digits is a sequence number, a shorter one is unix seconds."""
_LONGEST = 300


class Refused(PollerError):
    """An order that cannot be obeyed; one line that says what would be right."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(one_line(reason))
        self.status = status
        """Of the answer."""


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request."""

    shard: str = ""
    """"": the mapping as a whole."""
    to: str = ""
    """Of a seek: TRIM_HORIZON, LATEST, a time or a sequence number."""
    after: bool = False
    """Go on behind the record of that sequence number."""
    who: str = ""
    """Who gives it, as they say."""


class Orders:
    """The orders for the mappings of one configuration."""

    def __init__(
        self,
        *,
        aws: Aws,
        store: Store,
        clock: Clock,
        observe: Callable[[Fact], None],
        mappings: Callable[[], Mapping[str, MappingSettings]],
    ) -> None:
        self._aws = aws
        self._store = store
        self._clock = clock
        self._observe = observe
        self._mappings = mappings
        self.ring: Callable[[], None] | None = None
        """Has all replicas look for new orders; None until this one is a member."""

    async def take(
        self, name: str, verb: Literal["pause", "resume", "seek"], order: Order, *, origin: str
    ) -> dict[str, Any]:
        """Take an order; answers what is wished now, ready for JSON.

        Args:
            name: of the mapping.
            origin: the address that it came from.

        Raises:
            Refused: it cannot be obeyed.
            Transient, Denied: the store or the source could not be asked.
        """
        if self.ring is None:
            raise Refused(503, "the poller is starting, try again")
        mapping = self._mappings().get(name)
        if mapping is None:
            raise Refused(404, f"there is no mapping {name}; there are {', '.join(sorted(self._mappings()))}")
        if verb != "seek" and (order.to or order.after):
            raise Refused(422, f"{verb} takes a shard, and nothing else")
        who = one_line(f"{order.who} from {origin}" if order.who else origin, _LONGEST)
        match verb:
            case "pause":
                told = await self._pause(mapping, order, who)
            case "resume":
                told = await self._resume(mapping, order)
            case "seek":
                told = await self._seek(mapping, order, who)
        asked = order.to + (" (behind it)" if order.after else "")
        self._observe(OrderTaken(mapping=name, shard=order.shard, verb=verb, asked=asked, who=who))
        self.ring()
        return {"mapping": name, "shard": order.shard or None} | told

    async def _pause(self, mapping: MappingSettings, order: Order, who: str) -> dict[str, Any]:
        if order.shard:
            self._of_stream(mapping)
            async with mapping.source.open(self._aws, self._clock) as source:
                topology = await source.topology()
            known = {each.id for each in topology.partitions}
            if order.shard not in known:
                raise Refused(404, f"{mapping.name} has no shard {order.shard}")
        by = Pause(who, self._clock())
        wishes = await wish(self._store, mapping.name, partial(steer.pause, shard=order.shard, by=by))
        found = steer.paused(wishes, order.shard) or by
        return {
            "paused": {
                "by": found.who,
                "since": datetime.fromtimestamp(found.at, UTC).isoformat(timespec="milliseconds"),
            }
        }

    async def _resume(self, mapping: MappingSettings, order: Order) -> dict[str, Any]:
        if order.shard:
            self._of_stream(mapping)
        wishes = await wish(self._store, mapping.name, partial(steer.resume, shard=order.shard))
        if wishes.paused:
            raise Refused(409, f"{mapping.name} is paused as a whole: resume it without a shard")
        return {"paused": None}

    async def _seek(self, mapping: MappingSettings, order: Order, who: str) -> dict[str, Any]:
        self._of_stream(mapping)
        position = place(order, now=self._clock())
        async with mapping.source.open(self._aws, self._clock) as source:
            topology = await source.topology()
            stream = row.prefix(mapping.name, mapping.source.arn, topology.identity)
            rows = {
                key.removeprefix(f"{stream}/"): decode_shard(stored.value)
                async for key, stored in self._store.scan(f"{stream}/")
            }
            shards = chosen(order.shard, topology, rows, latest=position is None)
            if isinstance(position, From | After):
                await _check(source, order.shard, position)
            to = position or await _newest(source, topology, shards, self._clock)
        seek = Seek(
            serial=0,
            stream=stream,
            shards=shards,
            to=to,
            forward=position is None,
            reopens=position is not None and not order.shard,
            asked=order.to,
            who=who,
            at=self._clock(),
        )
        above = max((each.steered for each in rows.values()), default=0)
        wishes = await wish(self._store, mapping.name, partial(steer.sought, seek=seek, above=above))
        return {"to": order.to, "serial": wishes.serial, "shards": list(shards)}

    @staticmethod
    def _of_stream(mapping: MappingSettings) -> None:
        if isinstance(mapping.source, SqsQueue):
            raise Refused(
                422, f"{mapping.name} reads a queue, which has no shards and no positions: only pause and resume"
            )


def place(order: Order, *, now: float) -> Position | None:
    """Where a seek goes; None for LATEST. Raises `Refused`."""
    text = order.to.strip()
    is_sequence = text.isascii() and text.isdigit() and len(text) >= _SEQUENCE_DIGITS
    if order.after and not is_sequence:
        raise Refused(422, "after is for a sequence number")
    if is_sequence:
        if not order.shard:
            raise Refused(422, "a sequence number is one of a shard: name the shard")
        return After(text) if order.after else From(text)
    if text.upper() in ("TRIM_HORIZON", "LATEST"):
        return TrimHorizon() if text.upper() == "TRIM_HORIZON" else None
    return At(moment(text, now=now))


def moment(text: str, *, now: float) -> float:
    """Unix seconds of a time in the past. Raises `Refused`."""
    try:
        number: object = float(text)
    except ValueError:
        number = text
    try:
        time = timestamp(number)
    except ValueError:
        allowed = "TRIM_HORIZON, LATEST, a time such as 2026-11-20T10:00:00Z, unix seconds, or a sequence number"
        raise Refused(422, f"{text!r} is no place in a stream, allowed: {allowed}") from None
    if time > now:
        raise Refused(422, f"{text} lies in the future")
    return time


def chosen(shard: str, topology: Topology, rows: Mapping[str, ShardRow], *, latest: bool) -> tuple[str, ...]:
    """The shards that a seek is about. Raises `Refused`.

    Args:
        shard: the only one; "" for all.
        latest: it goes to LATEST, where shards that have ended already are.
    """
    listed = {each.id for each in topology.partitions}
    ended = {name for name, each in rows.items() if each.ended}
    if not shard:
        return tuple(sorted(listed - ended if latest else listed))
    if shard not in listed:
        raise Refused(404, f"the stream has no shard {shard}")
    if shard in ended:
        raise Refused(
            409,
            f"{shard} has ended and its children have begun: seek the mapping without a shard, which reads ended shards"
            " again before their children",
        )
    return (shard,)


async def _check(source: Source, shard: str, position: Position) -> None:
    """Find out whether a sequence number is one of the shard. Raises `Refused`."""
    try:
        await source.read(shard, Cursor(position=position), 1, _admit)
    except Trimmed:
        raise Refused(422, f"that record has left {shard}: TRIM_HORIZON is its oldest record") from None
    except (Denied, ShardGone) as error:
        raise Refused(422, f"{shard} cannot be read from there: {error}") from None


async def _admit(_: int) -> None:
    """One record has room."""


async def _newest(source: Source, topology: Topology, shards: tuple[str, ...], clock: Clock) -> At:
    """The moment that LATEST is, by the source's clock: of all shards the earliest."""
    moments = [
        cursor.position.time
        for each in topology.partitions
        if each.id in shards and not each.closed
        if isinstance((cursor := await source.latest(each.id)).position, At)
    ]
    return At(min(moments, default=clock()))
