"""`poller invoke`: one invocation of one configured function; the result on standard output, all else on standard error."""

from __future__ import annotations

import difflib
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import anyio.to_thread
import orjson

from poller.aws.session import open_aws
from poller.model.errors import PollerError, SettingsError, told
from poller.model.facts import Fact, FunctionPrinted
from poller.model.outcome import Failed, Outcome, Partial, Refused, Replied, Unavailable
from poller.settings import Settings
from poller.targets import TargetSettings

_FAILED, _NOT_INVOKED = 1, 2


async def invoke(settings: Settings, function: str, event: bytes) -> int:
    """Invoke once.

    Returns:
        0 when the function returned, 1 when it failed, 2 when it could not be invoked.

    Raises:
        SettingsError: there is no such function.
    """
    target, request_id = _found(settings, function), str(uuid.uuid4())
    began = time.monotonic()
    outcome: Outcome
    try:
        async with open_aws(settings.aws) as aws, target.open(aws, _tell) as opened:
            outcome = await opened.invoke(event, request_id)
            took = time.monotonic() - began
    except* PollerError as group:
        outcome, took = Unavailable(reason=told(group)), time.monotonic() - began
    code = _show(outcome)
    _say(f"REPORT RequestId: {request_id}  Duration: {took * 1000:.2f} ms")
    return code


async def read_event(place: str | None) -> bytes:
    """The event as it lies there.

    Args:
        place: a file, "-" for standard input, None for an empty object.

    Raises:
        SettingsError: it cannot be read, or is not JSON.
    """
    if place is None:
        return b"{}"
    try:
        read: Callable[[], bytes] = sys.stdin.buffer.read if place == "-" else Path(place).read_bytes
        event = await anyio.to_thread.run_sync(read, abandon_on_cancel=True)
    except OSError as error:
        raise SettingsError(f"{place}: cannot be read: {error.strerror or error}") from error
    try:
        orjson.loads(event)
    except orjson.JSONDecodeError as error:
        name = "standard input" if place == "-" else place
        raise SettingsError(f"{name}:{error.lineno}: is not JSON: {error.msg}") from error
    return event


def _found(settings: Settings, name: str) -> TargetSettings:
    named = {mapping.target.name: mapping.target for mapping in settings.mappings}  # Lambda's, by name or ARN
    known = {**named, **settings.functions}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
    raise SettingsError(f"functions.{name}: is not a function of this configuration, {hint}")


def _show(outcome: Outcome) -> int:
    """Print what came of it. A result that is not text is printed as the bytes that it is."""
    match outcome:
        case Replied(body=body):
            sys.stdout.buffer.write(body if body.endswith(b"\n") or not body else body + b"\n")
            sys.stdout.buffer.flush()
            return 0
        case Failed(reason=reason):
            _say(f"FAILED {reason}")
            return _FAILED
        case Refused(reason=reason) | Unavailable(reason=reason):
            _say(f"NOT INVOKED {reason}")
            return _NOT_INVOKED
        case Partial():  # is made of a reply by a mapping's rules, and there is no mapping here
            return _FAILED


def _tell(fact: Fact) -> None:
    """A line of the function's log, as it was printed."""
    if isinstance(fact, FunctionPrinted):
        _say(fact.line)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
