"""Functions behind an HTTP endpoint that takes the event as the body of a POST. Sent once, never again by itself.

Sent with every event, unless the configuration's `headers` say otherwise: `Content-Type: application/json`, the
request id as `X-Amzn-RequestId` and `Lambda-Runtime-Aws-Request-Id` (the same for every try of an unchanged batch),
`Lambda-Runtime-Deadline-Ms` (unix milliseconds at which we stop waiting); and, where the event belongs to a trace,
`X-Amzn-Trace-Id` and `Lambda-Runtime-Trace-Id`, `traceparent` and `tracestate`. With `sigv4` each request is signed anew.

What an answer means:

| answer | outcome | spends an attempt |
|---|---|---|
| 2xx | success, the body is the reply | |
| 2xx with `X-Amz-Function-Error` | the function failed | yes |
| 500 | the function failed: this is how an HTTP function says so | yes |
| 413, any other 4xx | the function refused this batch | yes |
| no answer within `timeout`, a reply larger than 6 MiB | the function failed | yes |
| 429, 503 | throttled; `Retry-After` (seconds or a date) is kept | no |
| 502, 504, any other 5xx | unavailable | no |
| refused, reset, DNS, TLS, no HTTP | unavailable | no |
| 401, 403, 404, 405, 3xx (never followed) | unavailable until somebody changes something: tried slowly | no |

At a path that ends in `/2015-03-31/functions/NAME/invocations` stands an emulator of Lambda, whose own ways are known:

| answer | outcome | spends an attempt |
|---|---|---|
| 200 with an object of errorMessage, errorType and nothing but stackTrace, requestId, trace, cause | failed | yes |
| 200 with the text `Task timed out after N seconds` | the function ran out of time | yes |
| 502 with an error's account | the function did not start, or exited | yes |
| 400 without a body | busy: it takes one event at a time | no |
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import aiohttp
import anyio
from multidict import CIMultiDict
from yarl import URL

from poller.model.errors import Denied, Transient
from poller.model.outcome import Failed, Outcome, Refused, Replied, Unavailable
from poller.model.ports import Observe, Target
from poller.model.trace import Trace
from poller.targets.answers import (
    RESPONSE_LIMIT_BYTES,
    emulated_failure,
    failure_of,
    object_of,
    one_line,
    retry_after,
)

if TYPE_CHECKING:
    from poller.aws.session import Aws

CONNECT_LIMIT = 10.0
"""Seconds a connection may take; at most half the function's timeout, so that the two are told apart."""

_EMULATOR = re.compile(r"/2015-03-31/functions/[^/?#]+/invocations/?(?:[?#]|$)")
_SIGNED = (
    (re.compile(r"[^.]+\.lambda-url\.([a-z0-9-]+)\.on\.aws"), "lambda"),
    (re.compile(r"[^.]+\.execute-api\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?"), "execute-api"),
)
_LASTING = frozenset({401, 403, 404, 405})
_SLICE = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class SigV4:
    """What requests are signed for, and as whom."""

    service: str = "lambda"
    region: str | None = None
    """None: the `aws` section's."""
    role_arn: str | None = None
    """Role to assume for invoking; None: the credentials of the standard chain."""


def signed_for(url: str) -> SigV4:
    """What a URL of AWS's own says it has to be signed for; a function URL of an unknown region otherwise."""
    host = URL(url).host or ""
    for form, service in _SIGNED:
        if found := form.fullmatch(host):
            return SigV4(service=service, region=found[1])
    return SigV4()


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFunction:
    """A function that takes the event as the body of a POST."""

    name: str
    """The name in the configuration."""
    url: str
    timeout: float = 60.0
    """Seconds until an invocation counts as timed out."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Sent with every request; may hold secrets."""
    ca: str | None = None
    """File of the certificates (PEM) that the server's is checked against; None: those that the system trusts."""
    sigv4: SigV4 | None = None
    """How requests are signed; None: not."""

    @asynccontextmanager
    async def open(self, aws: Aws, observe: Observe) -> AsyncIterator[Target]:  # noqa: ARG002  the shape of every section
        """Open the function's own session: connections are kept alive, cookies are not.

        Raises:
            Denied: the certificates of `ca` cannot be read.
        """
        tls = self._tls()
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=tls),  # as many as there are batches in flight
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=min(CONNECT_LIMIT, self.timeout / 2)),
            headers={"User-Agent": "poller"},
        ) as session:
            yield _Http(self, session, aws, tls)

    def _tls(self) -> ssl.SSLContext | Literal[True]:
        if self.ca is None:
            return True  # the one that aiohttp has for all sessions: the system's certificates take most of a megabyte
        try:
            return ssl.create_default_context(cafile=self.ca)
        except OSError as error:  # ssl's own errors are among them
            why = error.strerror if isinstance(error, FileNotFoundError) else "it holds no certificate in PEM form"
            raise Denied(f'function "{self.name}": ca: {self.ca} cannot be used: {why}') from error


def is_emulator(url: str) -> bool:
    """Whether a URL is that of Lambda's own Invoke, which outside AWS an emulator answers."""
    return _EMULATOR.search(url) is not None


def classify(status: int, headers: Mapping[str, str], body: bytes, *, emulator: bool, now: float) -> Outcome:
    """Decide what an answer means: the tables above.

    Args:
        status: of HTTP.
        headers: looked up without regard to case.
        body: all of it.
        emulator: the answer is an emulator's (`is_emulator`).
        now: unix seconds, for a Retry-After that is a date.
    """
    if 200 <= status < 300:
        error = headers.get("X-Amz-Function-Error")
        if error:
            return failure_of(body, error_type=error)
        return (emulated_failure(body) if emulator else None) or Replied(body=body)
    said = f"status {status}"
    excerpt = one_line(body[:400].decode("utf-8", "replace"))
    reason = f"{said}: {excerpt}" if excerpt else said
    if emulator and status == 502 and "errorMessage" in object_of(body):
        return failure_of(body)
    if emulator and status == 400 and not body:
        return Refused(reason="the emulator is busy: it takes one event at a time")
    if status in {429, 503}:
        return Refused(reason=reason, after=retry_after(headers.get("Retry-After"), now))
    if 300 <= status < 400:
        where = headers.get("Location", "nowhere")
        return Unavailable(reason=one_line(f"{said}: redirects to {where} are not followed"), lasting=True)
    if status in _LASTING:
        return Unavailable(reason=reason, lasting=True)
    if 400 <= status <= 500:
        if status == 413:
            return Failed(reason=reason, error=None, ran=False)
        return failure_of(body, error_type=said) if "errorMessage" in object_of(body) else Failed(reason=reason)
    return Unavailable(reason=reason)


class _Http:
    """A `Target`: one POST per call."""

    def __init__(
        self, settings: HttpFunction, session: aiohttp.ClientSession, aws: Aws, tls: ssl.SSLContext | Literal[True]
    ) -> None:
        self._settings = settings
        self._session = session
        self._aws = aws
        self._tls = tls
        self._emulator = is_emulator(settings.url)

    async def invoke(self, event: bytes, request_id: str, trace: Trace | None = None) -> Outcome:
        """Send the event and wait for the reply."""
        settings = self._settings
        with anyio.move_on_after(settings.timeout):
            try:
                return await self._post(event, await self._headers(event, request_id, trace))
            except Transient as error:  # the credentials to sign with
                return self._unavailable(str(error))
            except Denied as error:
                return self._unavailable(str(error), lasting=True)
            except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):  # it is not repeated: it may hold secrets
                return self._unavailable("its url is not one of HTTP (http://HOST[:PORT]/PATH)", lasting=True)
            except (aiohttp.ClientError, OSError) as error:  # before ValueError, which a refused certificate is, too
                return self._unavailable(_what_failed(error))
            except ValueError as error:
                return self._unavailable(f"its headers cannot be sent: {error}", lasting=True)
        return Failed(reason=f"Task timed out after {settings.timeout:.2f} seconds", timeout=True)

    async def check(self) -> float:
        """Connect to the endpoint's host and port, with TLS where the URL says so, and send nothing.

        Returns:
            The timeout.
        """
        settings = self._settings
        where = "its url"
        try:
            url = URL(settings.url)
            where = f"{url.host}:{url.port}"
            tls = self._tls if url.scheme == "https" else None
            with anyio.fail_after(min(CONNECT_LIMIT, settings.timeout)):
                _, writer = await asyncio.open_connection(url.host, url.port, ssl=tls)
        except (OSError, ValueError) as error:  # OSError: DNS, refusals, TLS, no answer in time
            why = str(error) or "no answer"
            raise Denied(one_line(f'function "{settings.name}": {where} cannot be reached: {why}')) from error
        writer.transport.abort()  # nothing was sent; to take leave would be to wait for the server's answer, or its reset
        await writer.wait_closed()
        if settings.sigv4:
            await self._sign(settings.sigv4, b"", "application/json")
        return settings.timeout

    async def _post(self, event: bytes, headers: CIMultiDict[str]) -> Outcome:
        async with self._session.post(
            self._settings.url, data=_slices(event), headers=headers, allow_redirects=False
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > RESPONSE_LIMIT_BYTES:
                    response.close()
                    return Failed(reason=f"the reply is larger than {RESPONSE_LIMIT_BYTES} bytes")
            return self._told(response, bytes(body))

    def _told(self, response: aiohttp.ClientResponse, body: bytes) -> Outcome:
        return classify(response.status, response.headers, body, emulator=self._emulator, now=time.time())

    async def _headers(self, event: bytes, request_id: str, trace: Trace | None) -> CIMultiDict[str]:
        headers = CIMultiDict(
            {
                "Content-Type": "application/json",
                "X-Amzn-RequestId": request_id,
                "Lambda-Runtime-Aws-Request-Id": request_id,
                "Lambda-Runtime-Deadline-Ms": str(int((time.time() + self._settings.timeout) * 1000)),
            }
        )
        headers.update(_trace_headers(trace) if trace else {})
        headers.update(self._settings.headers)
        if self._settings.sigv4:
            headers.update(await self._sign(self._settings.sigv4, event, headers["Content-Type"]))
        headers["Content-Length"] = str(len(event))
        return headers

    async def _sign(self, what: SigV4, event: bytes, content_type: str) -> dict[str, str]:
        signer = await self._aws.signer(what.service, region=what.region, role_arn=what.role_arn)
        return await signer.sign(str(URL(self._settings.url)), event, content_type=content_type)

    def _unavailable(self, what: str, *, lasting: bool = False) -> Unavailable:
        return Unavailable(reason=one_line(f'function "{self._settings.name}": {what}'), lasting=lasting)


def _trace_headers(trace: Trace) -> dict[str, str]:
    xray = trace.xray_header()
    headers = {
        "X-Amzn-Trace-Id": xray,
        "Lambda-Runtime-Trace-Id": xray,
        "traceparent": trace.parent,
        "tracestate": trace.state,
    }
    return {name: value for name, value in headers.items() if value}


def _what_failed(error: aiohttp.ClientError | OSError) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return f"cannot connect to {error.host}:{error.port}: {error.certificate_error}"
        case aiohttp.ClientConnectorError():
            cause = error.os_error
            return f"cannot connect to {error.host}:{error.port}: {cause.strerror or cause}"
        case aiohttp.ClientResponseError():
            return f"the answer is not HTTP: {error.message}"
        case aiohttp.ClientPayloadError():
            return f"the answer broke off or cannot be decoded: {error}"
        case aiohttp.ConnectionTimeoutError():  # its own text holds the whole url, which may hold secrets
            return "no connection came about in time"
        case aiohttp.ServerDisconnectedError():
            return "the server hung up without an answer"
        case _:
            return str(error) or type(error).__name__


async def _slices(event: bytes) -> AsyncIterator[bytes]:
    """The event in pieces, so that sending a large one does not hold up the others."""
    view = memoryview(event)
    for start in range(0, len(view), _SLICE):
        yield bytes(view[start : start + _SLICE])
