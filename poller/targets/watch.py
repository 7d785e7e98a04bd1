"""A guard beside us, who ends process groups that we were killed too suddenly to end ourselves."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import FileIO
from subprocess import DEVNULL

import anyio
import anyio.abc

from poller.targets import guard


class Watch:
    """The groups that must not outlive us, and the guard who knows them. One for each local function."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._lock = anyio.Lock()
        self._process: anyio.abc.Process | None = None
        self._told: FileIO | None = None

    async def begin(self) -> None:
        """See to it that the guard is there; one that was killed is replaced. Raises OSError."""
        async with self._lock:
            if self._process is not None and self._process.returncode is None:
                return
            await self._end()
            reader, writer = os.pipe()
            with FileIO(reader, "rb") as reading:
                self._told = FileIO(writer, "wb")
                self._process = await anyio.open_process(
                    [sys.executable, "-I", "-S", str(guard.__file__)],
                    stdin=reading,
                    stdout=DEVNULL,
                    stderr=DEVNULL,
                    cwd="/",
                    env={},
                    start_new_session=True,
                )
            for group in self._groups:
                self._tell(f"+{group}\n")

    def add(self, group: int) -> None:
        """Let the guard know a group."""
        self._groups.add(group)
        self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        """Let the guard forget a group: it has ended."""
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    async def end(self) -> None:
        """Dismiss the guard, and wait until it has gone."""
        with anyio.CancelScope(shield=True):
            async with self._lock:
                await self._end()

    async def _end(self) -> None:
        if self._told is not None:
            self._told.close()
        if self._process is not None:
            await self._process.wait()
        self._told = self._process = None

    def _tell(self, line: str) -> None:
        with suppress(BrokenPipeError):  # somebody killed it: the next environment begins with another
            if self._told is not None:
                self._told.write(line.encode())
