"""Texts of the file that mean something: sizes, times, addresses, filter patterns. Nothing is opened here.

Every function raises `ValueError` whose text is what follows `path.to.key: ` in a mistake.
"""

from __future__ import annotations

import json
import os.path
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from urllib.parse import urlsplit

from poller.mapping.filtering import LONGEST_PATTERN, compile_pattern, parse_pattern
from poller.settings.tree import quoted, shown

MIB = 1024**2
LEAST_MEMORY = 32 * MIB
_UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": MIB, "gib": 1024**3}
_SIZE = re.compile(r"(?P<number>[0-9]{1,15}(?:\.[0-9]{1,6})?) ?(?P<unit>[A-Za-z]{0,3})")
_SIZES = "bytes or a size such as 256MiB (KiB, MiB, GiB, KB, MB, GB), at least 32MiB"

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_URL = re.compile(r"[\x00-\x20\x7f]")


def size_bytes(value: object) -> int:
    """Bytes of `256MiB` or of a plain number."""
    match = None if isinstance(value, bool) else _SIZE.fullmatch(str(value))
    unit = match and _UNITS.get(match["unit"].lower())
    if not match or not unit:
        raise ValueError(f"{shown(value)} is not a size, allowed: {_SIZES}")
    size = int(float(match["number"]) * unit)
    if size < LEAST_MEMORY:
        raise ValueError(f"{shown(value)} is too small, allowed: {_SIZES}")
    return size


def timestamp(value: object) -> float:
    """Unix seconds of a number, an ISO 8601 text or a YAML date; UTC where no zone is given."""
    allowed = "allowed: unix seconds or a time such as 2026-11-20T10:00:00Z"
    match value:
        case bool():
            raise ValueError(f"{shown(value)} is not a time, {allowed}")
        case int() | float() if 0 <= value < 253_402_300_800:  # the end of year 9999
            return float(value)
        case datetime():
            moment = value
        case date():
            moment = datetime(value.year, value.month, value.day, tzinfo=UTC)
        case str():
            try:
                moment = datetime.fromisoformat(value)
            except ValueError as error:
                raise ValueError(f"{shown(value)} is not a time, {allowed}") from error
        case _:
            raise ValueError(f"{shown(value)} is not a time, {allowed}")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def url(text: str) -> str:
    """An http or https address, unchanged."""
    allowed = "allowed: http://HOST[:PORT][/PATH] or https://..."
    try:
        parts = urlsplit(text)
        right = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right = False
    if not right or _NOT_IN_URL.search(text):
        raise ValueError(f"{quoted(text)} is not a URL, {allowed}")
    return text


def name(text: str, *, longest: int) -> str:
    """A name of a mapping or function, unchanged: it becomes a metric's label and a part of a store's key."""
    if not _NAME.fullmatch(text) or len(text) > longest:
        raise ValueError(f"is not a name, allowed: letters, digits, -, _ and ., at most {longest}")
    return text


def headers(entries: Mapping[str, str]) -> Mapping[str, str]:
    """HTTP headers, unchanged. What they hold may be secret and is never repeated."""
    for key, value in entries.items():
        if not _HEADER.fullmatch(key):
            raise ValueError(f"{quoted(key)} is not the name of a header, allowed: letters, digits and -")
        if not value.isprintable():
            raise ValueError(f"the value of {quoted(key)} holds a line break or another control character")
        if key.lower() in {"content-length", "transfer-encoding", "host", "connection"}:
            raise ValueError(f"{quoted(key)} is set by the connection itself, leave it out")
    return entries


def environment(entries: Mapping[str, str]) -> Mapping[str, str]:
    """Environment variables, unchanged. What they hold may be secret and is never repeated."""
    for key in entries:
        if not key or "=" in key:
            raise ValueError(f"{quoted(key)} is not the name of an environment variable")
    return entries


def absolute(path: str, folder: str) -> str:
    """A path of the file; a relative one starts at the folder that holds the file."""
    return os.path.abspath(os.path.join(folder, path))  # noqa: PTH100, PTH118  # pathlib keeps the ".." that nobody wants in LAMBDA_TASK_ROOT


def pattern(value: object) -> str:
    """A filter's pattern as compact JSON text, from an object or from AWS's JSON text. It is held against the grammar."""
    given = parse_pattern(value) if isinstance(value, str) else value
    compile_pattern(given)
    text = json.dumps(given, ensure_ascii=False, separators=(",", ":"))
    if len(text) > LONGEST_PATTERN:
        raise ValueError(f"is {len(text)} characters long, allowed: at most {LONGEST_PATTERN}")
    return text
