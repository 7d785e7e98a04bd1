"""`poller filter`: tries a pattern on events before it is deployed. Lines that match come out as they came in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, TypeAlias

from poller.mapping.filtering import Filters, Kind, PatternError, compile_pattern, mistakes_for
from poller.model.errors import SettingsError
from poller.settings.tree import path_text

Tell: TypeAlias = Callable[[str], None]
"""Takes a line for people."""
_RECORDS = {
    "kinesis": "a record of a Kinesis event in JSON",
    "dynamodb": "a record of a DynamoDB event in JSON",
    "sqs": "a record of an SQS event in JSON",
    "document": "an object in JSON",
}


def try_pattern(
    pattern: str, kind: Kind, file: Path | None, *, stdin: BinaryIO, stdout: BinaryIO, tell: Tell, explain: bool
) -> int:
    """Filter a file, or standard input where none is named. Answers the exit code.

    Raises:
        SettingsError: the pattern or the file cannot be used; one line.
    """
    filters = filters_of(pattern, kind)

    def keep(line: bytes) -> None:
        stdout.write(line)
        stdout.flush()  # somebody may be watching events as they come

    if file is None:
        return filter_lines(filters, stdin, keep=keep, tell=tell, explain=explain)
    try:
        lines = file.open("rb")
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {_why(error)}") from error
    with lines:
        return filter_lines(filters, lines, keep=keep, tell=tell, explain=explain)


def filters_of(given: str, kind: Kind) -> Filters:
    """The filter that PATTERN says: a pattern, or @FILE.

    Raises:
        SettingsError: it cannot be used; one line.
    """
    place, text = ("PATTERN", given) if not given.startswith("@") else (given[1:], _text_of(Path(given[1:])))
    try:
        for error in mistakes_for(kind, compile_pattern(text)):
            raise error
        return Filters(kind, (text,))
    except PatternError as error:
        inside = f"{path_text(error.path)}: " if error.path else ""
        raise SettingsError(f"{place}: {inside}{error}") from error


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {_why(error)}") from error


def _why(error: OSError | UnicodeDecodeError) -> str:
    """Why a file cannot be read, without its name."""
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror or str(error)


def filter_lines(
    filters: Filters, lines: Iterable[bytes], *, keep: Callable[[bytes], object], tell: Tell, explain: bool
) -> int:
    """Hand every line that matches to `keep`, unchanged; empty lines are passed over.

    Args:
        explain: tell of every other line which condition refused it.

    Returns:
        1 when a line was no record, which is told with its number, else 0.
    """
    code = 0
    for number, line in enumerate(lines, start=1):
        body = line.strip()
        if not body:
            continue
        if filters.match(body):
            keep(line)
        elif not filters.reads(body):
            code = 1
            tell(f"line {number}: is not {_RECORDS[filters.kind]}, skipped")
        elif explain:
            tell(f"line {number}: {'; '.join(filters.refusals(body))}")
    return code
