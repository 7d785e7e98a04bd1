"""A queue's messages while they are gathered for a batch within its window. No I/O, no clock."""

from __future__ import annotations

import math
from collections.abc import Sequence

from poller.mapping.batch import Batch, Batcher
from poller.mapping.lease import Leases
from poller.model.policy import Policy
from poller.model.record import Record


class Gathering:
    """What one mapping gathers: full batches leave, and the rest when its window or its leases demand it."""

    def __init__(self, policy: Policy, leases: Leases, now: float) -> None:
        self.held: Sequence[Record] = ()
        """In the order they came."""
        self._batcher = Batcher(policy, now)
        self._leases = leases
        self._timeout = policy.function_timeout
        self._leave_by = math.inf

    @property
    def deadline(self) -> float:
        """When to close what is held, if nothing comes; inf while nothing is held."""
        return min(self._batcher.deadline, self._leave_by) if self.held else math.inf

    def take(self, records: Batch, now: float) -> None:
        """Add what was received."""
        self._batcher.take(records, now)
        self.held = [*self.held, *records]
        self._leave_by = min(self._leave_by, self._leases.leave_by(records, self._timeout))

    def close(self, now: float) -> list[Batch]:
        """The batches that leave now, and are held no longer."""
        if now >= self._leave_by:  # it was reckoned before leases were renewed, perhaps
            self._leave_by = self._leases.leave_by(self.held, self._timeout)
        ready = self._batcher.rest() if now >= self._leave_by else self._batcher.ready(now)
        if ready:
            self.held = self.held[sum(map(len, ready)) :]
            self._leave_by = self._leases.leave_by(self.held, self._timeout)
            self._batcher.reopen(now)
        return ready

    def rest(self) -> Sequence[Record]:
        """What is held still: it leaves in no batch."""
        held, self.held = self.held, ()
        return held
