"""The HTTP server inside the test: what it shows is what the test makes it observe."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from poller.model.facts import BatchInvoked, BatchSent, Fact, MappingMoved, ShardMoved, ShardStands, SourceRead
from poller.model.outcome import Failed
from poller.service.board import MappingView
from poller.service.http import serve
from poller.service.observers import Observers

ARN = "arn:aws:kinesis:eu-west-1:111122223333:stream/orders"
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&"


def now() -> float:
    return 1_800_000_000.0


@dataclass
class Daemon:
    """What the server shows, and a client of it."""

    def __post_init__(self) -> None:
        self.observers = Observers(now)
        self.metrics, self.board = self.observers.metrics, self.observers.board
        self.port = 0

    def observe(self, *facts: Fact) -> None:
        for fact in facts:
            self.observers.observe(fact)

    def configure(self, *names: str) -> None:
        views = [
            MappingView(
                name=name,
                uuid="7d1f0f4e-0000-5000-8000-000000000000",
                configuration={"EventSourceArn": ARN, "FunctionName": "orders", "BatchSize": 100},
                enabled=True,
            )
            for name in names
        ]
        self.board.configured(views)
        self.observe(*[MappingMoved(mapping=name, state="Enabled", reason="User action") for name in names])

    async def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
        address = f"http://127.0.0.1:{self.port}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, address, headers=headers, allow_redirects=False) as answer,
        ):
            return answer.status, dict(answer.headers), await answer.text()


@asynccontextmanager
async def running(daemon: Daemon) -> AsyncIterator[Daemon]:
    async with serve("127.0.0.1", 0, metrics=daemon.metrics, board=daemon.board) as daemon.port:
        yield daemon


def failing(mapping: str, shard: str = "shardId-000000000000", reason: str = "ValueError: Boom") -> list[Fact]:
    """A shard whose batch failed three times."""
    failure = BatchInvoked(
        mapping=mapping,
        shard=shard,
        records=5,
        outcome=Failed(reason=reason),
        seconds=0.1,
        request_id="r",
        attempt=3,
        retry_in=4.0,
        first="4966",
        last="4970",
    )
    return [
        ShardMoved(mapping=mapping, shard=shard, to="owned", position="TRIM_HORIZON"),
        SourceRead(mapping=mapping, shard=shard, outcome="records", records=5, seconds=0.1, behind=2.0),
        ShardStands(mapping=mapping, shard=shard, checkpoint="4965", oldest=now() - 75, behind=2.0, held=5, attempt=2),
        BatchSent(mapping=mapping, shard=shard, records=5, age=75.0),
        failure,
    ]
