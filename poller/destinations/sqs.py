"""SQS queues as on-failure destinations: the document is a message's body, without attributes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from poller.aws.errors import translated
from poller.aws.session import Aws
from poller.model.account import Account
from poller.model.ports import Destination


@dataclass(frozen=True, slots=True, kw_only=True)
class SqsDestination:
    """A standard queue, in the region of its ARN."""

    arn: str
    role_arn: str | None = None
    """Role to assume for sending."""

    @asynccontextmanager
    async def open(self, aws: Aws) -> AsyncIterator[Destination]:
        """Open for sending. The queue is not asked for anything yet."""
        _, _, _, region, account, name = self.arn.split(":", 5)
        client = await aws.client("sqs", region=region, role_arn=self.role_arn)
        # Asking for the URL would need sqs:GetQueueUrl, which a role made for Lambda does not have.
        yield _OpenQueue(client=client, url=f"{client.meta.endpoint_url.rstrip('/')}/{account}/{name}")


@dataclass(slots=True, kw_only=True)
class _OpenQueue:
    """The queue, as the `Destination` port."""

    client: Any
    url: str

    async def send(self, account: Account) -> None:
        with translated("sqs", "SendMessage"):
            await self.client.send_message(QueueUrl=self.url, MessageBody=account.document.decode())

    async def check(self) -> None:
        with translated("sqs", "GetQueueAttributes"):
            await self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])
