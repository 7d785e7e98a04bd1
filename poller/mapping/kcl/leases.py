"""The rows of a lease table, as the library's versions 1.x to 3.x write them. No I/O, no clock.

Source: leases, section 1.1; amazon-kinesis-client, `DynamoDBLeaseSerializer` and `ExtendedSequenceNumber`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

Item: TypeAlias = Mapping[str, Any]
"""A row as DynamoDB says it: {attribute: {type: value}}."""

TRIM_HORIZON, LATEST, AT_TIMESTAMP, SHARD_END = "TRIM_HORIZON", "LATEST", "AT_TIMESTAMP", "SHARD_END"
_BELOW = {AT_TIMESTAMP: -3, TRIM_HORIZON: -2, LATEST: -1}
_LEASE = "LEASE"


class BadRow(ValueError):
    """A row that cannot be a lease; the message holds its key and what is wrong, on one line."""


class Mark(msgspec.Struct, frozen=True):
    """A checkpoint: behind which user record of which record the library goes on."""

    checkpoint: str
    """A decimal sequence number, or a sentinel."""
    sub: int = 0
    """The index of the last finished user record inside of a KPL aggregate; 0 for a plain record."""

    @property
    def numeric(self) -> bool:
        """Whether it is a sequence number."""
        return self.checkpoint.isdecimal()

    @property
    def rank(self) -> tuple[int, int, int]:
        """By this the library orders checkpoints: numbers as numbers, AT_TIMESTAMP the least, SHARD_END the last."""
        if self.checkpoint == SHARD_END:
            return (1, 0, 0)
        return (0, int(self.checkpoint) if self.numeric else _BELOW[self.checkpoint], self.sub)

    def __str__(self) -> str:
        return f"{self.checkpoint} ({self.sub})" if self.sub else self.checkpoint


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """A row of one shard."""

    key: str
    shard: str
    stream: str = ""
    """`account:stream:epoch` where one application reads several streams, else ""."""
    counter: int
    """Grows with every renewal, take and checkpoint."""
    mark: Mark
    owner: str = ""
    """The worker that holds it; "" for none, or one that has let go."""
    pending: str = ""
    """The checkpoint of a two-step checkpoint whose second step has not come."""
    parents: frozenset[str] = frozenset()
    children: frozenset[str] = frozenset()
    typed: bool = False
    """It says that it is a lease, as rows of 3.5 do."""


class Table(msgspec.Struct, frozen=True):
    """A lease table at one moment."""

    leases: tuple[Lease, ...]
    others: tuple[tuple[str, str], ...] = ()
    """Keys and kinds of rows that are none."""
    signs: Mapping[str, object] = {}
    """By key, what changes in a row while somebody works on it."""

    @property
    def typed(self) -> bool:
        """Whether new rows have to say what they are."""
        return any(lease.typed for lease in self.leases) or bool(self.others)


def read_table(items: Iterable[Item]) -> Table:
    """Tell the leases from what 3.5 and later keep beside them. Raises `BadRow`."""
    leases: list[Lease] = []
    others: list[tuple[str, str]] = []
    signs: dict[str, object] = {}
    for item in items:
        key = _text(item, "leaseKey")
        if not key:
            raise BadRow(f"a row without leaseKey (it has {', '.join(sorted(item)) or 'nothing'}): no lease table")
        kind = _text(item, "entityType")
        if kind and kind != _LEASE:
            others.append((key, kind))
            signs[key] = dict(item)
            continue
        lease = read_lease(key, item)
        leases.append(lease)
        signs[key] = (lease.counter, lease.owner, lease.mark)
    leases.sort(key=lambda lease: lease.key)
    return Table(tuple(leases), tuple(sorted(others)), signs)


def read_lease(key: str, item: Item) -> Lease:
    """One lease; what the library may leave out is taken as it takes it. Raises `BadRow`."""
    mark = Mark(_text(item, "checkpoint"), _number(key, item, "checkpointSubSequenceNumber"))
    if not mark.numeric and mark.checkpoint not in {*_BELOW, SHARD_END}:
        found = repr(mark.checkpoint) if mark.checkpoint else "missing"
        raise BadRow(f"{key}: checkpoint is {found}, allowed: a sequence number, {', '.join([*_BELOW, SHARD_END])}")
    stream = _text(item, "streamName")
    if not stream and key.count(":") >= 3:  # account:stream:epoch:shard
        stream = key.rpartition(":")[0]
    return Lease(
        key=key,
        shard=_text(item, "shardId") or key.rpartition(":")[2],
        stream=stream,
        counter=_number(key, item, "leaseCounter"),
        mark=mark,
        owner=_text(item, "leaseOwner") or _text(item, "checkpointOwner"),
        pending=_text(item, "pendingCheckpoint"),
        parents=_texts(item, "parentShardId"),
        children=_texts(item, "childShardIds"),
        typed="entityType" in item,
    )


def stream_id(arn_resource: str, *, account: str, region: str, identity: str) -> str:
    """By which a stream is named in the rows of an application that reads several: `account:stream:epoch`.

    Args:
        arn_resource: the last part of the stream's ARN.
        identity: `Topology.identity`: when a Kinesis stream was made, in unix seconds; the label of a DynamoDB stream.

    Source: KCL `StreamIdentifier`; the adapter of DynamoDB Streams, `KinesisMapperUtil`.
    """
    match arn_resource.split("/"):
        case ["table", table, "stream", label]:
            name = "$".join((region, account, table, label.replace(":", "_")))
            return f"{account}:{name}:1"
        case [_, name]:
            return f"{account}:{name}:{int(float(identity))}"
        case _:
            raise ValueError(f"{arn_resource} is no stream")


def named_there(leases: Sequence[Lease], stream: str, *, force: bool) -> str:
    """How a table names the stream; "" when it names none, as an application of one stream does.

    An application says itself when a stream was made, and may say it wrong. Or the rows are of a stream that was
    deleted since and created anew, whose checkpoints mean nothing: which of the two, an operator has to know.

    Args:
        stream: as `stream_id` says it.
        force: take the only stream of that account and name, whatever the moment.
    """
    named = {lease.stream for lease in leases} - {""}
    alike = sorted(other for other in named if other.rpartition(":")[0] == stream.rpartition(":")[0])
    if force and stream not in named and len(alike) == 1:
        return alike[0]
    return stream if named else ""


def selected(leases: Sequence[Lease], named: str) -> tuple[Lease, ...]:
    """The leases of one stream. Rows that name none are of the one stream that their application reads.

    Args:
        named: as `named_there` says it.
    """
    return tuple(lease for lease in leases if lease.stream in ("", named))


def new_item(key: str, mark: Mark, *, parents: Iterable[str], children: Iterable[str]) -> dict[str, Any]:
    """A row as the library creates it: unowned, its counter at 0."""
    item: dict[str, Any] = {
        "leaseKey": {"S": key},
        "leaseCounter": {"N": "0"},
        "ownerSwitchesSinceCheckpoint": {"N": "0"},
        "checkpoint": {"S": mark.checkpoint},
        "checkpointSubSequenceNumber": {"N": str(mark.sub)},
    }
    for name, shards in (("parentShardId", parents), ("childShardIds", children)):
        if named := sorted(shards):
            item[name] = {"SS": named}
    return item


def _text(item: Item, name: str) -> str:
    value = item.get(name, {}).get("S", "")
    return str(value)


def _texts(item: Item, name: str) -> frozenset[str]:
    return frozenset(item.get(name, {}).get("SS", ()))


def _number(key: str, item: Item, name: str) -> int:
    if name not in item:
        return 0
    text = item[name].get("N", "")
    try:
        return int(text)
    except ValueError:
        raise BadRow(f"{key}: {name} is {item[name]!r}, allowed: a whole number") from None
