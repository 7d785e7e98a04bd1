"""The account of records that were given up, for an on-failure destination. Immutable, no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a destination is told about one given-up batch."""

    document: bytes
    """Lambda's document, serialized: what SQS and SNS receive."""
    event: bytes
    """The event of the given-up records; S3 stores it inside the document as the JSON string `payload`."""
    name: str
    """`UUID/SHARD/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-RANDOM_UUID`: what follows `aws/lambda/` in an S3 key."""
