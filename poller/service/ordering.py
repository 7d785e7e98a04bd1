"""`poller pause`, `resume`, `seek`: sends an order to a running daemon and prints what it answers."""

from __future__ import annotations

import getpass
import http.client
import socket
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

import click
import orjson

from poller.model.errors import PollerError
from poller.service.asking import address_of
from poller.service.log_lines import one_line

_TIMEOUT = 30.0


def order(url: str, token: str | None, mapping: str, verb: str, body: Mapping[str, Any]) -> int:
    """Give an order; answers the exit code."""
    try:
        address = address_of(url)
    except PollerError as error:
        return _fail(verb, str(error))
    if not token:
        return _fail(verb, "a token is needed: --token or POLLER_TOKEN, as server.token says")
    request = Request(  # noqa: S310  # the scheme was looked at
        f"{address}/api/mappings/{quote(mapping, safe='')}/{verb}",
        data=orjson.dumps({**body, "who": _me()}),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        method="POST",
    )
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=_TIMEOUT) as answer:
            told = orjson.loads(answer.read())
    except HTTPError as error:
        return _fail(verb, _reason(error))
    except (URLError, OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        return _fail(verb, f"cannot reach a poller at {address}: {reason}; is it running, and is this its address?")
    try:
        spoken = _spoken(verb, told)
    except (KeyError, TypeError, AttributeError):
        return _fail(verb, f"{address} does not answer as a poller does")
    click.echo(spoken)
    return 0


def _spoken(verb: str, told: Mapping[str, Any]) -> str:
    what = one_line(f"{told['mapping']} {told['shard']}" if told.get("shard") else str(told["mapping"]))
    match verb:
        case "pause":
            return f"{what} is paused by {one_line(told['paused']['by'])}"
        case "resume":
            return f"{what} goes on"
        case _:
            count = len(told["shards"])
            return f"{what} goes to {told['to']}: {count} shard{'' if count == 1 else 's'}; see poller status"


def _reason(error: HTTPError) -> str:
    with error:
        try:
            return str(orjson.loads(error.read())["error"])
        except (ValueError, KeyError, TypeError):
            return f"the server answers {error.code}; is it a poller's address?"


def _fail(verb: str, reason: str) -> int:
    click.echo(f"poller {verb}: {one_line(reason)}", err=True)
    return 1


def _me() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "somebody"
    return f"{name}@{socket.gethostname()}"
