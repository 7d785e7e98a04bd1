"""One of several replicas that one command started: its part of what the file says, and the orders of its parent.

Orders come as lines on standard input: `stop REASON`, `abort`, `reload ADDRESS`. Its end says that the parent is gone,
however it ended: the replica hands over and ends, too. Signals would not do: who signals a whole group of processes
would, with the parent's own forwarding, count as having asked twice.
"""

from __future__ import annotations

import os
import socket as sockets
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import anyio

from poller.model.errors import SettingsError
from poller.settings import Settings
from poller.settings.values import LEAST_MEMORY, MIB
from poller.stores.memory import MemoryStore
from poller.stores.sqlite import SqliteStore

LISTENING = b"listening\n"
"""What a replica reports on standard output when it answers at its socket."""
NAME_TAKEN = 3
"""Exit code of a replica whose name another process has taken: it must not be started again."""

_CHUNK = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which one it is."""

    number: int
    """From 1."""
    of: int
    socket: Path
    """Where it serves HTTP, for the parent alone."""
    address: str
    """Where the parent serves it to everybody."""

    def share(self, settings: Settings) -> Settings:
        """What of the file is this replica's. Raises `SettingsError`."""
        refuse_undivided(settings, self.of)
        name = settings.fleet.id
        if name is None and not isinstance(settings.store, SqliteStore):  # which numbers all of its processes
            name = sockets.gethostname()
        return replace(
            settings,
            memory_bytes=settings.memory_bytes // self.of,
            fleet=replace(settings.fleet, id=name and f"{name}-{self.number}"),
            server=replace(settings.server, host="", port=0),  # the parent's: when it changes, nothing does here
        )

    async def orders(self) -> AsyncIterator[str]:
        """What the parent says, until it is gone."""
        source, held = sys.stdin.fileno(), b""
        while True:
            await anyio.wait_readable(source)
            if not (data := os.read(source, _CHUNK)):
                return
            *lines, held = (held + data).split(b"\n")
            for line in lines:
                yield line.decode()

    def report_listening(self) -> None:
        """Tell the parent."""
        with suppress(BrokenPipeError):  # it is gone, which the orders say
            os.write(sys.stdout.fileno(), LISTENING)

    def clean_up(self) -> None:
        """Remove what a parent that is gone left behind; the last one removes the folder."""
        with suppress(OSError):
            self.socket.unlink(missing_ok=True)
            self.socket.parent.rmdir()


def refuse_undivided(settings: Settings, replicas: int) -> None:
    """Refuse what so many replicas of one machine cannot share. Raises `SettingsError`."""
    mistakes = []
    if isinstance(settings.store, MemoryStore):
        mistakes.append(
            f"store: memory:// is one process's own, --replicas {replicas}: replicas need a store that they share,"
            " allowed: sqlite:///PATH, dynamodb://TABLE, postgresql://..."
        )
    if settings.memory_bytes < replicas * LEAST_MEMORY:
        least = LEAST_MEMORY // MIB
        mistakes.append(
            f"memory: {settings.memory_bytes // MIB}MiB is for {replicas} replicas together, which need {least}MiB each,"
            f" allowed: {replicas * least}MiB or more"
        )
    if mistakes:
        raise SettingsError("\n".join(mistakes))
