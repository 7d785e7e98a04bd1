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
