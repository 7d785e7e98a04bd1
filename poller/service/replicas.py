"""`poller run --replicas N`: starts N daemons, starts those again that end, and serves all at one address.

Each child has its orders from a pipe whose end it takes for the end of this process (`part`), and reports on another
that it listens. It is in a session of its own: a Ctrl-C of the terminal is this process's to forward.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE

import anyio
import anyio.abc

from poller.model.errors import SettingsError
from poller.model.facts import Reloaded, Stopping
from poller.service import signals
from poller.service.front import Front, Replica
from poller.service.http import serving
from poller.service.logs import LogFacts
from poller.service.metrics import Metrics
from poller.service.part import LISTENING, NAME_TAKEN, refuse_undivided
from poller.service.standing import Standings
from poller.service.takers import joined
from poller.settings import ServerSettings, Settings, load

_log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""Seconds before a replica that ended is started again: the first time, and at the most."""
_SOUND = 60.0
"""Seconds that a replica has to have lived for its end to count as the first one."""
_UNUSABLE = 2
"""Exit code: the configuration cannot be used."""
_AFTER_GRACE = 10.0
"""Seconds beyond `shutdown_grace` after which a replica that does not end is killed."""
_AFTER_ABORT = 3.0
"""The same after a second signal."""


async def run_replicas(config: Path, environ: Mapping[str, str], count: int, options: Sequence[str]) -> int:
    """Run so many daemons until told to stop.

    Args:
        options: of `poller run`, for each of them.

    Returns:
        0 when all work in flight ended within the grace, 1 when it was cut short or a namesake took over, 2 when a
        replica could not use the configuration, which it has told.

    Raises:
        SettingsError: the configuration cannot be used.
    """
    parent = Parent(config, environ, count, options)
    settings = parent.load()
    with _folder() as folder:
        async with anyio.create_task_group() as tasks:
            await tasks.start(parent.obey_signals)
            async with parent.serving(settings.server):
                await parent.keep_all(Path(folder))
            tasks.cancel_scope.cancel()
    return parent.code


def next_pause(pause: float, lived: float) -> float:
    """Seconds to wait before a replica is started again.

    Args:
        pause: before its last start; 0.0 at the first.
        lived: seconds since then.
    """
    return min(_LONGEST_PAUSE, 2 * pause) if pause and lived < _SOUND else _FIRST_PAUSE


def ended(code: int) -> str:
    """How a process ended, for people."""
    if code >= 0:
        return f"exit code {code}"
    return f"signal {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"signal {-code}"


@dataclass(slots=True, eq=False)
class _Child:
    """One of the numbers, and the process that has it now."""

    number: int
    lives: int = 0
    process: anyio.abc.Process | None = None
    heard: bool = False
    """It has listened once: the configuration can be used."""
    settled: anyio.Event = field(default_factory=anyio.Event)
    """Whether it can is known."""


class Parent:
    """The process that the others are started by."""

    def __init__(self, config: Path, environ: Mapping[str, str], count: int, options: Sequence[str]) -> None:
        self._config = config
        self._environ = environ
        self._options = options
        self._metrics = Metrics(time.time, Standings(time.time))
        self._tell = joined(self._metrics.takers, LogFacts(time.time).takers)
        self._children = [_Child(number) for number in range(1, count + 1)]
        self._folder = Path()
        self._at: tuple[str, int] | None = None
        self._grace = 0.0
        self._address = ""
        self._door = AsyncExitStack()
        self._stop_asked, self._abort_asked = anyio.Event(), anyio.Event()
        self._front = Front(self._replicas, count, self._metrics, socket.gethostname())
        self.code = 0

    def load(self) -> Settings:
        """Read the configuration, as each of the replicas will. Raises `SettingsError`."""
        settings = load(self._config, self._environ, now=time.time())
        refuse_undivided(settings, len(self._children))
        self._grace = settings.shutdown_grace
        return settings

    # ---------------------------------------------------------------- what everybody asks

    @asynccontextmanager
    async def serving(self, server: ServerSettings) -> AsyncIterator[None]:
        """Serve for all. Raises `SettingsError`: the address cannot be bound."""
        try:
            await self._serve((server.host, server.port))
            self._tell(Reloaded(successful=True, at=time.time()))
            yield
        finally:
            await self._door.aclose()

    async def _serve(self, at: tuple[str, int]) -> None:
        """Move to this host and port. Raises `SettingsError`: it cannot be, and the old ones are served as before."""
        before, old = self._at, self._door
        if before is None or at[1] == 0 or at[1] != before[1]:
            self._door = await self._opened(at)
            await old.aclose()
            return
        self._at = None
        await old.aclose()  # a port is not bound twice, by 127.0.0.1 and by 0.0.0.0
        try:
            self._door = await self._opened(at)
        except SettingsError:
            self._door = await self._opened(before)
            raise

    async def _opened(self, at: tuple[str, int]) -> AsyncExitStack:
        """A door that is open. Raises `SettingsError`."""
        async with AsyncExitStack() as opening:
            port = await opening.enter_async_context(serving(self._front.application(), at))
            door = opening.pop_all()
        self._at, self._address = at, f"http://{at[0]}:{port}/"
        _log.info("listening", extra={"fields": {"address": self._address, "replicas": len(self._children)}})
        return door

    def _replicas(self) -> Sequence[Replica]:
        return [
            Replica(number=child.number, life=_life(child), socket=self._socket(child))
            for child in self._children
            if child.process is not None
        ]

    def _socket(self, child: _Child) -> Path:
        return self._folder / str(child.number)

    # ---------------------------------------------------------------- what it is told

    async def obey_signals(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """SIGHUP reloads; SIGTERM or SIGINT stops all, and a second one stops them at once."""
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
            signals.let_come()
            task_status.started()
            async for number in received:
                if number == signal.SIGHUP:
                    await self._reload()
                elif self._stop_asked.is_set():
                    self._abort_asked.set()
                    await self._order_all("abort")
                else:
                    await self._stop(signal.Signals(number).name)

    async def _reload(self) -> None:
        """Follow the file; a bad one changes nothing, here and in the replicas."""
        if self._stop_asked.is_set():
            return
        grace = self._grace
        try:
            settings = self.load()
            at = (settings.server.host, settings.server.port)
            if at != self._at:
                await self._serve(at)
        except SettingsError as error:
            self._grace = grace
            self._tell(Reloaded(successful=False, at=time.time(), reason=str(error)))
            return
        self._tell(Reloaded(successful=True, at=time.time()))
        self._front.tally.keep([mapping.name for mapping in settings.mappings])
        await self._order_all(f"reload {self._address}")

    async def _stop(self, reason: str) -> None:
        if not self._stop_asked.is_set():
            self._front.stopping = reason
            self._tell(Stopping(reason=reason, grace=self._grace))
            self._stop_asked.set()
            await self._order_all(f"stop {reason}")

    async def _order_all(self, order: str) -> None:
        for child in self._children:
            if child.process is not None:
                await _order(child.process, order)

    # ---------------------------------------------------------------- what it keeps alive

    async def keep_all(self, folder: Path) -> None:
        """Start all and keep them until the stop: the first alone, so that what is wrong with the file is told once."""
        self._folder = folder
        async with anyio.create_task_group() as watch:
            watch.start_soon(self._kill_late)
            async with anyio.create_task_group() as tasks:
                first, *others = self._children
                tasks.start_soon(self._keep, first)
                await first.settled.wait()
                for child in others if not self._stop_asked.is_set() else ():
                    tasks.start_soon(self._keep, child)
            watch.cancel_scope.cancel()

    async def _kill_late(self) -> None:
        """End those that do not end in time."""
        await self._stop_asked.wait()
        with anyio.move_on_after(self._grace + _AFTER_GRACE):
            await self._abort_asked.wait()
            await anyio.sleep(_AFTER_ABORT)
        for child in self._children:
            if child.process is not None:
                _log.error("replica does not end and is killed", extra={"fields": {"replica": child.number}})
                child.process.kill()

    async def _keep(self, child: _Child) -> None:
        """Start it, and start it again when it ended, until the stop."""
        pause = 0.0
        while not self._stop_asked.is_set():
            began = anyio.current_time()
            code = await self._run(child)
            if code is None:
                pause = next_pause(pause, lived=0.0)
            elif self._stop_asked.is_set():
                self.code = self.code or (1 if code else 0)
            elif code == _UNUSABLE and not child.heard:
                self.code = _UNUSABLE
                await self._stop("the configuration cannot be used")
            elif code == NAME_TAKEN:
                self.code = 1
                await self._stop(f"the name of replica {child.number} was taken")
            else:
                pause = next_pause(pause, anyio.current_time() - began)
                _log.warning(
                    "replica ended, it is started again",
                    extra={"fields": {"replica": child.number, "reason": ended(code), "again_in": pause}},
                )
            child.settled.set()
            with anyio.move_on_after(pause):
                await self._stop_asked.wait()
        child.settled.set()  # also where the stop came first, and nothing was started

    async def _run(self, child: _Child) -> int | None:
        """One life of it. Answers how it ended; None: it could not be started, as when processes or files are scarce."""
        at = self._socket(child)
        at.unlink(missing_ok=True)
        safely = ["-P"] if sys.flags.safe_path else []
        part = (str(child.number), str(len(self._children)), str(at), self._address)
        command = [sys.executable, *safely, "-m", "poller", "run", *self._options, "--part", *part, "--"]
        try:
            started = await anyio.open_process(
                [*command, str(self._config)], stdin=PIPE, stdout=PIPE, stderr=None, start_new_session=True
            )
        except OSError as error:
            _log.warning(
                "replica cannot be started, it is tried again",
                extra={"fields": {"replica": child.number, "reason": error.strerror or str(error)}},
            )
            return None
        async with started as process:
            child.process, child.lives = process, child.lives + 1
            self._front.tally.begun(_life(child))
            try:
                if self._stop_asked.is_set():  # it was, while this one was being started
                    await _order(process, "abort" if self._abort_asked.is_set() else f"stop {self._front.stopping}")
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._listen, child, process)
                    code = await process.wait()
                    tasks.cancel_scope.cancel()
            finally:
                self._front.tally.ended(_life(child))
                child.process = None
        return code

    async def _listen(self, child: _Child, process: anyio.abc.Process) -> None:
        """Hear that it serves."""
        reports = process.stdout
        assert reports is not None  # noqa: S101  # it was asked for
        heard = b""
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                heard = (heard + await reports.receive())[-len(LISTENING) :]
                if heard == LISTENING:
                    child.heard = True
                    child.settled.set()


def _life(child: _Child) -> str:
    return f"{child.number}/{child.lives}"


async def _order(process: anyio.abc.Process, order: str) -> None:
    orders = process.stdin
    assert orders is not None  # noqa: S101  # it was asked for
    with suppress(
        OSError, anyio.BrokenResourceError, anyio.ClosedResourceError
    ):  # it has ended, which is seen elsewhere
        await orders.send(f"{order}\n".encode())


def _folder() -> tempfile.TemporaryDirectory[str]:
    """Where the replicas' sockets lie, for nobody but this user. Raises `SettingsError`."""
    try:
        return tempfile.TemporaryDirectory(prefix="poller-", ignore_cleanup_errors=True)  # mode 0700
    except OSError as error:
        why = error.strerror or str(error)
        raise SettingsError(f"--replicas needs a folder for its sockets, TMPDIR cannot be used: {why}") from None
