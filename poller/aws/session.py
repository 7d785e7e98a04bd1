"""How AWS is reached: region, endpoints, credentials from the standard chain, clients opened once and shared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Service: TypeAlias = Literal["kinesis", "dynamodb", "dynamodbstreams", "sqs", "sns", "s3", "lambda", "sts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSettings:
    """The `aws:` section. Credentials are never in it."""

    region: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None
    """For every service without an entry in `endpoints`."""
    endpoints: tuple[tuple[Service, str], ...] = ()


# Fixed for the rooms above (written by the owner of this room):
#
#   @asynccontextmanager
#   async def open_aws(settings: AwsSettings) -> AsyncIterator[Aws]
#
#   class Aws:
#       async def client(self, service: Service, *, region=None, role_arn=None) -> Any   # an aiobotocore client, cached
#       async def calls(self, *, region=None, role_arn=None) -> HotCalls                # cached
