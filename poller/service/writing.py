"""The part of the HTTP server that changes something: off without a token, and only for who has it."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec
import orjson
from aiohttp import web

from poller.model.errors import PollerError, told
from poller.service.log_lines import one_line
from poller.service.steering import Order, Orders, Refused

_VERBS: tuple[Literal["pause", "resume", "seek"], ...] = ("pause", "resume", "seek")


def add_writes(application: web.Application, orders: Orders, token: str | None) -> None:
    """Add POST /api/mappings/NAME/{pause,resume,seek}; every answer is one line of JSON."""
    for verb in _VERBS:
        application.router.add_post(f"/api/mappings/{{name}}/{verb}", _handler(orders, verb, token))


def _handler(
    orders: Orders, verb: Literal["pause", "resume", "seek"], token: str | None
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        if token is None:
            return _refusal(403, "orders are off: set server.token in the configuration")
        if not _authorized(request, token):
            refusal = _refusal(401, "the token is missing or wrong: send server.token as Authorization: Bearer TOKEN")
            refusal.headers["WWW-Authenticate"] = "Bearer"
            return refusal
        try:
            order = msgspec.json.decode(await request.read() or b"{}", type=Order)
        except msgspec.MsgspecError as error:
            return _refusal(422, f"the body is no order: {error}")
        try:
            answer = await orders.take(request.match_info["name"], verb, order, origin=request.remote or "unknown")
        except Refused as refused:
            return _refusal(refused.status, str(refused))
        except PollerError as error:
            return _refusal(503, f"could not be done now, try again: {told(error)}")
        return _json(answer, 202 if verb == "seek" else 200)

    return handle


def _authorized(request: web.Request, token: str) -> bool:
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    return hmac.compare_digest(given.strip().encode(), token.encode()) and kind.lower() == "bearer"


def _refusal(status: int, reason: str) -> web.Response:
    return _json({"error": one_line(reason)}, status)


def _json(value: object, status: int) -> web.Response:
    return web.Response(body=orjson.dumps(value) + b"\n", status=status, content_type="application/json")
