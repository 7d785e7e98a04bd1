"""All that the facts of one process are told to. Takes the time from the clock handed in, and never waits."""

from __future__ import annotations

from poller.model.ports import Clock
from poller.service.board import Board
from poller.service.logs import LogFacts
from poller.service.metrics import Metrics
from poller.service.standing import Standings
from poller.service.takers import joined


class Observers:
    """How the shards stand, metrics, status and log."""

    def __init__(self, clock: Clock) -> None:
        standings = Standings(clock)
        self.metrics = Metrics(clock, standings)
        self.board = Board(clock, standings)
        self.observe = joined(standings.takers, self.metrics.takers, self.board.takers, LogFacts(clock).takers)
