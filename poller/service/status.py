"""`poller status`: asks a running daemon over HTTP and prints what it answers."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from poller.model.errors import PollerError
from poller.service.asking import address_of
from poller.service.log_lines import one_line

_TIMEOUT = 10.0
_TOLD = {"name", "State", "shards"}
_WIDTH = 200
"""Columns when nobody looks: a line in a file or pipe is not folded to a terminal's width."""


def show_status(url: str, as_json: bool) -> int:  # noqa: FBT001  # as the command hands it over
    """Print the mappings of the daemon at `url` to standard output; answers the exit code."""
    try:
        body = _ask(url)
        document = _parse(url, body)
    except PollerError as error:
        click.echo(f"poller status: {one_line(str(error))}", err=True)
        return 1
    if as_json:
        click.echo(body)
        return 0
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH)
    console.print(table(document) if document else "no mappings are configured")
    return 0


def fetch(url: str) -> list[dict[str, Any]]:
    """The mappings of the daemon at `url`, as /api/mappings tells them. Raises `PollerError`, in one line."""
    return _parse(url, _ask(url))


def table(document: Sequence[Mapping[str, Any]]) -> Table:
    """Mappings, and under each its shards, for a terminal."""
    shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("mapping / shard", "state", "owner", "position or last result"):
        shown.add_column(name, overflow="fold")
    for name in ("age", "held", "in flight"):
        shown.add_column(name, justify="right")
    shown.add_column("retry", overflow="fold")
    for mapping in document:
        for row in _rows(mapping):
            shown.add_row(*row)
    return shown


def _rows(mapping: Mapping[str, Any]) -> list[list[Text]]:
    shards = [shard for shard in mapping["shards"] if shard["state"] != "ended"]
    result = mapping.get("LastProcessingResult", "")
    trouble = "red" if result.startswith("PROBLEM") else ""
    ages = [shard["iterator_age_seconds"] for shard in shards if shard["iterator_age_seconds"] is not None]
    head = [
        _text(mapping["name"], "bold"),
        _text(joined(mapping["State"], paused(mapping)), "yellow" if mapping.get("paused") else ""),
        _text(""),
        _text(result, trouble),
        _text(duration(max(ages)) if ages else ""),
        _text(sum(shard["records_held"] for shard in shards)),
        _text(sum(shard["records_in_flight"] for shard in shards)),
        _text(""),
    ]
    return [head, *(_row(shard) for shard in shards)]


def _row(shard: Mapping[str, Any]) -> list[Text]:
    age = shard["iterator_age_seconds"]
    wished = f"seek to {shard['seek']['to']}" if shard.get("seek") else ""
    state = joined(shard["state"].replace("_", " "), paused(shard), wished)
    return [
        _text(f"  {shard['id']}"),
        _text(state, "yellow" if shard.get("paused") else ""),
        _text(shard.get("owner") or ""),
        _text(shard["checkpoint"]),
        _text("" if age is None else duration(age)),
        _text(shard["records_held"]),
        _text(shard["records_in_flight"]),
        _text(blocked(shard["retry"]) if shard["retry"] else "", "red"),
    ]


def blocked(retry: Mapping[str, Any]) -> str:
    """How often the batch at the head of a shard failed, which records it holds, and why."""
    first, last, records = retry.get("first_record"), retry.get("last_record"), retry.get("records") or 1
    which = f" with {first}" if first else ""
    if first and records > 1:
        which += f" to {last} ({records} records)"
    return f"try {retry['attempt']} failed{which}" + (f": {retry['reason']}" if retry["reason"] else "")


def paused(told: Mapping[str, Any]) -> str:
    """That a mapping or shard is paused, and by whom where the daemon says so."""
    pause = told.get("paused")
    by = pause.get("by") if isinstance(pause, dict) else None
    return ("paused" + (f" by {by}" if by else "")) if pause else ""


def joined(*parts: str) -> str:
    """What there is of these."""
    return ", ".join(part for part in parts if part)


def duration(seconds: float) -> str:
    """Seconds for people: at most two units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60)} s"
    if hours < 24:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def _text(value: object, style: str = "") -> Text:
    # Text, not str: rich would read [brackets] of an ARN or a reason as markup.
    return Text(one_line(str(value)), style=style)


def _ask(url: str) -> bytes:
    address = address_of(url)
    # A proxy of the environment is for the world outside: the daemon is asked directly.
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(f"{address}/api/mappings", timeout=_TIMEOUT) as answer:
            body: bytes = answer.read()
            return body
    except HTTPError as error:
        error.close()
        raise PollerError(f"{address} answers {error.code}; is it a poller's server.host and server.port?") from error
    except (URLError, OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise PollerError(
            f"cannot reach a poller at {address}: {reason}; is it running, and are these its server.host and server.port?"
        ) from error


def _parse(url: str, body: bytes) -> list[dict[str, Any]]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise PollerError(f"{url} does not answer as a poller does: {error}") from error
    if not isinstance(document, list):
        raise PollerError(f"{url} does not answer as a poller does")
    for mapping in document:
        if not isinstance(mapping, dict) or not mapping.keys() >= _TOLD:
            raise PollerError(f"{url} does not answer as a poller does")
    return document
