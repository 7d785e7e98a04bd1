"""What the parts of a source's ARN say. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass

from poller.model.errors import Denied


@dataclass(frozen=True, slots=True, kw_only=True)
class Arn:
    """The parts of an Amazon Resource Name: arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE."""

    partition: str
    service: str
    region: str
    account: str
    resource: str

    def invoke_identity(self, role_arn: str | None) -> str:
        """The `invokeIdentityArn` of a stream's events: the mapping's role, else one that tells whose daemon this is."""
        return role_arn or f"arn:{self.partition}:iam::{self.account}:role/poller"


def parse_arn(text: str) -> Arn:
    """Take an ARN apart.

    Raises:
        Denied: it is none.
    """
    match text.split(":", 5):
        case ["arn", partition, service, region, account, resource] if service and resource:
            return Arn(partition=partition, service=service, region=region, account=account, resource=resource)
        case _:
            raise Denied(f"{text!r} is not an ARN: arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE")
