"""Something kept of each mapping for as long as it is configured. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Kept(dict[str, T]):
    """By mapping; made when it is first asked for. Of a mapping that was removed there is only what nobody sees."""

    def __init__(self, make: Callable[[str], T], unseen: Callable[[str], T]) -> None:
        super().__init__()
        self._make = make
        self._unseen = unseen
        self._removed: set[str] = set()

    def __missing__(self, mapping: str) -> T:
        if mapping in self._removed:
            return self._unseen(mapping)  # for its last words
        made = self[mapping] = self._make(mapping)
        return made

    def configured(self, mapping: str) -> None:
        """A mapping that was removed may have come back."""
        self._removed.discard(mapping)

    def remove(self, mapping: str) -> None:
        """Forget a mapping, and what is yet to come of it."""
        self._removed.add(mapping)
        self.pop(mapping, None)
