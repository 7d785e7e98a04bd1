"""A store that forgets when the process ends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStore:
    """`memory://`: positions are lost when the process ends."""
