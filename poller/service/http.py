"""The HTTP server: metrics, probes, the state of the mappings as JSON and as a page. What changes something is in `writing`."""

from __future__ import annotations

import base64
import errno
import hashlib
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path

import orjson
from aiohttp import web

from poller.model.errors import SettingsError
from poller.service.board import Board
from poller.service.metrics import Metrics
from poller.service.steering import Orders
from poller.service.writing import add_writes

_PATHS = "/, /metrics, /healthz, /readyz, /api/mappings, /api/fleet, /api/history"
_SHUTDOWN = 2.0
"""Seconds an answer under way is given when the server ends."""

_COMPRESSED_ASIDE = 65_536
"""Bytes from which on an answer is compressed in a thread: the event loop has records to deliver."""


@asynccontextmanager
async def serve(
    host: str,
    port: int,
    *,
    metrics: Metrics,
    board: Board,
    orders: Orders | None = None,
    token: str | None = None,
    socket: Path | None = None,
) -> AsyncIterator[int]:
    """Serve while the block runs; yields the port, which is chosen by the system when `port` is 0.

    Args:
        orders: takes operators' orders, from those who have the token; without a token all are refused.
        socket: serve there, and at no port: 0 is yielded.

    Raises:
        SettingsError: the address cannot be bound; one line that says why and what to change.
    """
    application = _application(metrics, board)
    if orders:
        add_writes(application, orders, token)
    async with serving(application, socket or (host, port)) as bound:
        yield bound


@asynccontextmanager
async def serving(application: web.Application, at: tuple[str, int] | Path) -> AsyncIterator[int]:
    """Serve an application at a host and port, or at a Unix socket, as `serve` does."""
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN)
    await runner.setup()
    try:
        if isinstance(at, Path):
            try:
                await web.UnixSite(runner, at).start()
            except OSError as error:
                raise SettingsError(f"no socket can be made at {at}: {error}; choose another TMPDIR") from error
            yield 0
            return
        try:
            await web.TCPSite(runner, *at).start()
        except (OSError, UnicodeError) as error:  # UnicodeError: no name of a host at all, such as a..b
            raise SettingsError(_unbound(*at, error)) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _application(metrics: Metrics, board: Board) -> web.Application:
    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        is_ready, told = board.readiness()
        return as_json(told, status=200 if is_ready else 503)

    async def scrape(request: web.Request) -> web.Response:
        return exposition(*metrics.scrape(request.headers.get("Accept", ""), request.query.getall("name[]", ())))

    async def mappings(_: web.Request) -> web.Response:
        return as_json(board.document())

    async def history(request: web.Request) -> web.Response:
        return as_json(board.history(request.query.get("mapping", ""), request.query.getall("shard", ())))

    async def fleet(_: web.Request) -> web.Response:
        return as_json(board.fleet())

    application = web.Application(middlewares=[plainly])
    application.router.add_get("/", index())
    application.router.add_get("/metrics", scrape)
    application.router.add_get("/healthz", health)
    application.router.add_get("/readyz", ready)
    application.router.add_get("/api/mappings", mappings)
    application.router.add_get("/api/fleet", fleet)
    application.router.add_get("/api/history", history)
    return application


@web.middleware
async def plainly(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer mistakes with one line, and let no browser guess, cache or embed."""
    try:
        response = await handler(request)
    except web.HTTPNotFound:
        response = web.Response(status=404, text=f"not found, there are {_PATHS}\n")
    except web.HTTPMethodNotAllowed as refused:
        allowed = ", ".join(sorted(refused.allowed_methods))
        response = web.Response(status=405, text=f"only {allowed}\n", headers={"Allow": allowed})
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def index() -> Callable[[web.Request], Awaitable[web.Response]]:
    """What answers with the status page."""
    page, policy = _page()

    async def show(_: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html", headers={"Content-Security-Policy": policy})

    return show


def exposition(body: bytes, content_type: str) -> web.Response:
    """The answer to a scrape."""
    response = web.Response(body=body, headers={"Content-Type": content_type}, zlib_executor_size=_COMPRESSED_ASIDE)
    response.enable_compression()
    return response


def as_json(value: object, status: int = 200) -> web.Response:
    """An answer in JSON."""
    body = orjson.dumps(value)
    response = web.Response(
        body=body, status=status, content_type="application/json", zlib_executor_size=_COMPRESSED_ASIDE
    )
    if len(body) > _COMPRESSED_ASIDE:
        response.enable_compression()
    return response


def _page() -> tuple[str, str]:
    """The status page, and a policy under which nothing runs but its own script, known by its hash."""
    page = resources.files("poller.service").joinpath("page.html").read_text(encoding="utf-8")
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    policy = [
        "default-src 'none'",
        f"style-src '{_hash(style)}'",
        f"script-src '{_hash(script)}'",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return page, "; ".join(policy)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _unbound(host: str, port: int, error: OSError | UnicodeError) -> str:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(error, socket.gaierror | UnicodeError):
        return f"server.host {host!r} is not a name or address of this machine; 127.0.0.1 or 0.0.0.0 are usual"
    match error.errno:
        case errno.EADDRINUSE:
            return f"{address} is already in use, perhaps by another poller; choose another server.port"
        case errno.EADDRNOTAVAIL:
            return f"server.host {host!r} is not an address of this machine; 127.0.0.1 or 0.0.0.0 are usual"
        case errno.EACCES:
            return f"{address} may not be bound by this user; choose a server.port from 1024 on"
        case _:
            return f"{address} cannot be bound: {error.strerror or error}; choose another server.host or server.port"
