"""What AWS has and this program has not yet: refused, so that nobody relies on it. Building it deletes its line here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from poller.settings.tree import shown

NOT_YET: Mapping[str, object] = {
    "KMSKeyArn": None,
}
"""Fields of a mapping whose behaviour is not built, and the value of each that asks for nothing."""


def refused(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every field that asks for what is not built: the dotted field, and what to do.

    Args:
        given: the fields that the file gives, under AWS's names.
    """
    for field, idle in NOT_YET.items():
        value: Any = given
        for key in field.split("."):
            value = value.get(key, idle) if isinstance(value, Mapping) else idle
        if value != idle:
            simple = isinstance(idle, int) and isinstance(value, int)
            yield (
                field,
                f"{shown(value)} is not supported yet, allowed: {shown(idle)}"
                if simple
                else "is not supported yet, leave it out",
            )
