"""The one HTTP server of several replicas: asks each at its own socket and tells what they said as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import anyio
import orjson
from aiohttp import web
from prometheus_client.exposition import choose_encoder
from yarl import URL

from poller.service import together
from poller.service.http import as_json, exposition, index, plainly
from poller.service.merge import Page, Tally, parse, render
from poller.service.metrics import Metrics

_PATIENCE = 3.0
"""Prometheus waits for ten seconds."""
_PASSED_ON = 30.0
"""Seconds that a request may take which only one of them answers."""
_HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te"),
        *("trailer", "transfer-encoding", "upgrade", "content-length"),
    }
)
"""Headers between two neighbours. Source: RFC 9110, 7.6.1; the length is that of the body that is sent."""
_OURS = "this process"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One that was started."""

    number: int
    life: str
    """Different for each process that was started under this number."""
    socket: Path


class Front:
    """What is told at the one address."""

    def __init__(
        self,
        replicas: Callable[[], Sequence[Replica]],
        wanted: int,
        metrics: Metrics,
        name: str,
        *,
        patience: float = _PATIENCE,
    ) -> None:
        """Begin.

        Args:
            replicas: those that live now.
            wanted: how many there shall be.
            metrics: of the process that serves, whose own are told among the others.
            name: of all of them together.
            patience: seconds for which all wait for one that does not answer.
        """
        self._replicas = replicas
        self._wanted = wanted
        self._metrics = metrics
        self._name = name
        self._patience = patience
        self.tally = Tally()
        self.tally.begun(_OURS)
        self.stopping = ""
        """Why they are being stopped."""

    def application(self) -> web.Application:
        """What answers."""
        application = web.Application(middlewares=[plainly])
        add = application.router.add_get
        add("/", index())
        add("/healthz", self._health)
        add("/readyz", self._ready)
        add("/metrics", self._scrape)
        add("/api/mappings", self._mappings)
        add("/api/fleet", self._fleet)
        add("/api/history", self._history)
        application.router.add_route("*", "/{path:.*}", self._pass_on)
        return application

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        said = await self._ask_all("/readyz", orjson.loads, statuses=(200, 503))
        numbers = {replica.number: said.get(replica.life) for replica in self._replicas()}
        told = {number: numbers.get(number) for number in range(1, self._wanted + 1)}
        ready, document = together.readiness(told, self.stopping)
        return as_json(document, status=200 if ready else 503)

    async def _scrape(self, request: web.Request) -> web.Response:
        _, content_type = choose_encoder(request.headers.get("Accept", ""))
        pages: dict[str, Page] = await self._ask_all("/metrics", _read_page)
        body, _ = self._metrics.scrape()
        page = self.tally.merge({_OURS: _read_page(body)} | pages)
        openmetrics = content_type.startswith("application/openmetrics-text")
        names = request.query.getall("name[]", ())
        return exposition(render(page, openmetrics=openmetrics, names=names).encode(), content_type)

    async def _mappings(self, _: web.Request) -> web.Response:
        said = await self._ask_all("/api/mappings", orjson.loads)
        return as_json(together.mappings(list(said.values())))

    async def _fleet(self, _: web.Request) -> web.Response:
        said = await self._ask_all("/api/fleet", orjson.loads)
        return as_json(together.fleet(list(said.values()), self._name))

    async def _history(self, request: web.Request) -> web.Response:
        said = await self._ask_all(request.raw_path, orjson.loads)
        return as_json(together.history(list(said.values())))

    async def _ask_all(self, path: str, read: Callable[[bytes], T], statuses: Sequence[int] = (200,)) -> dict[str, T]:
        """What those answer that do so in time, by their lives, in the order of their numbers."""
        replicas = self._replicas()
        said: dict[str, T] = {}

        async def ask(replica: Replica) -> None:
            try:
                async with (
                    _client(replica, self._patience) as client,
                    client.get(URL(f"http://replica{path}", encoded=True)) as answer,
                ):
                    if answer.status in statuses:
                        said[replica.life] = read(await answer.read())
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                return  # it is starting, ending or stuck: the others are told

        async with anyio.create_task_group() as tasks:
            for replica in replicas:
                tasks.start_soon(ask, replica)
        return {replica.life: said[replica.life] for replica in replicas if replica.life in said}

    async def _pass_on(self, request: web.Request) -> web.Response:
        """Let one of them answer: the first that can be reached."""
        body = await request.read()
        headers = _end_to_end(request.headers)
        for replica in self._replicas():
            try:
                async with (
                    _client(replica, _PASSED_ON) as client,
                    client.request(
                        request.method,
                        URL(f"http://replica{request.raw_path}", encoded=True),
                        data=body or None,
                        headers=headers,
                        allow_redirects=False,
                    ) as answer,
                ):
                    return web.Response(
                        status=answer.status, headers=_end_to_end(answer.headers), body=await answer.read()
                    )
            except aiohttp.ClientConnectorError:
                continue  # nothing was asked of it
            except (aiohttp.ClientError, TimeoutError) as error:
                why = str(error) or "it did not answer in time"
                return web.Response(status=502, text=f"replica {replica.number} was asked and did not answer: {why}\n")
        return web.Response(status=503, text="no replica can be reached\n")


def _client(replica: Replica, patience: float) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(path=str(replica.socket), force_close=True),
        timeout=aiohttp.ClientTimeout(total=patience),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def _end_to_end(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Without those between two neighbours, those that `Connection` names included."""
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    return [(name, value) for name, value in headers.items() if name.lower() not in _HOP | named]


def _read_page(body: Any) -> Page:
    return parse(bytes(body).decode())
