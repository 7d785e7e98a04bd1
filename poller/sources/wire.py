"""Values as they came over the wire. No I/O, no clock."""

from __future__ import annotations

import msgspec
from msgspec import Raw

ABSENT = (b"", b"null")
"""What says that there is no value, which services and emulators use alike."""
NOTHING, NULL = map(Raw, ABSENT)
"""The same as values: of a field that is not there, and of one that is null."""

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What becomes of an answer that is torn, is no UTF-8, or is nested without end."""


def present(value: Raw) -> bytes:
    """The text of a value; empty when it was absent or null."""
    text = bytes(value)
    return b"" if text == b"null" else text
