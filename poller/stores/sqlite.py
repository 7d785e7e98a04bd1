"""A store in one file, for one machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteStore:
    """`sqlite:///PATH`."""

    path: str
