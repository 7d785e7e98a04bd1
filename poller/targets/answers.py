"""What an answer says about the function's failure, read alike for every target. No I/O, no clock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from poller.model.dates import moment_of
from poller.model.outcome import Failed

RESPONSE_LIMIT_BYTES = 6_291_556
"""The largest reply of a synchronous invocation. Source: Lambda quotas."""

LINE_LIMIT = 1_000
"""Characters of a reason; what is longer is cut."""

_TIMED_OUT = re.compile(r"\bTask timed out after [0-9.]+ seconds")
_BARE_TIMEOUT = re.compile(rb"\s*(?:\S+ \S+ )?Task timed out after [0-9.]+ seconds\s*")
_ERROR_KEYS = frozenset({"errorMessage", "errorType", "stackTrace", "requestId", "trace", "cause"})


def one_line(text: str) -> str:
    """Text for people as one line of bearable length."""
    line = " ".join(text.split())
    return line if len(line) <= LINE_LIMIT else line[: LINE_LIMIT - 1] + "…"


def object_of(body: bytes) -> Mapping[str, Any]:
    """The JSON object that a body holds; an empty one when it holds something else."""
    value = _decoded(body)
    return value if isinstance(value, dict) else {}


def failure_of(body: bytes, *, error_type: str = "", log_tail: str = "") -> Failed:
    """Read `{"errorType", "errorMessage"}`, the account that Lambda gives of a failed function.

    Args:
        body: the account; any other text is taken as the message.
        error_type: what failed, when the body does not say.
        log_tail: the end of the function's log.
    """
    decoded = _decoded(body)
    account: Mapping[str, Any] = decoded if isinstance(decoded, dict) else {}
    kind = str(account.get("errorType") or error_type)
    said = account.get("errorMessage")
    text = "" if decoded is account else body[: 4 * LINE_LIMIT].decode("utf-8", "replace")
    message = text if said is None else str(said)
    timeout = kind == "Sandbox.Timedout" or _TIMED_OUT.search(message) is not None
    reason = ": ".join(part for part in (kind, message) if part) or "the function failed and did not say why"
    return Failed(reason=one_line(reason), timeout=timeout, log_tail=log_tail)


def emulated_failure(body: bytes) -> Failed | None:
    """The failure that an emulator hides in a reply of status 200; None for a reply.

    The runtime interface emulator sends no X-Amz-Function-Error header: a failure is told by its shape alone, an
    object with errorMessage, errorType and nothing that an error does not have, or a line that time ran out.
    """
    if _BARE_TIMEOUT.fullmatch(body):
        return failure_of(body)
    if b'"errorMessage"' not in body or b'"errorType"' not in body:
        return None  # most replies are not decoded
    account = object_of(body)
    is_error = {"errorMessage", "errorType"} <= account.keys() <= _ERROR_KEYS
    return failure_of(body) if is_error else None


def retry_after(value: str | None, now: float) -> float:
    """Seconds a Retry-After header asks for; 0.0 when it is missing or says nothing sensible.

    Args:
        value: the header, whole seconds or a date.
        now: unix seconds.
    Source: RFC 9110, section 10.2.3.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    moment = moment_of(text)
    return 0.0 if moment is None else max(0.0, moment - now)


def _decoded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
