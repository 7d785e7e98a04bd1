"""AWS Lambda functions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaFunction:
    """A function at AWS Lambda."""

    name: str
    """The name in the configuration."""
    function: str
    """Name, partial or full ARN, with version or alias where given."""
    region: str | None = None
    """Region of the function's ARN; None: the `aws` section's."""
    role_arn: str | None = None
    """Role to assume for invoking."""
    timeout: float = 900.0
    """Seconds to wait for an answer; above the function's own timeout."""
