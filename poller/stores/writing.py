"""What the stores behind a network have in common: the names of writes, and the folder that must not wait. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from poller.model.errors import Superseded

MEMBERS = "@members/"
"""The folder of the replicas' beats: a lease is lost when one of them waits behind checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A write on its way."""

    key: str
    value: bytes | None
    """None deletes."""
    expected: int
    name: str
    """Stored with the row."""
    repeated: bool
    """It was sent before, and nobody knows what became of it."""


class Writes:
    """Names each write, so that one whose reply was lost is known as one's own when it is asked for again."""

    def __init__(self, writer: str) -> None:
        """Nothing was sent yet.

        Args:
            writer: unique among all processes, ever.
        """
        self._writer = writer
        self._count = 0
        self._unsure: dict[str, Write] = {}

    @contextmanager
    def sending(self, key: str, value: bytes | None, expected: int) -> Iterator[Write]:
        """Name a write for as long as it is sent. What leaves this by another error than `Superseded` stays unsure.

        Args:
            key: of the row.
            value: None deletes.
            expected: version.
        """
        write = self._unsure.pop(key, None)
        if write is None or (write.value, write.expected) != (value, expected):
            self._count += 1
            name = f"{self._writer}-{self._count}"
            write = Write(key=key, value=value, expected=expected, name=name, repeated=False)
        try:
            yield write
        except Superseded:
            raise
        except BaseException:  # cancelled, too
            self._unsure[key] = Write(key=key, value=value, expected=expected, name=write.name, repeated=True)
            raise
