"""One DynamoDB table: found or made before its first use, and each call to it sent by the client that is free for it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import anyio

from poller.aws.errors import translated
from poller.model.errors import Denied, NotFound, Throttled, Transient
from poller.stores.writing import MEMBERS

KEY_SCHEMA = (("folder", "HASH"), ("rest", "RANGE"))
"""The table's key, both texts; `deploy/dynamodb` has the same."""
_CREATION = 60.0
"""Seconds a table may take to be made."""
_METHODS = {
    "CreateTable": "create_table",
    "DescribeTable": "describe_table",
    "GetItem": "get_item",
    "Query": "query",
    "PutItem": "put_item",
    "DeleteItem": "delete_item",
}


class Table:
    """Calls to one table, each sent by the client that has nothing slower to do."""

    def __init__(self, name: str, rows: Any, beats: Any, *, create: bool) -> None:
        """Nothing is sent yet.

        Args:
            name: of the table.
            rows: a client for checkpoints and reads.
            beats: a client for the rows of members.
            create: make the table where it is missing.
        """
        self.name = name
        self._create = create
        self._rows = rows
        self._beats = beats
        self._prepared = False
        self._preparing = anyio.Lock()

    async def call(self, operation: str, key: str, *, tries: int = 1, **parameters: Any) -> Mapping[str, Any]:
        """One call about one key. Raises `Superseded` for a failed condition."""
        if not self._prepared:
            await self.prepare()
        client = self._beats if key.startswith(MEMBERS) else self._rows
        while True:
            tries -= 1
            try:
                return await _sent(client, operation, TableName=self.name, **parameters)
            except NotFound:
                raise self._missing() from None
            except Throttled:
                raise
            except Transient:
                if tries <= 0:
                    raise

    async def prepare(self) -> None:
        """Find the table, or make it; once.

        Raises:
            Denied: it is missing, or another kind of table, or may not be used.
        """
        async with self._preparing:
            if self._prepared:
                return
            try:
                with anyio.fail_after(_CREATION):
                    table = await self._there()
            except TimeoutError:
                raise Transient(f"store: the table {self.name} is still being made after {_CREATION:g} s") from None
            found = tuple(sorted((each["AttributeName"], each["KeyType"]) for each in table["KeySchema"]))
            if found != KEY_SCHEMA:
                raise Denied(
                    f"the table {self.name} belongs to something else: its key is {_spelled(found)},"
                    f" needed: {_spelled(KEY_SCHEMA)} (deploy/dynamodb has templates)"
                )
            self._prepared = True

    async def _there(self) -> Mapping[str, Any]:
        """The table, once it is there."""
        while True:
            table = await self._described()
            if table is not None and table["TableStatus"] not in {"CREATING", "DELETING"}:
                return table
            if table is None:
                await self._make()
            await anyio.sleep(0.2)

    async def _described(self) -> Mapping[str, Any] | None:
        try:
            answer = await _sent(self._rows, "DescribeTable", TableName=self.name)
        except NotFound:
            if self._create:
                return None
            raise self._missing() from None
        table: Mapping[str, Any] = answer["Table"]
        return table

    async def _make(self) -> None:
        with suppress(Transient):  # another replica makes it; or this failed, and what is described next tells
            await _sent(
                self._rows,
                "CreateTable",
                TableName=self.name,
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in KEY_SCHEMA],
                KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in KEY_SCHEMA],
                BillingMode="PAY_PER_REQUEST",
            )

    def _missing(self) -> Denied:
        return Denied(
            f"there is no DynamoDB table {self.name}: make it with deploy/dynamodb/table.yaml (CloudFormation) or"
            f" table.tf (Terraform), or say dynamodb://{self.name}?create=true"
        )


async def _sent(client: Any, operation: str, **parameters: Any) -> Mapping[str, Any]:
    with translated("dynamodb", operation):
        answer: Mapping[str, Any] = await getattr(client, _METHODS[operation])(**parameters)
        return answer


def _spelled(schema: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in schema)
