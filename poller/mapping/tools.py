"""What every part of a running mapping needs: time, chance, memory, and somebody to tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import anyio

from poller.mapping.budget import Budget
from poller.model.policy import Policy
from poller.model.ports import Clock, Destination, Observe, Source, Store, Target


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
    budget: Budget
    observe: Observe
    clock: Clock
    chance: Callable[[], float]
    """Uniform in [0, 1)."""
    new_id: Callable[[], str]
    """A new request id."""
    stop: anyio.Event
    """Set once: finish what is in flight, begin nothing new."""

    async def pause(self, seconds: float) -> bool:
        """Sleep, but not past a stop. Answers whether to go on."""
        with anyio.move_on_after(seconds):
            await self.stop.wait()
        return not self.stop.is_set()
