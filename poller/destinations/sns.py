"""SNS topics as on-failure destinations: the document is the message, without attributes or subject."""

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
class SnsDestination:
    """A standard topic, in the region of its ARN."""

    arn: str
    role_arn: str | None = None
    """Role to assume for publishing."""

    @asynccontextmanager
    async def open(self, aws: Aws) -> AsyncIterator[Destination]:
        """Open for publishing. The topic is not asked for anything yet."""
        region = self.arn.split(":", 5)[3]
        yield _OpenTopic(arn=self.arn, client=await aws.client("sns", region=region, role_arn=self.role_arn))


@dataclass(slots=True, kw_only=True)
class _OpenTopic:
    """The topic, as the `Destination` port."""

    arn: str
    client: Any

    async def send(self, account: Account) -> None:
        with translated("sns", "Publish"):
            await self.client.publish(TopicArn=self.arn, Message=account.document.decode())

    async def check(self) -> None:
        with translated("sns", "GetTopicAttributes"):
            await self.client.get_topic_attributes(TopicArn=self.arn)
