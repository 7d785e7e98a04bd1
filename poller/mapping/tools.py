"""What every part of a running mapping needs: time, chance, memory, and somebody to tell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import anyio

from poller.fleet.fleet import Fleet
from poller.mapping.budget import Budget
from poller.mapping.stop import Stop
from poller.model.policy import Policy
from poller.model.ports import Clock, Destination, Observe, Source, Store, Target, Tracing

T = TypeVar("T")


class Hold(Protocol):
    """What this replica has of a shard."""

    @property
    def safe(self) -> bool:
        """No other replica can have taken it."""

    async def until_safe(self) -> None:
        """Wait until that is so again. Raises `Superseded` when another has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """One mapping's surroundings."""

    mapping: str
    """Its name."""
    uuid: str
    source_name: str
    """Its EventSourceArn."""
    family: Literal["kinesis", "dynamodb"] = "kinesis"
    """Which stream's words an account of given-up records uses."""
    function_name: str
    """The function as the mapping names it."""
    policy: Policy
    source: Source
    target: Target
    destination: Destination | None = None
    """Where the account of given-up records goes."""
    store: Store
    fleet: Fleet
    hold: Hold | None = None
    """Of a shard: asked before each invocation."""
    budget: Budget
    observe: Observe
    tracing: Tracing | None = None
    """Who follows each invocation; None: nobody, and the function is told the trace that a message brought."""
    clock: Clock
    chance: Callable[[], float]
    """Uniform in [0, 1)."""
    new_id: Callable[[], str]
    """A new request id."""
    now: Callable[[], float] = anyio.current_time
    """Seconds of the clock that sleeps and deadlines are on; the loop's own is told for a tenth of what anyio's costs."""
    stop: Stop
    """Set once: finish what is in flight, begin nothing new."""

    async def pause(self, seconds: float) -> bool:
        """Sleep, but not past a stop. Answers whether to go on."""
        with anyio.move_on_after(seconds):
            await self.stop.wait()
        return not self.stop.is_set()

    async def may_invoke(self) -> bool:
        """Wait while another replica may have what is to be sent; False when a stop came first. Raises `Superseded`."""
        if self.hold and not self.hold.safe:
            await self.unless_stopped(self.hold.until_safe)
        return not self.stop.is_set()

    async def unless_stopped(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """What a call answers; None when the stop came first, which cancels it: a source may hang for a long time."""
        return await self.stop.unless_set(call)
