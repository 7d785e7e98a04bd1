"""The hot calls sent through aiobotocore: its signing and endpoints, without its parsing and its retries."""

from __future__ import annotations

import io
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import aiohttp
import anyio
from aiobotocore.httpsession import AIOHTTPSession
from botocore.exceptions import ClientError

from poller.aws.calls import UNKNOWN_LENGTH_BYTES, Answer, HotService
from poller.aws.errors import translated
from poller.model.ports import Admit

Client: TypeAlias = Any
"""An aiobotocore client; botocore carries no types."""

_AT_ONCE_BYTES = 1_048_576
_UNASKED_BYTES, _PIECE_BYTES = 16_384, 262_144
"""What aiohttp takes off the socket of a body, about twice, without being asked: before the admission and after it."""
_BODY = "PollerBody"
"""The key under which the raw body travels through botocore's parsed answer."""
_SUCCESS = range(200, 300)
_OPERATIONS = {
    "kinesis": "kinesis.GetRecords",
    "dynamodbstreams": "dynamodb-streams.GetRecords",
    "sqs": "sqs",
    "lambda": "lambda.Invoke",
}


@dataclass(slots=True)
class _Taking:
    """A call whose answer may be large."""

    admit: Admit
    body: bytes = b""
    """Of a successful answer. It does not travel through botocore, whose objects outlive the call by cycles."""

    def taken(self) -> bytes:
        """The body, once: a connection opened by this call keeps its context, and so this object."""
        body, self.body = self.body, b""
        return body


_taking: ContextVar[_Taking | None] = ContextVar("poller_taking", default=None)
"""The call under way: botocore has no place for an argument of ours on the way to its HTTP session."""

_trace: ContextVar[str] = ContextVar("poller_trace", default="")
"""The trace of the invocation under way, for the same reason."""


class AdmittingSession(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore carries no types
    """Waits, where a call asks for it, between an answer's head and its body."""

    async def send(self, request: Any) -> Any:
        """Send; the body of a successful answer is taken once it is admitted, and botocore finds none."""
        if isinstance(request.body, bytes) and len(request.body) > _AT_ONCE_BYTES:
            request.body = io.BytesIO(request.body)  # written in pieces, between which others have their turn
        taking = _taking.get()
        if taking is None:
            return await super().send(request)
        request.stream_output = True  # the body stays on the socket
        response = await super().send(request)
        with _closed_unless_done(response.raw):
            if response.status_code in _SUCCESS:
                length = response.headers.get("content-length", "")
                await taking.admit(int(length) if length.isdecimal() else UNKNOWN_LENGTH_BYTES)
                taking.body = await _whole(response.raw)
            else:
                await response.content
        return response

    async def _get_session(self, proxy_url: str | None) -> Any:
        """The session of aiohttp, told not to read ahead: aiobotocore has no setting for it."""
        session = await super()._get_session(proxy_url)
        session._read_bufsize = _UNASKED_BYTES
        return session


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """The body. Not `read`: the response would keep it."""
    response.content.set_read_chunk_size(_PIECE_BYTES)
    return b"".join([piece async for piece in response.content.iter_any()])


@contextmanager
def _closed_unless_done(response: Any) -> Iterator[None]:
    """Close the connection of an answer that was not read to its end."""
    done = False
    try:
        yield
        done = True
    finally:
        if not done:
            response.close()


@contextmanager
def _admitting(admit: Admit) -> Iterator[_Taking]:
    taking = _Taking(admit)
    token = _taking.set(taking)
    try:
        yield taking
    finally:
        _taking.reset(token)


@contextmanager
def _tracing(trace: str) -> Iterator[None]:
    token = _trace.set(trace)
    try:
        yield
    finally:
        _trace.reset(token)


def _add_trace(params: MutableMapping[str, Any], **_: Any) -> None:
    """Send the trace of the call under way along. botocore leaves this header out of the signature."""
    if trace := _trace.get():
        params["headers"]["X-Amzn-Trace-Id"] = trace


def _hand_over(
    response_dict: MutableMapping[str, Any], customized_response_dict: MutableMapping[str, Any], **_: Any
) -> None:
    """Take the raw body and leave botocore an empty object to parse; errors it parses itself."""
    if response_dict["status_code"] in _SUCCESS:
        customized_response_dict[_BODY] = response_dict["body"]
        response_dict["body"] = b"{}"


def _hand_over_any(
    response_dict: MutableMapping[str, Any], customized_response_dict: MutableMapping[str, Any], **_: Any
) -> None:
    """Take the raw body of an invocation's answer, whatever its status."""
    customized_response_dict[_BODY] = response_dict["body"]


class BotocoreCalls:
    """The hot calls of one region and role. Clients are opened by `opened`, each once."""

    def __init__(self, opened: Callable[[HotService], Awaitable[Client]]) -> None:
        self._opened = opened
        self._clients: dict[str, Client] = {}

    async def ready(self, service: HotService, place: str = "") -> None:  # noqa: ARG002  the port's
        """Find out how a service is reached: see `HotCalls`."""
        await self._client(service)

    async def get_records(
        self,
        service: Literal["kinesis", "dynamodbstreams"],
        iterator: str,
        limit: int,
        admit: Admit,
        *,
        stream_arn: str | None = None,
    ) -> bytes:
        """GetRecords: see `HotCalls`."""
        stream = {} if stream_arn is None else {"StreamARN": stream_arn}
        client = await self._client(service)
        with _admitting(admit) as taking, translated(service, "GetRecords"):
            await client.get_records(ShardIterator=iterator, Limit=limit, **stream)
            return taking.taken()

    async def receive_message(
        self, queue_url: str, *, count: int, wait: int, admit: Admit, visibility: int | None = None
    ) -> bytes:
        """ReceiveMessage: see `HotCalls`."""
        hidden = {} if visibility is None else {"VisibilityTimeout": visibility}
        client = await self._client("sqs")
        with _admitting(admit) as taking, translated("sqs", "ReceiveMessage"):
            await client.receive_message(
                QueueUrl=queue_url,
                MaxNumberOfMessages=count,
                WaitTimeSeconds=wait,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
                **hidden,
            )
            return taking.taken()

    async def delete_message_batch(self, queue_url: str, receipts: Sequence[str]) -> bytes:
        """DeleteMessageBatch: see `HotCalls`."""
        client = await self._client("sqs")
        listed = [{"Id": str(place), "ReceiptHandle": receipt} for place, receipt in enumerate(receipts)]
        with translated("sqs", "DeleteMessageBatch"):
            return _body(await client.delete_message_batch(QueueUrl=queue_url, Entries=listed))

    async def change_message_visibility_batch(self, queue_url: str, receipts: Sequence[str], *, timeout: int) -> bytes:
        """ChangeMessageVisibilityBatch: see `HotCalls`."""
        client = await self._client("sqs")
        listed = [
            {"Id": str(place), "ReceiptHandle": receipt, "VisibilityTimeout": timeout}
            for place, receipt in enumerate(receipts)
        ]
        with translated("sqs", "ChangeMessageVisibilityBatch"):
            return _body(await client.change_message_visibility_batch(QueueUrl=queue_url, Entries=listed))

    async def invoke(self, function: str, event: bytes, *, timeout: float, trace: str = "") -> Answer:
        """Invoke: see `HotCalls`."""
        client = await self._client("lambda")
        with anyio.fail_after(timeout), _tracing(trace), translated("lambda", "Invoke"):
            try:
                parsed = await client.invoke(
                    FunctionName=function, InvocationType="RequestResponse", LogType="Tail", Payload=event
                )
            except ClientError as error:
                parsed = error.response
                if _BODY not in parsed:  # not an answer to this call: credentials that could not be had
                    raise
            metadata = parsed["ResponseMetadata"]
            body = parsed[_BODY]
            if not isinstance(body, bytes):
                async with body as stream:
                    body = await stream.read()
            return Answer(status=metadata["HTTPStatusCode"], headers=metadata["HTTPHeaders"], body=body)

    async def _client(self, service: HotService) -> Client:
        client = self._clients.get(service)
        if client is None:
            client = await self._opened(service)
            take = _hand_over_any if service == "lambda" else _hand_over
            client.meta.events.register(f"before-parse.{_OPERATIONS[service]}", take, unique_id=f"poller-{service}")
            if service == "lambda":
                client.meta.events.register("before-call.lambda.Invoke", _add_trace, unique_id="poller-trace")
            self._clients[service] = client
        return client


def _body(parsed: MutableMapping[str, Any]) -> bytes:
    body: bytes = parsed[_BODY]
    return body


def keepalive_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket that keeps its place in a NAT gateway's table while a function takes its time (they forget after 350 s)."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)  # noqa: FBT003  -- the standard library's signature
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    return made
