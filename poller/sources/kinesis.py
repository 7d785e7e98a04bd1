"""Kinesis streams."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KinesisStream:
    """The source part of a mapping of a Kinesis stream."""

    arn: str
    role_arn: str | None = None
    """Role to assume for reading."""
