"""What this replica has of a shard: the right to invoke with its records, as long as nobody else can have it."""

from __future__ import annotations

from poller.fleet.fleet import Fleet
from poller.mapping.commit import Checkpoint


class ShardHold:
    """The hold of one shard's run."""

    def __init__(self, fleet: Fleet, checkpoint: Checkpoint) -> None:
        self._fleet = fleet
        self._checkpoint = checkpoint

    @property
    def safe(self) -> bool:
        """Nobody can have declared this replica dead, and the shard's row names its present life."""
        return self._fleet.safe and self._checkpoint.row.epoch == self._fleet.epoch

    async def until_safe(self) -> None:
        """Wait until this replica beats again; if it was declared dead meanwhile, ask the row whose the shard is now.

        Raises:
            Superseded: another replica has it.
        """
        while not self.safe:
            await self._fleet.until_safe()
            await self._checkpoint.own(self._fleet.name, self._fleet.epoch)
