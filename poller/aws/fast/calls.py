"""The hot calls over connections of our own, with credentials, endpoints and the words of errors from botocore."""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal

import anyio
from botocore import xform_name
from botocore.exceptions import ClientError
from msgspec.json import encode

from poller.aws.calls import Answer, HotService
from poller.aws.errors import FOREIGN_ERRORS, translated, translated_error
from poller.aws.fast.bodies import batch_body, receive_body
from poller.aws.fast.connection import Overdue
from poller.aws.fast.exchange import Exchange, Reply, ServersTime
from poller.aws.fast.forms import Client, form_of, rehearse
from poller.aws.fast.pool import Pool
from poller.aws.fast.signing import Form
from poller.model.errors import Denied
from poller.model.ports import Admit

_SILENCE = 60.0
"""Seconds without a byte before an answer is given up; a long poll of a queue is silent for 20."""
_RECEIVE = "ReceiveMessage"
_TRACE = "X-Amzn-Trace-Id"
_VERSION = b"X-Amz-Executed-Version"
_OF_A_REPLY = frozenset(
    {
        b"Connection",
        b"Content-Length",
        b"Content-Type",
        b"Date",
        b"Transfer-Encoding",
        _VERSION,
        b"X-Amz-Log-Result",
        b"X-Amzn-Trace-Id",
        b"x-amzn-Remapped-Content-Length",
        b"x-amzn-RequestId",
    }
)
"""As Lambda spells them. Where there is no other, nothing failed, and only the version is looked at: to decode nine costs."""


class FastCalls:
    """The hot calls of one region and role."""

    def __init__(
        self,
        opened: Callable[[HotService], Awaitable[Client]],
        credentials: Callable[[], Awaitable[Any]],
        trust: Callable[[], Awaitable[ssl.SSLContext]],
    ) -> None:
        """Open nothing yet.

        Args:
            opened: gives clients that nobody else uses: they send nothing any more.
            credentials: gives aiobotocore's, which renew themselves.
            trust: whom TLS trusts.
        """
        self._opened = opened
        self._credentials = credentials
        self._trust = trust
        self._lock = anyio.Lock()
        self._clients: dict[HotService, Client] = {}
        self._times: dict[HotService, ServersTime] = {}
        self._pools: dict[str, Pool] = {}
        self._exchanges: dict[tuple[str, str | None], Exchange] = {}

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            await pool.aclose()

    async def ready(self, service: HotService, place: str = "") -> None:
        """Find out how a service is reached: see `HotCalls`."""
        match service:
            case "kinesis":
                await self._for_stream(service, place)
            case "dynamodbstreams":
                await self._for_stream(service, None)
            case "sqs":
                await self._for_queue(_RECEIVE)
            case "lambda":
                await self._for_function(place)

    async def get_records(
        self,
        service: Literal["kinesis", "dynamodbstreams"],
        iterator: str,
        limit: int,
        admit: Admit,
        *,
        stream_arn: str | None = None,
    ) -> bytes | bytearray:
        """GetRecords: see `HotCalls`."""
        parameters: dict[str, object] = {"ShardIterator": iterator, "Limit": limit}
        if stream_arn is not None:
            parameters["StreamARN"] = stream_arn
        exchange = self._exchanges.get((service, stream_arn)) or await self._for_stream(service, stream_arn)
        try:
            reply = await exchange.send(encode(parameters), admit=admit)
            if reply.status < 300:
                return reply.body
            raise ClientError(reply.parsed(), "GetRecords")
        except FOREIGN_ERRORS as error:
            raise translated_error(service, "GetRecords", error) from error

    # What only names its parameters is no coroutine of its own, but answers that of `_ask_queue`, to be awaited as one.

    def receive_message(
        self, queue_url: str, *, count: int, wait: int, admit: Admit, visibility: int | None = None
    ) -> Coroutine[Any, Any, bytes | bytearray]:
        """ReceiveMessage: see `HotCalls`."""
        body, digest = receive_body(queue_url, count, wait, visibility)
        return self._ask_queue(_RECEIVE, body, admit, digest)

    def delete_message_batch(self, queue_url: str, receipts: Sequence[str]) -> Coroutine[Any, Any, bytes | bytearray]:
        """DeleteMessageBatch: see `HotCalls`."""
        return self._ask_queue("DeleteMessageBatch", batch_body(queue_url, receipts))

    def change_message_visibility_batch(
        self, queue_url: str, receipts: Sequence[str], *, timeout: int
    ) -> Coroutine[Any, Any, bytes | bytearray]:
        """ChangeMessageVisibilityBatch: see `HotCalls`."""
        return self._ask_queue("ChangeMessageVisibilityBatch", batch_body(queue_url, receipts, timeout))

    async def invoke(self, function: str, event: bytes, *, timeout: float, trace: str = "") -> Answer:
        """Invoke: see `HotCalls`."""
        # Learning reads models, and asks nobody: the time begins behind it.
        exchange = self._exchanges.get(("lambda", function)) or await self._for_function(function)
        deadline = asyncio.get_running_loop().time() + timeout
        try:
            reply = await exchange.send(event, more=_header(trace) if trace else "", deadline=deadline)
        except Overdue:
            raise TimeoutError from None
        except FOREIGN_ERRORS as error:
            raise translated_error("lambda", "Invoke", error) from error
        return Answer(status=reply.status, headers=headers_of(reply), body=bytes(reply.body))

    async def _ask_queue(
        self, operation: str, body: bytes, admit: Admit | None = None, digest: str = ""
    ) -> bytes | bytearray:
        exchange = self._exchanges.get((operation, None)) or await self._for_queue(operation)
        try:
            reply = await exchange.send(body, admit=admit, digest=digest)
            if reply.status < 300:
                return reply.body
            raise ClientError(reply.parsed(), operation)
        except FOREIGN_ERRORS as error:
            raise translated_error("sqs", operation, error) from error

    async def _for_stream(self, service: Literal["kinesis", "dynamodbstreams"], stream_arn: str | None) -> Exchange:
        parameters = {} if stream_arn is None else {"StreamARN": stream_arn}
        return await self._learnt((service, stream_arn), service, "GetRecords", parameters)

    async def _for_queue(self, operation: str) -> Exchange:
        return await self._learnt((operation, None), "sqs", operation, {}, repeatable=operation != _RECEIVE)

    async def _for_function(self, function: str) -> Exchange:
        parameters = {"FunctionName": function, "InvocationType": "RequestResponse", "LogType": "Tail"}
        return await self._learnt(("lambda", function), "lambda", "Invoke", parameters, repeatable=False)

    async def _learnt(
        self,
        key: tuple[str, str | None],
        service: HotService,
        operation: str,
        parameters: Mapping[str, object],
        *,
        repeatable: bool = True,
    ) -> Exchange:
        """The exchange of a call that is made for the first time."""
        async with self._lock:
            if key not in self._exchanges:
                with translated(service, operation):
                    if service not in self._clients:
                        client = await self._opened(service)
                        rehearse(client)
                        self._clients[service] = client
                        self._times[service] = ServersTime()
                    form = await form_of(self._clients[service], xform_name(operation), parameters)
                    credentials = await self._credentials()
                self._exchanges[key] = self._exchange(service, operation, form, credentials, repeatable=repeatable)
        return self._exchanges[key]

    def _exchange(
        self, service: HotService, operation: str, form: Form, credentials: Any, *, repeatable: bool
    ) -> Exchange:
        """Long polls have connections of their own, so that no deletion waits for them."""
        kind = operation if operation == _RECEIVE else service
        if kind not in self._pools:
            if service == "lambda":
                # A function has the time that its caller gives it, and no other waits for it: as many are called as
                # there are batches in flight.
                self._pools[kind] = Pool(self._trust, silence=math.inf, at_most=math.inf)
            else:
                self._pools[kind] = Pool(self._trust, silence=_SILENCE)
        return Exchange(form, self._pools[kind], credentials, self._times[service], repeatable=repeatable)


def headers_of(reply: Reply) -> Mapping[str, str]:
    """What an answer to Invoke says of itself: see `Answer`."""
    raw = reply.raw_headers
    if reply.status < 300 and raw.keys() <= _OF_A_REPLY:
        version = raw.get(_VERSION)
        return {} if version is None else {"x-amz-executed-version": version.decode("utf-8", "replace")}
    return reply.headers()


def _header(trace: str) -> str:
    if not (trace.isascii() and trace.isprintable()):
        raise Denied("lambda Invoke: the trace holds what no header may")
    return f"{_TRACE}: {trace}\r\n"
