"""HTTP functions inside the test that keep what they were given, when, and what they answered."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiohttp import web

from tests.system.daemon import waited


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A record as a function saw it."""

    text: str
    """What the test produced."""
    shard: str
    sequence: int
    """0 for a message of a queue."""
    id: str = ""
    """By which an answer names it: sequence number or message id."""
    group: str = ""
    """Of a message of a FIFO queue."""


@dataclass(slots=True, kw_only=True)
class Delivery:
    """One invocation."""

    function: str
    records: list[Seen]
    began: float
    """Unix seconds."""
    ended: float | None = None
    status: int | None = None
    """What was answered; None as long as nothing was."""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def texts(self) -> list[str]:
        return [record.text for record in self.records]


Behave: TypeAlias = Callable[[Delivery], Awaitable[int | dict[str, Any]]]


async def succeed(delivery: Delivery) -> int:
    return 200


@dataclass(slots=True)
class Functions:
    """Functions at a path each."""

    url: str = ""
    behave: Behave = succeed
    """Answers the HTTP status of an invocation, or what it returns, after as long as it likes."""
    deliveries: list[Delivery] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def of(self, function: str, status: int | None = None) -> list[Delivery]:
        """The invocations of a function, only those answered with `status` if it is given."""
        return [
            delivery
            for delivery in self.deliveries
            if delivery.function == function and status in (None, delivery.status)
        ]

    def texts(self, function: str, status: int | None = 200) -> list[str]:
        """The records it was given, in order, those of successful invocations."""
        return [text for delivery in self.of(function, status) for text in delivery.texts]

    async def given(self, function: str, *texts: str, status: int | None = 200, within: float = 20.0) -> None:
        """Wait until it has taken these records."""
        wanted = set(texts)
        await waited(
            f"{function} takes {sorted(wanted)[:5]}", lambda: wanted <= set(self.texts(function, status)), within
        )

    async def hold(self, delivery: Delivery) -> int:
        """A behaviour: answer when `released` is set."""
        await self.released.wait()
        return 200

    async def _handle(self, request: web.Request) -> web.Response:
        event = json.loads(await request.read())
        records = [seen(record) for record in event["Records"]]
        delivery = Delivery(
            function=request.path.strip("/"), records=records, began=time.time(), headers=request.headers
        )
        self.deliveries.append(delivery)
        told = await self.behave(delivery)
        status, returned = (told, {}) if isinstance(told, int) else (200, told)
        delivery.ended, delivery.status = time.time(), status  # before the caller can know it
        return web.json_response(returned if status == 200 else {"errorMessage": "as told"}, status=status)


def seen(record: dict[str, Any]) -> Seen:
    """The record without what the source put around it."""
    match record:
        case {"kinesis": kinesis}:
            text = base64.b64decode(kinesis["data"]).decode(errors="backslashreplace")
            number, shard = kinesis["sequenceNumber"], record["eventID"].partition(":")[0]
            return Seen(text=text, shard=shard, sequence=int(number), id=number)
        case {"dynamodb": change}:
            number = change["SequenceNumber"]
            return Seen(text=change["NewImage"]["id"]["S"], shard="table", sequence=int(number), id=number)
        case _:
            group = record["attributes"].get("MessageGroupId", "")
            return Seen(text=record["body"], shard="queue", sequence=0, id=record["messageId"], group=group)


@asynccontextmanager
async def functions() -> AsyncIterator[Functions]:
    """Serve on a free loopback port; invocations that still hang at the end are cut."""
    held = Functions()
    application = web.Application(client_max_size=16 * 2**20)
    application.router.add_post("/{name}", held._handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    held.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield held
    finally:
        await runner.cleanup()
