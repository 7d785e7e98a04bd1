"""The Lambda Runtime API, 2018-06-01, as one environment sees it: one invocation at a time. Knows nothing of processes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
from aiohttp import web

from poller.model.outcome import Failed, Outcome, Replied
from poller.targets.answers import RESPONSE_LIMIT_BYTES, failure_of

_HEADER_LIMIT_BYTES = 2_097_152
"""Runtime clients send a failure's stack in a header, up to 1 MiB of it."""


class Invocation:
    """One event on its way through an environment."""

    def __init__(self, event: bytes, request_id: str, timeout: float, trace: str = "") -> None:
        self.event = event
        self.request_id = request_id
        self.trace = trace
        """The X-Ray header it came with; "" when it came without."""
        self.timeout = timeout
        """Seconds from the moment it is taken."""
        self.taken = anyio.Event()
        """The runtime has it, or it is done."""
        self.done = anyio.Event()
        self.outcome: Outcome | None = None
        """None after `done`: the environment ended before it took the event."""

    def settle(self, outcome: Outcome | None) -> None:
        """Say what became of it; the first word counts."""
        if not self.done.is_set():
            self.outcome = outcome
            self.taken.set()
            self.done.set()


class RuntimeApi:
    """Hands invocations to a runtime client and takes its answers."""

    def __init__(self, arn: str) -> None:
        self._arn = arn
        self._offered: Invocation | None = None
        self._running: Invocation | None = None
        self._offer_made = anyio.Event()
        self.initialized = False
        """The runtime has asked for an invocation at least once."""
        self.broken = False
        """The runtime reported that it cannot start: it gets nothing more."""
        self.request_id = ""
        """Whose output it is that the function prints now; "" between invocations."""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Listen on a loopback port of its own; yields AWS_LAMBDA_RUNTIME_API, host and port. Raises OSError."""
        app = web.Application()
        runtime = "/2018-06-01/runtime"
        app.router.add_get(f"{runtime}/invocation/next", self._next)
        app.router.add_post(f"{runtime}/invocation/{{id}}/response", self._response)
        app.router.add_post(f"{runtime}/invocation/{{id}}/error", self._error)
        app.router.add_post(f"{runtime}/init/error", self._init_error)
        runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            handler_cancellation=True,  # a runtime that hangs up while it waits must not be given an event
            shutdown_timeout=0.1,
            max_field_size=_HEADER_LIMIT_BYTES,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            yield f"{host}:{port}"
        finally:
            with anyio.CancelScope(shield=True):
                await runner.cleanup()

    def offer(self, invocation: Invocation) -> None:
        """Give this to the runtime when it next asks."""
        self._offered = invocation
        if not self.initialized:
            self.request_id = invocation.request_id  # what is printed while the runtime starts belongs to it
        self._offer_made.set()
        self._offer_made = anyio.Event()

    def end(self, *, running: Outcome, starting: Outcome) -> None:
        """The environment is gone.

        Args:
            running: what becomes of an invocation that the runtime had taken.
            starting: what becomes of one that waited for the runtime to start. One that was offered to a runtime
                which had started, and was not taken, is settled with None: it can be sent elsewhere.
        """
        if self._running is not None:
            self._running.settle(running)
        if self._offered is not None:
            self._offered.settle(None if self.initialized else starting)

    async def _next(self, _request: web.Request) -> web.StreamResponse:
        if self.broken:
            return _refusal(403, "InvalidStateTransition", "the runtime has reported that it cannot start")
        if self._running is not None:
            return _refusal(403, "InvalidStateTransition", "the last invocation has no response yet")
        self.initialized = True
        if self._offered is None:
            self.request_id = ""
        while self._offered is None:
            await self._offer_made.wait()
        invocation, self._offered = self._offered, None
        self._running = invocation
        self.request_id = invocation.request_id
        invocation.taken.set()
        return web.Response(body=invocation.event, headers=self._headers(invocation))

    def _headers(self, invocation: Invocation) -> dict[str, str]:
        now = time.time()
        digest = hashlib.sha256(invocation.request_id.encode()).hexdigest()
        trace = invocation.trace or f"Root=1-{int(now):08x}-{digest[:24]};Parent={digest[24:40]};Sampled=0"
        return {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": str(int((now + invocation.timeout) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": self._arn,
            "Lambda-Runtime-Trace-Id": trace,
        }

    async def _response(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        invocation = self._answered(request)
        if invocation is None:
            return _refusal(400, "InvalidRequestID", "this invocation does not wait for a response")
        await self._let_output_come()
        if body is None:
            message = f"Response payload size exceeded maximum allowed payload size ({RESPONSE_LIMIT_BYTES} bytes)."
            invocation.settle(Failed(reason=f"Function.ResponseSizeTooLarge: {message}"))
            return _refusal(413, "RequestEntityTooLarge", message)
        if request.headers.get("Lambda-Runtime-Function-Response-Mode", "").lower() == "streaming":
            # Its end may be an error in a trailer, which would be taken for a success.
            invocation.settle(Failed(reason="the function streams its response: not supported yet"))
        else:
            invocation.settle(Replied(body=body))
        return _accepted()

    async def _error(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        invocation = self._answered(request)
        if invocation is None:
            return _refusal(400, "InvalidRequestID", "this invocation does not wait for a response")
        await self._let_output_come()
        invocation.settle(_failure(request, body))
        return _accepted()

    async def _init_error(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        if self.initialized:
            return _refusal(403, "InvalidStateTransition", "the runtime has started already")
        await self._let_output_come()
        self.broken = True
        if self._offered is not None:
            self._offered.settle(_failure(request, body))
        return _accepted()

    def _answered(self, request: web.Request) -> Invocation | None:
        """The invocation that a request answers; from now on it is not running."""
        invocation = self._running
        if invocation is None or invocation.request_id != request.match_info["id"]:
            return None
        self._running = None
        return invocation

    async def _let_output_come(self) -> None:
        """Let the reader of the function's output have what was printed before this request was sent."""
        await anyio.lowlevel.checkpoint()


async def _body(request: web.Request) -> bytes | None:
    """The body; None when it is larger than a response may be, after it was read to its end all the same."""
    body = bytearray()
    size_bytes = 0
    async for chunk in request.content.iter_any():
        size_bytes += len(chunk)
        if size_bytes <= RESPONSE_LIMIT_BYTES:
            body += chunk
    return bytes(body) if size_bytes <= RESPONSE_LIMIT_BYTES else None


def _failure(request: web.Request, body: bytes | None) -> Failed:
    return failure_of(body or b"", error_type=request.headers.get("Lambda-Runtime-Function-Error-Type", ""))


def _accepted() -> web.Response:
    return web.json_response({"status": "OK"}, status=202)


def _refusal(status: int, error_type: str, message: str) -> web.Response:
    return web.json_response({"errorMessage": message, "errorType": error_type}, status=status)
