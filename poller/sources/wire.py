"""Values as they came over the wire. No I/O, no clock."""

from __future__ import annotations

from msgspec import Raw


def present(value: Raw) -> bytes:
    """The text of a value; empty when it was absent or null, which services and emulators use alike."""
    text = bytes(value)
    return b"" if text == b"null" else text
