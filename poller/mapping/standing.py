"""How a partition stands: what it holds in memory, how old that is, how far it is behind. Tells facts, does no I/O."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from poller.mapping import progress
from poller.mapping.budget import Holder
from poller.mapping.tools import Tools
from poller.model.facts import ShardStands
from poller.model.record import Page, Position, Record, TrimHorizon


class Standing:
    """The records of one partition between their read and their settlement."""

    def __init__(self, tools: Tools, shard: str, holder: Holder, position: Position | None = None) -> None:
        self._tools = tools
        self._shard = shard
        self._holder = holder
        self._position = position or TrimHorizon()
        self._held: OrderedDict[str, Record] = OrderedDict()
        self._behind = 0.0
        self._attempt = 0
        self._tell()

    def took(self, page: Page, size_bytes: int) -> None:
        """A read brought a page of this size (or, with an empty one, nothing)."""
        self._holder.took(len(page.records), size_bytes, more=page.full or page.behind > 0)
        for record in page.records:
            self._held[record.id] = record
        if page.records or page.behind != self._behind:
            self._behind = page.behind
            self._tell()

    def left(self, records: Sequence[Record], position: Position | None = None) -> None:
        """Records have left memory: settled, or given back. `position` is the checkpoint they moved."""
        for record in records:
            self._held.pop(record.id, None)
        self._holder.settle(sum(len(record.body) for record in records))
        self._position = position or self._position
        self._attempt = 0
        self._tell()

    def failed(self, attempt: int) -> None:
        """The batch at the head failed for the `attempt`th time."""
        self._attempt = attempt
        self._tell()

    def _tell(self) -> None:
        first = next(iter(self._held.values()), None)
        self._tools.observe(
            ShardStands(
                mapping=self._tools.mapping,
                shard=self._shard,
                checkpoint=progress.spell(self._position),
                oldest=first.arrived if first else None,
                behind=self._behind,
                held=len(self._held),
                attempt=self._attempt,
            )
        )
