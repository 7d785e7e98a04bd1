"""One HTTP server for several replicas, each behind a socket of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.openmetrics import parser as openmetrics

from poller.model.facts import Fact, MappingMoved, RosterSeen, ShardMoved, ShardPassed, SourceRead
from poller.service.board import MappingView
from poller.service.front import Front, Replica
from poller.service.http import serve, serving
from poller.service.metrics import Metrics
from poller.service.observers import Observers
from poller.service.standing import Standings

_PATIENCE = 0.5


def now() -> float:
    return 1_800_000_000.0


@dataclass
class House:
    """Replicas and what stands before them."""

    folder: Path
    address: str = ""
    replicas: list[Replica] = field(default_factory=list)
    ends: AsyncExitStack = field(default_factory=AsyncExitStack)

    def __post_init__(self) -> None:
        self.front = Front(lambda: self.replicas, 2, Metrics(now, Standings(now)), "host", patience=_PATIENCE)

    def add(self) -> Replica:
        number = len(self.replicas) + 1
        replica = Replica(number=number, life=f"{number}/1", socket=self.folder / str(number))
        self.replicas.append(replica)
        self.front.tally.begun(replica.life)
        return replica

    async def daemon(self, *facts: Fact) -> None:
        """A replica that has one mapping and has seen these facts."""
        replica, observers = self.add(), Observers(now)
        metrics, board = observers.metrics, observers.board
        board.named(f"host-{replica.number}")
        arn = "arn:aws:kinesis:eu-west-1:111122223333:stream/orders"
        board.configured([MappingView(name="m", uuid="u", configuration={"EventSourceArn": arn}, enabled=True)])
        for fact in (MappingMoved(mapping="m", state="Enabled", reason="User action"), *facts):
            observers.observe(fact)
        await self.ends.enter_async_context(serve("", 0, metrics=metrics, board=board, socket=replica.socket))

    def mute(self) -> None:
        """A replica that takes connections and says nothing, as one that is frozen."""
        listening = self.ends.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(str(self.add().socket))
        listening.listen()

    async def application(self, application: web.Application) -> None:
        await self.ends.enter_async_context(serving(application, self.add().socket))

    @asynccontextmanager
    async def asked(self, path: str, method: str = "GET", **more: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        async with (
            aiohttp.ClientSession() as client,
            client.request(method, self.address + path, **more) as answer,
        ):
            yield answer

    async def told(self, path: str) -> Any:
        async with self.asked(path) as answer:
            return json.loads(await answer.read())


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    found = House(tmp_path)
    async with found.ends, serving(found.front.application(), ("127.0.0.1", 0)) as port:
        found.address = f"http://127.0.0.1:{port}"
        yield found


def read(shard: str, records: int) -> list[Fact]:
    return [
        ShardMoved(mapping="m", shard=shard, to="owned"),
        ShardPassed(mapping="m", shard=shard, how="claimed", member=""),
        SourceRead(mapping="m", shard=shard, outcome="records", records=records, seconds=0.1, behind=0.0),
        RosterSeen(members={"host-1": ("up", 0.5, ""), "host-2": ("up", 0.5, "")}),
    ]


async def test_all_are_told_as_one(house: House):
    await house.daemon(*read("s1", 3))
    await house.daemon(*read("s2", 4), ShardMoved(mapping="m", shard="s1", to="elsewhere", owner="host-1"))
    async with house.asked("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}) as answer:
        assert answer.content_type == "application/openmetrics-text"
        text = await answer.text()
    families = list(openmetrics.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]  # it has no types
    polled = next(family for family in families if family.name == "poller_records_polled")
    assert [sample.value for sample in polled.samples] == [7]
    (mapping,) = await house.told("/api/mappings")
    assert [(each["id"], each["owner"]) for each in mapping["shards"]] == [("s1", "host-1"), ("s2", "host-2")]
    fleet = await house.told("/api/fleet")
    assert [(each["name"], each["moves"], each["fences"]) for each in fleet["members"]] == [
        ("host-1", 1, 0),
        ("host-2", 1, 0),
    ]
    assert await house.told("/readyz") == {"ready": True}
    async with house.asked("/") as answer:
        assert "<title>" in await answer.text()
        assert "script-src 'sha256-" in answer.headers["Content-Security-Policy"]


async def test_one_that_is_frozen_does_not_hold_up_the_others(house: House):
    await house.daemon(*read("s1", 3))
    house.mute()
    began = time.monotonic()
    async with house.asked("/metrics?name[]=poller_records_polled_total") as answer:
        lines = [line for line in (await answer.text()).split("\n") if line and not line.startswith("#")]
    assert lines == ['poller_records_polled_total{mapping="m"} 3.0']
    assert _PATIENCE <= time.monotonic() - began < 10 * _PATIENCE
    async with house.asked("/readyz") as answer:
        assert answer.status == 503
        assert (await answer.json())["reason"] == "replica 2: does not answer"
    async with house.asked("/healthz") as answer:
        assert await answer.text() == "ok\n"


async def test_what_only_one_can_answer_is_passed_on_as_it_came_and_back_as_it_was_answered(house: House):
    async def steer(request: web.Request) -> web.Response:
        said = {
            "path": request.raw_path,
            "authorization": request.headers.get("Authorization"),
            "body": (await request.read()).decode(),
            "accept": request.headers.get("Accept"),
        }
        return web.json_response(said, status=202, headers={"X-Said": "yes"})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", steer)
    house.add()  # it has not begun to listen
    await house.application(application)
    more = {"data": b'{"a": 1}', "headers": {"Authorization": "Bearer secret", "Accept": "application/json"}}
    async with house.asked("/api/mappings/a%2Fb/replay?from=1%202", "POST", **more) as answer:
        assert (answer.status, answer.headers["X-Said"]) == (202, "yes")
        said = await answer.json()
    assert said["path"] in {"/api/mappings/a%2Fb/replay?from=1%202", "/api/mappings/a%2Fb/replay?from=1+2"}
    assert (said["authorization"], said["accept"]) == ("Bearer secret", "application/json")
    assert said["body"] == '{"a": 1}'


async def test_a_method_or_path_that_nobody_knows_is_refused_by_one_of_them(house: House):
    await house.daemon()
    async with house.asked("/metrics", "POST") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    async with house.asked("/none") as answer:
        assert answer.status == 404


async def test_when_nobody_can_be_reached_that_is_said(house: House):
    house.add()
    async with house.asked("/api/mappings/m/pause", "POST") as answer:
        assert (answer.status, await answer.text()) == (503, "no replica can be reached\n")
    assert await house.told("/api/mappings") == []


async def test_one_that_ends_in_the_middle_of_an_answer_is_not_asked_again_for_what_it_may_have_done(house: House):
    asked: list[bytes] = []

    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    server = await asyncio.start_unix_server(end, house.add().socket)
    house.ends.callback(server.close)
    async with house.asked("/api/mappings/m/pause", "POST") as answer:
        assert answer.status == 502
        assert "replica 1 was asked and did not answer" in await answer.text()
    assert len(asked) == 1
