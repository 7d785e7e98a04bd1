"""S3 buckets as on-failure destinations: the one kind that keeps the given-up records themselves, as `payload`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from poller.aws.errors import translated
from poller.aws.session import Aws
from poller.model.account import Account
from poller.model.ports import Destination

_FOLDER = "aws/lambda/"
_CONTENT_TYPE = "application/octet-stream"


def object_of(account: Account) -> bytes:
    """The document with one more key, `payload`: the event as a JSON *string*. Never fails, whatever the event holds."""
    payload = msgspec.json.encode(account.event.decode("utf-8", "replace"))
    return account.document.removesuffix(b"}") + b',"payload":' + payload + b"}"


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Destination:
    """A bucket. Its ARN has no region: the `aws` section's is asked first, S3 names the right one."""

    arn: str
    role_arn: str | None = None
    """Role to assume for writing."""

    @asynccontextmanager
    async def open(self, aws: Aws) -> AsyncIterator[Destination]:
        """Open for writing. The bucket is not asked for anything yet."""
        bucket = self.arn.split(":", 5)[5]
        yield _OpenBucket(bucket=bucket, client=await aws.client("s3", role_arn=self.role_arn))


@dataclass(slots=True, kw_only=True)
class _OpenBucket:
    """The bucket, as the `Destination` port."""

    bucket: str
    client: Any

    async def send(self, account: Account) -> None:
        with translated("s3", "PutObject"):
            await self.client.put_object(
                Bucket=self.bucket,
                Key=_FOLDER + account.name,
                Body=object_of(account),
                ContentType=_CONTENT_TYPE,
            )

    async def check(self) -> None:
        with translated("s3", "HeadBucket"):
            await self.client.head_bucket(Bucket=self.bucket)
