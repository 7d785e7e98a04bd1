"""Operators' orders over HTTP, as requests see them: off without a token, refused without the right one."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from poller.aws.session import open_aws
from poller.mapping import steer
from poller.model.facts import Fact, OrderTaken
from poller.model.ports import Store
from poller.service.http import serve
from poller.service.observers import Observers
from poller.service.steering import Orders
from poller.settings import load
from poller.stores.memory import MemoryStore

TOKEN = "0123456789abcdef"
_CONFIG = {
    "store": "memory://",
    "functions": {"f": {"url": "http://127.0.0.1:9/f"}},
    "mappings": {
        "mail": {"EventSourceArn": "arn:aws:sqs:eu-west-1:111122223333:mail", "FunctionName": "f"},
    },
}


class Server:
    """The HTTP server with a store, and a client of it."""

    def __init__(self, store: Store, port: int, told: list[Fact], rung: list[None]) -> None:
        self.store = store
        self.port = port
        self.told = told
        self.rung = rung

    async def post(self, path: str, body: Any = None, *, token: str | None = TOKEN) -> tuple[int, Any, Any]:
        headers = {} if token is None else {"Authorization": token if " " in token else f"Bearer {token}"}
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://127.0.0.1:{self.port}{path}", data=data, headers=headers) as answer,
        ):
            text = await answer.text()
            assert text.count("\n") == 1
            return answer.status, json.loads(text), answer.headers

    async def wishes(self) -> steer.Wishes:
        row = await self.store.get(steer.key("mail"))
        return steer.decode(row.value) if row else steer.Wishes()


@asynccontextmanager
async def serving(tmp_path: Path, token: str | None = TOKEN, *, ready: bool = True) -> AsyncIterator[Server]:
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps(_CONFIG))
    settings = load(config, {}, now=time.time())
    told: list[Fact] = []
    rung: list[None] = []
    async with MemoryStore().open() as store, open_aws(settings.aws) as aws:
        mappings = {mapping.name: mapping for mapping in settings.mappings}
        orders = Orders(aws=aws, store=store, clock=time.time, observe=told.append, mappings=lambda: mappings)
        orders.ring = (lambda: rung.append(None)) if ready else None
        observers = Observers(time.time)
        board = observers.board
        async with serve("127.0.0.1", 0, metrics=observers.metrics, board=board, orders=orders, token=token) as port:
            yield Server(store, port, told, rung)


async def test_orders_are_off_while_no_token_is_set(tmp_path: Path):
    async with serving(tmp_path, token=None) as server:
        status, answer, _ = await server.post("/api/mappings/mail/pause")
        assert (status, answer) == (403, {"error": "orders are off: set server.token in the configuration"})
        assert await server.wishes() == steer.Wishes()


@pytest.mark.parametrize("token", [None, "wrong", "Basic 0123456789abcdef", "Bearer ", TOKEN[:-1], "Bearer ü"])
async def test_an_order_without_the_token_is_refused(tmp_path: Path, token: str | None):
    async with serving(tmp_path) as server:
        status, answer, headers = await server.post("/api/mappings/mail/pause", token=token)
        assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
        assert TOKEN not in json.dumps(answer)
        assert await server.wishes() == steer.Wishes()
        assert not server.told


async def test_a_pause_is_stored_rung_for_and_told_with_who_and_from_where(tmp_path: Path):
    async with serving(tmp_path) as server:
        status, answer, _ = await server.post("/api/mappings/mail/pause", {"who": "ann@desk"})
        assert (status, answer["paused"]["by"]) == (200, "ann@desk from 127.0.0.1")
        paused = (await server.wishes()).paused
        assert paused is not None
        assert paused.who == "ann@desk from 127.0.0.1"
        assert server.rung == [None]
        (fact,) = server.told
        assert isinstance(fact, OrderTaken)
        assert (fact.verb, fact.mapping, fact.who) == ("pause", "mail", "ann@desk from 127.0.0.1")
        assert (await server.post("/api/mappings/mail/resume"))[:2] == (
            200,
            {"mapping": "mail", "shard": None, "paused": None},
        )
        assert (await server.wishes()).paused is None


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("none/pause", {}, 404, "there is no mapping none; there are mail"),
        ("mail/seek", {"to": "LATEST"}, 422, "mail reads a queue"),
        ("mail/pause", {"shard": "s"}, 422, "mail reads a queue"),
        ("mail/pause", {"to": "LATEST"}, 422, "pause takes a shard, and nothing else"),
        ("mail/pause", b"[1", 422, "the body is no order"),
        ("mail/pause", {"shrad": "s"}, 422, "unknown field `shrad`"),
    ],
)
async def test_an_order_that_cannot_be_obeyed_is_refused_in_one_line(
    tmp_path: Path, path: str, body: Any, status: int, reason: str
):
    async with serving(tmp_path) as server:
        got, answer, _ = await server.post(f"/api/mappings/{path}", body)
        assert got == status
        assert reason in answer["error"]
        assert await server.wishes() == steer.Wishes()


async def test_an_order_that_comes_before_the_replica_is_a_member_is_asked_to_come_again(tmp_path: Path):
    async with serving(tmp_path, ready=False) as server:
        assert (await server.post("/api/mappings/mail/pause"))[0] == 503
