"""A lease table of the Kinesis Client Library, in DynamoDB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poller.aws.errors import translated
from poller.mapping.kcl.back import Write
from poller.mapping.kcl.leases import BadRow, Table, read_table
from poller.model.errors import Denied, NotFound, Superseded


class LeaseTable:
    """One table by its name.

    Args:
        client: of DynamoDB, as `Aws.client` opens it.
    """

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self.name = name

    async def read(self) -> Table:
        """All rows, each as the last write left it.

        Raises:
            Denied: there is no such table, or a row of it is no lease.
            Transient: DynamoDB does not answer.
        """
        items: list[Any] = []
        following: dict[str, Any] = {}
        while True:
            try:
                with translated("dynamodb", "Scan"):
                    answer = await self._client.scan(TableName=self.name, ConsistentRead=True, **following)
            except NotFound as error:
                raise Denied(f"there is no table {self.name} (check its name, aws.region and the account)") from error
            items += answer.get("Items", ())
            if not answer.get("LastEvaluatedKey"):
                break
            following = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}
        try:
            return read_table(items)
        except BadRow as error:
            raise Denied(f"table {self.name}: {error}") from error

    async def write_all(self, writes: Sequence[Write]) -> None:
        """Make them one after the other.

        Raises:
            Denied: somebody else has written a row since it was read.
        """
        for done, write in enumerate(writes):
            try:
                await self.write(write)
            except Superseded as error:
                raise Denied(
                    f"table {self.name}: {write.key} was changed by somebody else, so a worker is alive; {done} of"
                    f" {len(writes)} rows are written back: stop it, and write back again"
                ) from error

    async def write(self, write: Write) -> None:
        """Make one write.

        Raises:
            Superseded: somebody has written the row since it was read.
        """
        try:
            if write.counter is None:
                with translated("dynamodb", "PutItem"):
                    await self._client.put_item(
                        TableName=self.name, Item=write.item, ConditionExpression="attribute_not_exists(leaseKey)"
                    )
            else:
                with translated("dynamodb", "UpdateItem"):
                    await self._client.update_item(TableName=self.name, **write.update)
        except Superseded:
            if not await self._is_ours(write):  # a try whose answer was lost has written it all the same
                raise

    async def _is_ours(self, write: Write) -> bool:
        with translated("dynamodb", "GetItem"):
            answer = await self._client.get_item(
                TableName=self.name, Key={"leaseKey": {"S": write.key}}, ConsistentRead=True
            )
        item = answer.get("Item")
        if not item:
            return False
        (lease,) = read_table([item]).leases
        return (lease.counter, lease.mark, lease.owner) == (
            0 if write.counter is None else write.counter + 1,
            write.mark,
            "",
        )
