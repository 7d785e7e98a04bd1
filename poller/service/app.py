"""The daemon: signals, reload, and one house at a time in which the mappings run."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import orjson

from poller.aws.session import Aws, open_aws
from poller.fleet.fleet import Fleet, Identity, Time
from poller.mapping.budget import Budget
from poller.mapping.stop import Stop
from poller.model.errors import NameTaken, SettingsError, told
from poller.model.facts import MappingRemoved, Reloaded, SelfFenced, Stopping
from poller.model.ports import Store, Tracing
from poller.service import signals
from poller.service.board import MappingView
from poller.service.history import LOOK
from poller.service.http import serve
from poller.service.observers import Observers
from poller.service.part import NAME_TAKEN, Part
from poller.service.steering import Orders
from poller.service.supervisor import House, Supervisor
from poller.service.tracing import traced
from poller.settings import MappingSettings, Settings, load
from poller.stores import StoreSettings
from poller.stores.memory import MemoryStore
from poller.stores.sqlite import SqliteStore

_log = logging.getLogger(__name__)
_YOUNG = 20_000
"""Objects made before the collector of cycles looks: tasks and futures of calls in flight are no garbage, and with the
seven hundred that it waits for by itself it looks at them with every few batches. Records are none of its business."""


async def run(config: Path, environ: Mapping[str, str], part: Part | None = None) -> int:
    """Run the daemon until it is told to stop.

    Args:
        part: which of the replicas it is that one command started; None: it was started by itself.

    Returns:
        0 when all work in flight ended within the grace, 1 when it was cut short or a namesake took over (of replicas
        that one command started, `NAME_TAKEN`).

    Raises:
        SettingsError: the configuration cannot be used.
    """
    code = 1
    app = App(config, environ, part)
    settings = app.load()
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(app.obey_signals, tasks.cancel_scope)
            if part:
                tasks.start_soon(app.obey_parent, part, tasks.cancel_scope)
            async with traced(environ, time.time) as tracing:
                code = 0 if await app.live(settings, tracing) else 1
            tasks.cancel_scope.cancel()
    except* NameTaken as taken:
        fields = {"reason": told(taken)}  # a user's mistake has no traceback
        _log.error("another process has the name of this replica", extra={"fields": fields})
        code = NAME_TAKEN if part else 1
    return code


class App:
    """One process: what outlives a reload."""

    def __init__(self, config: Path, environ: Mapping[str, str], part: Part | None = None) -> None:
        self._config = config
        self._part = part
        self._environ = environ
        observers = Observers(time.time)
        self._board, self._metrics, self.observe = observers.board, observers.metrics, observers.observe
        self._settings: Settings | None = None
        self._supervisor: Supervisor | None = None
        self._names: set[str] = set()
        """Mappings that ran when the last house was left."""
        self._cut_off = False
        """The fleet of the last house could not beat when that was left."""
        self._leave = Stop()
        self._stopping = False
        self._memory: Store | None = None
        self._boot = new_id()
        self._tracing: Tracing | None = None

    def load(self) -> Settings:
        """Read the configuration."""
        settings = load(self._config, self._environ, now=time.time())
        self._settings = self._part.share(settings) if self._part else settings
        return self._settings

    @asynccontextmanager
    async def _opened(self, settings: StoreSettings, aws: Aws) -> AsyncIterator[Store]:
        """The store of a configuration. Positions in memory end with the process and not with a reload."""
        async with settings.open(aws) as store:
            if isinstance(settings, MemoryStore):
                self._memory = store = self._memory or store
            yield store

    async def live(self, settings: Settings, tracing: Tracing | None) -> bool:
        """Live in one house after the other until the stop; go back to the last one when the next cannot be entered.

        Returns:
            Whether all work in flight was finished at the end.
        """
        self._tracing = tracing
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
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
            signals.let_come()
            task_status.started()
            async for number in received:
                if number == signal.SIGHUP:
                    self._reload()
                elif self._stopping and not self._part:
                    self._abort(abort)
                else:
                    self._stop(signal.Signals(number).name)

    async def obey_parent(self, part: Part, abort: anyio.CancelScope) -> None:
        """Do what the process says that started this replica; stop when it is gone."""
        async for order in part.orders():
            match order.split(" ", 1):
                case ["stop", reason]:
                    self._stop(reason)
                case ["abort"]:
                    self._abort(abort)
                case ["reload", address]:
                    self._part = replace(part, address=address)
                    self._reload()
                case _:
                    raise ValueError(f"not an order: {order!r}")
        part.clean_up()
        self._stop("the process that started the replicas is gone")

    def _stop(self, reason: str) -> None:
        if not self._stopping:
            self._stopping = True
            grace = self._settings.shutdown_grace if self._settings else 0.0
            self.observe(Stopping(reason=reason, grace=grace))
            self._leave.set()

    def _abort(self, abort: anyio.CancelScope) -> None:
        _log.warning("stopped at once: what is in flight will be delivered again")
        abort.cancel()

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
            self._leave = Stop()
        async with (
            open_aws(settings.aws) as aws,
            self._opened(settings.store, aws) as store,
            _named(settings) as name,
            self._serving(settings, orders := self._orders(store, aws)) as address,
        ):
            fleet = self._fleet(settings, store, name, address)
            orders.ring = fleet.ring
            house = House(
                aws=aws,
                store=store,
                fleet=fleet,
                budget=Budget(settings.memory_bytes),
                observe=self.observe,
                tracing=self._tracing,
                clock=time.time,
                chance=_chance,
                new_id=new_id,
            )
            async with anyio.create_task_group() as around:
                around.start_soon(self._look)
                await self._leave.unless_set(partial(around.start, fleet.run))
                if self._cut_off and not self._leave.is_set():
                    self._cut_off = False
                    self.observe(SelfFenced(seconds=0.0))  # the fleet that said otherwise is gone
                finished = await self._run_mappings(settings, house, back=back)
                around.cancel_scope.cancel()
            self._cut_off |= not fleet.safe
            await fleet.farewell()
        if not finished:
            _log.warning("shutdown_grace is over: what is in flight will be delivered again")
        return finished

    def _orders(self, store: Store, aws: Aws) -> Orders:
        def mappings() -> Mapping[str, MappingSettings]:
            return {mapping.name: mapping for mapping in self._settings.mappings} if self._settings else {}

        return Orders(aws=aws, store=store, clock=time.time, observe=self.observe, mappings=mappings)

    async def _look(self) -> None:
        """Remember the ages at a fixed cadence."""
        while True:
            self._board.look(anyio.current_time())
            await anyio.sleep(LOOK)

    @asynccontextmanager
    async def _serving(self, settings: Settings, orders: Orders) -> AsyncIterator[str]:
        """Serve HTTP; yields where people reach it."""
        part, server = self._part, settings.server
        async with serve(
            server.host,
            server.port,
            metrics=self._metrics,
            board=self._board,
            orders=orders,
            token=server.token,
            socket=part.socket if part else None,
        ) as port:
            if part:
                part.report_listening()
                yield part.address
            else:
                address = f"http://{server.host}:{port}/"
                _log.info("listening", extra={"fields": {"address": address}})
                yield address

    def _fleet(self, settings: Settings, store: Store, name: str, address: str) -> Fleet:
        """This replica among those that share the store."""
        who = Identity(name=name, boot=self._boot, address=address)
        self._board.named(who.name)
        clocks = Time(clock=time.time, elapsed=elapsed, chance=_chance)
        return Fleet(store, who, clocks, self.observe, limits=settings.fleet.limits)

    async def _run_mappings(self, settings: Settings, house: House, *, back: bool) -> bool:
        """Run the mappings until the house has to be left. Answers whether all work in flight was finished."""
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
            tasks.cancel_scope.deadline = anyio.current_time() + settings.shutdown_grace
            await house.fleet.leave()
            self._names = self._supervisor.stop()
            self._supervisor = None
        return not tasks.cancel_scope.cancelled_caught


@asynccontextmanager
async def _named(settings: Settings) -> AsyncIterator[str]:
    """The name of this replica, the same after a restart: on one machine, numbered by a lock that ends with the process."""
    if settings.fleet.id:
        yield settings.fleet.id
    elif isinstance(settings.store, SqliteStore):
        async with settings.store.slot() as number:
            yield f"{socket.gethostname()}-{number}"
    else:
        yield socket.gethostname()


def elapsed() -> float:
    """Monotonic seconds, which count on while the machine sleeps: what sleeps is taken for dead by the others."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def new_id() -> str:
    """A request id that nobody had before: the text of a random UUID, of which `uuid` makes an object first."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


_chance = random.Random().random  # noqa: S311  # jitter


def _view(mapping: MappingSettings) -> MappingView:
    return MappingView(
        name=mapping.name,
        uuid=mapping.uuid,
        configuration=orjson.loads(mapping.document),
        enabled=mapping.enabled,
    )
