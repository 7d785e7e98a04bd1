"""The calls that carry nearly all the work, behind one narrow port: raw bodies come back, nothing is parsed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from poller.model.ports import Admit

HotService: TypeAlias = Literal["kinesis", "dynamodbstreams", "sqs", "lambda"]

UNKNOWN_LENGTH_BYTES = 16_777_216
"""What an answer without Content-Length is admitted as: a page of 10 MiB, in base64, and its frame."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an HTTP server said to an invocation, whatever its status."""

    status: int
    headers: Mapping[str, str]
    """By their names in lower case. Of a function's reply, where nothing failed, only the version need be there."""
    body: bytes


class HotCalls(Protocol):
    """Calls of one account and region. Each sends one signed request, once.

    A form may send a request once more where that can do no harm: when a kept connection turns out to have been closed
    before any of the answer came, reads of shards, deletions and changes of visibility are repeated at any time, a
    receive and an invocation only when nothing of them was sent (the lost answer of a receive hides messages, which
    the caller should know of); and when a signature was refused for this machine's clock.

    Every method raises `Transient`, `Throttled`, `Denied` or a more telling leaf of the error tree.
    """

    async def ready(self, service: HotService, place: str = "") -> None:
        """Find out how a service is reached, before the first call; nothing is sent.

        Args:
            service: whose.
            place: what is asked for: a Kinesis stream's ARN, a function's name or ARN; "" of the others.

        Raises:
            Denied: its calls cannot be sent from here.
        """

    async def get_records(
        self,
        service: Literal["kinesis", "dynamodbstreams"],
        iterator: str,
        limit: int,
        admit: Admit,
        *,
        stream_arn: str | None = None,
    ) -> bytes | bytearray:
        """GetRecords. Awaits `admit(content length)` after the answer's head, before its body.

        Args:
            service: whose.
            iterator: of a shard.
            limit: records, at most 10,000 of Kinesis and 1,000 of DynamoDB.
            admit: waits until the body may be taken.
            stream_arn: of a Kinesis stream, which wants to know it for a stream of another account.

        Raises:
            IteratorExpired: ask for a new one.
            Trimmed: the position has left the stream.
            ShardGone: no such shard or stream.
        """

    async def receive_message(
        self, queue_url: str, *, count: int, wait: int, admit: Admit, visibility: int | None = None
    ) -> bytes | bytearray:
        """ReceiveMessage of at most `count` (1 to 10) with all attributes, waiting up to `wait` seconds.

        Args:
            visibility: seconds that the messages are hidden for; None: the queue's own visibility timeout.
        """

    async def delete_message_batch(self, queue_url: str, receipts: Sequence[str]) -> bytes | bytearray:
        """DeleteMessageBatch of 1 to 10 messages, by their receipts; the answer names each by its place among them."""

    async def change_message_visibility_batch(
        self, queue_url: str, receipts: Sequence[str], *, timeout: int
    ) -> bytes | bytearray:
        """ChangeMessageVisibilityBatch of 1 to 10 messages, as `delete_message_batch`, to `timeout` seconds."""

    async def invoke(self, function: str, event: bytes, *, timeout: float, trace: str = "") -> Answer:
        """Invoke (RequestResponse, with the log's tail) a name or ARN, qualifier included.

        Args:
            function: name, partial or full ARN.
            event: sent as it is.
            timeout: seconds to wait.
            trace: X-Amzn-Trace-Id; "" sends none.

        Returns:
            An answer of any status.

        Raises:
            TimeoutError: nothing came within `timeout` seconds; the function may be running.
            Transient: the connection failed; the function may have run.
        """
