"""Functions behind an HTTP endpoint."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFunction:
    """A function that takes the event as the body of a POST."""

    name: str
    """The name in the configuration."""
    url: str
    timeout: float = 60.0
    """Seconds until an invocation counts as timed out."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Sent with every request; may hold secrets."""
