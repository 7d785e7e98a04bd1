"""Log lines: JSON for machines, text for people. A line stays one line whatever stands in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

_LONGEST = 65_536
_NAMES = {"WARNING": "WARN", "CRITICAL": "ERROR"}


def one_line(text: str, longest: int = _LONGEST) -> str:
    """The text without anything that could end a line, move a cursor or turn the direction of writing."""
    if len(text) > longest:
        text = f"{text[:longest]}… ({len(text) - longest} more characters)"
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text])


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, then the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        """Render the record."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": _level(record),
            "logger": record.name,
            "message": one_line(record.getMessage()),
        }
        for name, value in _fields(record):
            line.setdefault(name, value)
        if record.exc_info:
            line.setdefault("exception", _printable(self.formatException(record.exc_info)))
        return orjson.dumps(line, default=repr).decode()


class ConsoleFormatter(logging.Formatter):
    """Time, level, message and what was set, `name=value`; a value with spaces is quoted."""

    def format(self, record: logging.LogRecord) -> str:
        """Render the record."""
        message = one_line(record.getMessage())
        if not record.name.startswith("poller"):
            message = f"{record.name}: {message}"
        fields = [f"{name}={_quoted(value)}" for name, value in _fields(record)]
        line = f"{_time(record)} {_level(record):<5} {message}"
        if fields:
            line = f"{line}  {' '.join(fields)}"
        if record.exc_info:
            trace = self.formatException(record.exc_info).splitlines()
            line = "\n".join([line, *(f"    | {one_line(part)}" for part in trace)])
        return line


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{int(record.msecs):03d}Z"


def _level(record: logging.LogRecord) -> str:
    return _NAMES.get(record.levelname, record.levelname)


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    fields: Mapping[str, Any] = record.__dict__.get("fields", {})
    for name, value in fields.items():
        if value is None or value == "":
            continue
        yield name, one_line(value) if isinstance(value, str) else value


def _printable(trace: str) -> str:
    return "\n".join(one_line(part) for part in trace.splitlines())


def _quoted(value: Any) -> str:
    text = f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    if text and not set(text) & set(' "='):
        return text
    return '"' + text.replace('"', '\\"') + '"'
