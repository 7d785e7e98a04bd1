"""The daemon: signals, reload, and one house at a time in which the mappings run."""

from __future__ import annotations

import logging
import random
import signal
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import orjson
from prometheus_client import CollectorRegistry

from poller.aws.session import Aws, open_aws
from poller.mapping.budget import Budget
from poller.model.errors import SettingsError
from poller.model.facts import Fact, MappingRemoved, Reloaded, Stopping
from poller.model.ports import Store
from poller.service.board import Board, MappingView
from poller.service.http import serve
from poller.service.logs import LogFacts
from poller.service.metrics import Metrics
from poller.service.supervisor import House, Supervisor
from poller.settings import MappingSettings, Settings, load
from poller.stores import StoreSettings
from poller.stores.memory import MemoryStore
from poller.stores.sqlite import SqliteStore

_log = logging.getLogger(__name__)


async def run(config: Path, environ: Mapping[str, str]) -> int:
    """Run the daemon until it is told to stop.

    Returns:
        0 when all work in flight ended within the grace, 1 when it was cut short.

    Raises:
        SettingsError: the configuration cannot be used.
    """
    code = 1
    app = App(config, environ)
    settings = app.load()
    async with anyio.create_task_group() as tasks:
        await tasks.start(app.obey_signals, tasks.cancel_scope)
        code = 0 if await app.live(settings) else 1
        tasks.cancel_scope.cancel()
    return code


class App:
    """One process: what outlives a reload."""

    def __init__(self, config: Path, environ: Mapping[str, str]) -> None:
        self._config = config
        self._environ = environ
        self._registry = CollectorRegistry(auto_describe=True)
        self._board = Board(time.time)
        metrics = Metrics(self._registry, time.time)
        self._observers = (metrics.observe, self._board.observe, LogFacts(time.time).observe)
        self._settings: Settings | None = None
        self._supervisor: Supervisor | None = None
        self._names: set[str] = set()
        self._leave = anyio.Event()
        self._stopping = False
        self._memory: Store | None = None

    def observe(self, fact: Fact) -> None:
        """Hand a fact to metrics, status and log."""
        for observe in self._observers:
            observe(fact)

    def load(self) -> Settings:
        """Read the configuration."""
        self._settings = load(self._config, self._environ, now=time.time())
        return self._settings

    @asynccontextmanager
    async def _opened(self, settings: StoreSettings, aws: Aws) -> AsyncIterator[Store]:
        """The store of a configuration. Positions in memory end with the process and not with a reload."""
        async with _alone(settings), settings.open(aws) as store:
            if isinstance(settings, MemoryStore):
                self._memory = store = self._memory or store
            yield store

    async def live(self, settings: Settings) -> bool:
        """Live in one house after the other until the stop; go back to the last one when the next cannot be entered.

        Returns:
            Whether all work in flight was finished at the end.
        """
        last: Settings | None = None
        back = False
        while True:
            try:
                finished = await self._live_in(settings, back=back)
            except SettingsError as error:
                if last is None:
                    raise
                self._tell_reload(error)
                if self._settings is not None and self._settings is not settings:
                    settings = self._settings  # the file was mended while its house was being entered
                    continue
                self._settings = settings = last
                last, back = None, True
                continue
            back = False
            if self._stopping or self._settings is None:
                return finished
            last, settings = settings, self._settings

    async def obey_signals(self, abort: anyio.CancelScope, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """SIGHUP reloads; SIGTERM or SIGINT stops, and a second one stops at once."""
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGHUP:
                    self._reload()
                elif self._stopping:
                    _log.warning("stopped at once: what is in flight will be delivered again")
                    abort.cancel()
                else:
                    self._stopping = True
                    grace = self._settings.shutdown_grace if self._settings else 0.0
                    self.observe(Stopping(reason=signal.Signals(number).name, grace=grace))
                    self._leave.set()

    def _reload(self) -> None:
        """Follow the file; a bad one changes nothing."""
        before = self._settings
        if self._stopping or before is None:
            return
        try:
            now = self.load()
        except SettingsError as error:
            self._tell_reload(error)
            return
        if self._supervisor is None or replace(now, mappings=()) != replace(before, mappings=()):
            self._leave.set()  # another address, store or account: everything begins anew
        else:
            self._follow(self._supervisor, now)
            self._tell_reload(None)

    def _follow(self, supervisor: Supervisor, settings: Settings) -> None:
        self._names = {mapping.name for mapping in settings.mappings}
        self._board.configured([_view(mapping) for mapping in settings.mappings])
        supervisor.follow({mapping.name: mapping for mapping in settings.mappings})

    def _tell_reload(self, error: SettingsError | None) -> None:
        self.observe(Reloaded(successful=error is None, at=time.time(), reason=str(error or "")))

    async def _live_in(self, settings: Settings, *, back: bool) -> bool:
        """Run the mappings of one configuration until the stop or until the house has to be left for another.

        Args:
            back: the file says something else, which could not be entered: nothing was read successfully.
        """
        if not self._stopping:
            self._leave = anyio.Event()
        async with (
            open_aws(settings.aws) as aws,
            self._opened(settings.store, aws) as store,
            serve(settings.server.host, settings.server.port, registry=self._registry, board=self._board) as port,
        ):
            _log.info("listening", extra={"fields": {"address": f"http://{settings.server.host}:{port}/"}})
            house = House(
                aws=aws,
                store=store,
                budget=Budget(settings.memory_bytes),
                observe=self.observe,
                clock=time.time,
                chance=random.Random().random,  # noqa: S311 jitter
                new_id=lambda: str(uuid.uuid4()),
            )
            async with anyio.create_task_group() as tasks:
                self._supervisor = Supervisor(house, tasks)
                for gone in self._names - {
                    mapping.name for mapping in settings.mappings
                }:  # it ran in the house before, whose supervisor only stopped it
                    self.observe(MappingRemoved(mapping=gone))
                self._follow(self._supervisor, settings)
                if not back:
                    self._tell_reload(None)
                await self._leave.wait()
                self._supervisor.stop()
                self._supervisor = None
                tasks.cancel_scope.deadline = anyio.current_time() + settings.shutdown_grace
        if tasks.cancel_scope.cancelled_caught:
            _log.warning("shutdown_grace is over: what is in flight will be delivered again")
        return not tasks.cancel_scope.cancelled_caught


@asynccontextmanager
async def _alone(settings: StoreSettings) -> AsyncIterator[None]:
    """Keep other processes away from a file while shards are not divided: both would process every record."""
    if isinstance(settings, SqliteStore):
        async with settings.slot() as number:
            if number > 1:
                raise SettingsError(
                    f"store: {settings.path} is in use by another poller, allowed: one process at a time for each file"
                )
            yield
    else:
        yield


def _view(mapping: MappingSettings) -> MappingView:
    return MappingView(
        name=mapping.name,
        uuid=mapping.uuid,
        configuration=orjson.loads(mapping.document),
        enabled=mapping.enabled,
    )
