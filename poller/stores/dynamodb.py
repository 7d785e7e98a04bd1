"""A store in one DynamoDB table, for replicas on any number of machines.

An item is a row: `folder` and `rest` of its key, `version`, `value`, and `write`, the name of the write that made it. A
write is one PutItem on the condition that the version is the expected one; that is all the atomicity there is, and all
that is needed. A repeated write whose reply was lost finds its own name in the item that the failed condition returns.

Reads are strongly consistent: an eventually consistent one may lag behind what is acknowledged, so that a beat that did
happen looks like none and a parent that has ended like one that has not.

A value beyond `_LARGEST_BYTES` does not fit into an item. It is cut into parts, which are written first, under names
that are never used again; the row then names them, in the one write that counts. What a write left behind that did not
come to its end is removed by the next large write of the row.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import anyio

from poller.aws.errors import found_item
from poller.aws.session import Aws
from poller.model.errors import Denied, PollerError, SettingsError, Superseded, Throttled, Transient
from poller.model.ports import Row, Store
from poller.stores.dynamodb_table import Table
from poller.stores.writing import Write, Writes

_LARGEST_BYTES = 380_000
"""Of a value within one item, which may have 400 KB with its names and its key."""
_READS = 3
"""Times to read a large row that is being replaced meanwhile."""
_TRIES = 2
"""An idle connection that the server closed fails the call that finds out."""

Item: TypeAlias = Mapping[str, Mapping[str, Any]]
"""As DynamoDB writes it: name → type → value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamoStore:
    """`dynamodb://TABLE`: one table, shared by all replicas."""

    table: str
    region: str | None = None
    """None: that of the `aws` section."""
    endpoint_url: str | None = None
    """None: that of the `aws` section."""
    create: bool = False
    """Make the table where it is missing."""

    @asynccontextmanager
    async def open(self, aws: Aws) -> AsyncIterator[Store]:
        """Reach the table. One that cannot be reached now is no mistake: its rows are `Transient` until it can.

        Raises:
            SettingsError: there is no such table, it has other keys, or it may not be used.
        """
        async with AsyncExitStack() as stack:
            try:
                rows, beats = [await stack.enter_async_context(self._client(aws)) for _ in range(2)]
            except (Transient, Denied) as error:
                raise SettingsError(f"store: {error}") from None
            table = Table(self.table, rows, beats, create=self.create)
            try:
                await table.prepare()
            except Transient:
                pass  # every call prepares what is not prepared yet
            except Denied as error:
                raise SettingsError(f"store: {error}") from None
            yield _Dynamo(table)

    def _client(self, aws: Aws) -> AbstractAsyncContextManager[Any]:
        return aws.prompt_client("dynamodb", region=self.region, endpoint_url=self.endpoint_url)


class _Dynamo:
    shared = True
    pace = 5.0

    def __init__(self, table: Table) -> None:
        self._table = table
        self._writes = Writes(secrets.token_hex(8))
        self._large: set[str] = set()
        """Keys of rows that were seen to have parts."""

    async def get(self, key: str) -> Row | None:
        for _ in range(_READS):
            item = await self._item(key)
            if item is None:
                return None
            row = await self._row(key, item)
            if row is not None:
                return row
        raise Transient(f"store: {key} is being replaced too fast to be read")

    async def put(self, key: str, value: bytes, expected: int) -> int:
        with self._writes.sending(key, value, expected) as write:
            count = await self._put_parts(write, value) if len(value) > _LARGEST_BYTES else 0
            item = {
                **_key(key),
                "version": {"N": str(expected + 1)},
                "write": {"S": write.name},
                "value": {"B": b"" if count else value},
            }
            if count:
                item["parts"] = {"N": str(count)}
            await self._conditionally("PutItem", write, Item=item)
        if count or key in self._large:
            await self._sweep(key, expected + 1, write.name if count else "")
        if not count:
            self._large.discard(key)
        return expected + 1

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, Row]]:
        folder, _, rest = prefix.partition("/")
        async for item in self._query(prefix, folder, rest):
            key = f"{folder}/{item['rest']['S']}"
            row = await self._row(key, item) or await self.get(key)
            if row is not None:
                yield key, row

    async def delete(self, key: str, expected: int) -> None:
        with self._writes.sending(key, None, expected) as write:
            await self._conditionally("DeleteItem", write, Key=_key(key))
        if key in self._large:
            await self._sweep(key, expected, "")
            self._large.discard(key)

    async def wake(self) -> None:
        """Nobody can be told."""

    async def wait(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def _conditionally(self, operation: str, write: Write, **parameters: Any) -> None:
        """Change the row if it has the expected version, or if this write has changed it already."""
        repeated = write.repeated
        for last in (False, True):
            try:
                await self._table.call(
                    operation,
                    write.key,
                    **parameters,
                    **_condition(write.expected),
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
                return
            except Superseded as error:
                item = found_item(error) or await self._item(write.key)
                if _is_done(write, item, repeated=repeated):
                    return
                found = _version(item)
                raise Superseded(f"{write.key} has version {found}, not {write.expected}") from None
            except Throttled:
                raise
            except Transient:
                if last:
                    raise
                repeated = True

    async def _item(self, key: str) -> Item | None:
        answer = await self._table.call("GetItem", key, tries=_TRIES, Key=_key(key), ConsistentRead=True)
        item: Item | None = answer.get("Item")
        return item

    async def _row(self, key: str, item: Item) -> Row | None:
        """The row of an item, None when its parts have been replaced meanwhile."""
        version, count = _version(item), int(item.get("parts", {"N": "0"})["N"])
        if not count:
            return Row(bytes(item["value"]["B"]), version)
        self._large.add(key)
        parts = [
            bytes(part["value"]["B"])
            async for part in self._query(key, key, _part(version, item["write"]["S"]), names=("value",))
        ]
        return Row(b"".join(parts), version) if len(parts) == count else None

    async def _query(self, key: str, folder: str, rest: str, names: tuple[str, ...] = ()) -> AsyncIterator[Item]:
        """All items of a folder whose `rest` begins so, in order, page by page."""
        parameters: dict[str, Any] = {
            "KeyConditionExpression": "#f = :f AND begins_with(#r, :r)" if rest else "#f = :f",
            "ExpressionAttributeNames": {"#f": "folder"} | ({"#r": "rest"} if rest else {}),
            "ExpressionAttributeValues": {":f": {"S": folder}} | ({":r": {"S": rest}} if rest else {}),
            "ConsistentRead": True,
        }
        if names:
            parameters["ProjectionExpression"] = ", ".join(f"#p{number}" for number in range(len(names)))
            parameters["ExpressionAttributeNames"] |= {f"#p{number}": name for number, name in enumerate(names)}
        while True:
            answer = await self._table.call("Query", key, tries=_TRIES, **parameters)
            for item in answer["Items"]:
                yield item
            if not answer.get("LastEvaluatedKey"):
                return
            parameters["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    async def _put_parts(self, write: Write, value: bytes) -> int:
        """Write the parts of a large value; nobody reads them before the row names them."""
        self._large.add(write.key)
        starts = range(0, len(value), _LARGEST_BYTES)
        for number, start in enumerate(starts):
            rest = f"{_part(write.expected + 1, write.name)}{number:04}"
            item = {"folder": {"S": write.key}, "rest": {"S": rest}}
            item["value"] = {"B": value[start : start + _LARGEST_BYTES]}  # type: ignore[dict-item]
            await self._table.call("PutItem", write.key, tries=_TRIES, Item=item)
        return len(starts)

    async def _sweep(self, key: str, version: int, kept: str) -> None:
        """Remove the parts that no row can name any more.

        A part carries the version that its row was to get. The row has `version` now: a write that is to make it this
        or an earlier one fails, so those parts are nobody's, except the ones of `kept`, the write that made it. Parts
        of a later version belong to somebody who has read this one and writes right now.
        """
        with suppress(PollerError):  # the row is written, and the next large write sweeps again
            async for item in self._query(key, key, "", names=("rest",)):
                rest = item["rest"]["S"]
                if rest >= _part(version + 1, ""):
                    break
                if not (kept and rest.startswith(_part(version, kept))):
                    await self._table.call("DeleteItem", key, Key={"folder": {"S": key}, "rest": {"S": rest}})


def _key(key: str) -> dict[str, dict[str, Any]]:
    folder, _, rest = key.partition("/")
    return {"folder": {"S": folder}, "rest": {"S": rest}}


def _part(version: int, write: str) -> str:
    """How the parts of a write begin; folders of parts hold a "/", those of rows do not."""
    return f"{version:020}/" + (f"{write}/" if write else "")


def _version(item: Item | None) -> int:
    return int(item["version"]["N"]) if item else 0


def _condition(expected: int) -> dict[str, Any]:
    if expected == 0:
        return {"ConditionExpression": "attribute_not_exists(#v)", "ExpressionAttributeNames": {"#v": "version"}}
    return {
        "ConditionExpression": "#v = :v",
        "ExpressionAttributeNames": {"#v": "version"},
        "ExpressionAttributeValues": {":v": {"N": str(expected)}},
    }


def _is_done(write: Write, item: Item | None, *, repeated: bool) -> bool:
    """Whether the row is as this write was to leave it, and this write left it so."""
    if write.value is None:
        return item is None and repeated
    return item is not None and item.get("write") == {"S": write.name}
