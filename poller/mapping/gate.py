"""A queue that operators may pause: its messages stay where they are until it goes on."""

from __future__ import annotations

from dataclasses import replace

import anyio

from poller.mapping.queue import Queue
from poller.mapping.stop import Stop
from poller.mapping.tools import Tools
from poller.mapping.wishes import Steering
from poller.model.errors import Transient
from poller.model.facts import ShardMoved, StoreFailed
from poller.model.record import Topology

_LOOK_EVERY = 20.0
"""Seconds between two looks at what is wished while nobody rings: bells may be lost."""
_FAILED = 1.0


class Gate:
    """Runs a queue whenever it is not paused."""

    def __init__(self, tools: Tools, topology: Topology) -> None:
        self._tools = tools
        self._topology = topology
        self._listed = tools.now()
        self._steering = Steering(tools)
        self._news = anyio.Event()
        self._stop = Stop()
        """Of the present run."""

    async def run(self) -> None:
        """Process the queue until the stop. Raises what `Queue.run` raises."""
        with self._tools.fleet.heard(self._rung):
            async with anyio.create_task_group() as around:
                await around.start(self._keep_looking)
                around.start_soon(self._pass_the_stop_on)
                while not self._tools.stop.is_set():
                    self._stop = Stop()
                    await (self._stand_still() if self._paused else self._go_on())
                around.cancel_scope.cancel()

    @property
    def _paused(self) -> bool:
        return self._steering.paused("") is not None

    async def _go_on(self) -> None:
        with self._tools.budget.join() as holder:
            await Queue(replace(self._tools, stop=self._stop), self._topology, holder, listed=self._listed).run()

    async def _stand_still(self) -> None:
        shard = self._topology.partitions[0].id
        self._tools.observe(ShardMoved(mapping=self._tools.mapping, shard=shard, to="owned"))
        await self._stop.wait()
        self._tools.observe(ShardMoved(mapping=self._tools.mapping, shard=shard, to="released"))

    def _rung(self) -> None:
        self._news.set()

    async def _pass_the_stop_on(self) -> None:
        await self._tools.stop.wait()
        self._stop.set()

    async def _keep_looking(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Know what is wished; what began otherwise is stopped, and begins anew."""
        known = False
        while True:
            self._news = anyio.Event()
            before, failed = self._paused, False
            try:
                await self._steering.look()
            except Transient as error:
                self._tools.observe(StoreFailed(reason=str(error)))
                failed = True
            if not known and (not failed or self._tools.stop.is_set()):
                known = True
                task_status.started()
            elif self._paused != before:
                self._stop.set()
            pause = _LOOK_EVERY if self._tools.fleet.shared else None
            with anyio.move_on_after(_FAILED if failed else pause):
                await self._news.wait()
