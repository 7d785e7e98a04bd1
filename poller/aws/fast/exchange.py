"""One kind of request to one place: signed, sent, answered; sent again only where that can do no harm.

A request is sent once more, on a new connection, when the one that was kept turns out to have been closed before any
of the answer came: at any time where the call may be repeated, else only where nothing of it was sent. And it is sent
once more when its signature was refused while the server's clock is far from ours, with the server's time; such a
request was not carried out, whatever it asks for.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeVar

import anyio.to_thread
import msgspec
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ConnectionClosedError
from botocore.parsers import JSONParser

from poller.aws.calls import UNKNOWN_LENGTH_BYTES
from poller.aws.fast.connection import Overdue
from poller.aws.fast.pool import Origin, Pool
from poller.aws.fast.signing import Form, Heads
from poller.model.dates import moment_of
from poller.model.ports import Admit

T = TypeVar("T")

PAGE_LIMIT_BYTES = 67_108_864
"""Of an answer that is admitted; the largest of AWS's have some 16 MiB."""
ANSWER_LIMIT_BYTES = 16_777_216
"""Of any other answer; a function's has 6 MiB."""

_AT_ONCE_BYTES = 1_048_576
"""The digest of more takes longer than others should wait for."""
_FAR_OFF = 240.0
"""Seconds; services refuse signatures that are 300 off."""
_REFUSED = range(400, 404)
_SKEWED = frozenset(
    {
        "AuthFailure",
        "InvalidSignatureException",
        "RequestExpired",
        "RequestInTheFuture",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A whole answer."""

    status: int
    raw_headers: dict[bytes, bytes]
    body: bytes | bytearray
    signed: int
    """Unix seconds that the request was signed with."""

    def headers(self) -> dict[str, str]:
        """By their names in lower case."""
        return {
            name.decode("latin-1").lower(): value.decode("utf-8", "replace") for name, value in self.raw_headers.items()
        }

    def parsed(self) -> dict[str, Any]:
        """An error's account, as botocore reads it."""
        answer = {"status_code": self.status, "headers": self.headers(), "body": bytes(self.body)}
        try:
            found: dict[str, Any] = JSONParser().parse(answer, None)
        except (AttributeError, TypeError, ValueError, RecursionError):  # JSON, but no account of an error
            answer["body"] = b""
            found = JSONParser().parse(answer, None)
        return found


@dataclass(slots=True)
class ServersTime:
    """How far a server's clock is from ours."""

    ahead: float = 0.0
    """Seconds to add to our time."""

    def corrected(self, reply: Reply, now: float) -> bool:
        """Whether a signature was refused for its time; from now on the server's time is used.

        Args:
            reply: of any status.
            now: unix seconds of this machine's clock.
        """
        if reply.status not in _REFUSED:
            return False
        there = moment_of(reply.headers().get("date", ""))
        if there is None or abs(there - reply.signed) < _FAR_OFF or _code(reply) not in _SKEWED:
            return False
        self.ahead = there - now
        return True


class Exchange:
    """Sends the requests of one form."""

    def __init__(
        self, form: Form, pool: Pool, credentials: Any, servers_time: ServersTime, *, repeatable: bool
    ) -> None:
        """Send nothing yet.

        Args:
            form: of the requests.
            pool: of connections.
            credentials: aiobotocore's, which renew themselves.
            servers_time: of the service.
            repeatable: sending a request twice does what sending it once does.
        """
        self.form = form
        self._heads = Heads(form)
        self._origin = Origin.of(form.url)
        self._pool = pool
        self._credentials = credentials
        self._keys: Any = None
        self._asked_at = -1
        """Unix seconds."""
        self._time = servers_time
        self._repeatable = repeatable

    async def send(
        self,
        body: bytes,
        *,
        admit: Admit | None = None,
        digest: str = "",
        more: str = "",
        deadline: float = math.inf,
    ) -> Reply:
        """Send and wait for the answer, whatever its status.

        Args:
            body: of the request.
            admit: waits until the body of a successful answer may be taken.
            digest: of the body, where it is one of the few that are sent again and again; "": it is new.
            more: further headers, each ending in CRLF, that are not signed.
            deadline: of the whole, on the loop's clock.

        Raises:
            Overdue: no whole answer before the deadline.
        """
        signed = self._heads.again if digest else self._heads.head
        if not digest:
            made = sha256(body) if len(body) <= _AT_ONCE_BYTES else await anyio.to_thread.run_sync(sha256, body)
            digest = made.hexdigest()
        hold, limit = (False, ANSWER_LIMIT_BYTES) if admit is None else (True, PAGE_LIMIT_BYTES)
        pool, origin = self._pool, self._origin
        new = corrected = False
        while True:
            connection = None if new else pool.idle(origin)
            if connection is None:
                connection = await _by(deadline, pool.take(origin, new=new))
            try:
                moment = int(time.time() + self._time.ahead)
                if moment != self._asked_at:
                    await _by(deadline, self._ask_for_keys(moment))
                head = signed(digest, len(body), self._keys, moment, more=more)
                await connection.ask(head, body, limit=limit, hold=hold, deadline=deadline)
                answer = connection.answer
                if admit is not None:
                    page = 200 <= answer.status < 300
                    if page:
                        await admit(UNKNOWN_LENGTH_BYTES if answer.length is None else answer.length)
                    if not answer.whole:
                        await connection.rest(PAGE_LIMIT_BYTES if page else ANSWER_LIMIT_BYTES)
                reply = Reply(answer.status, answer.headers.copy(), answer.take(), moment)
            except ConnectionClosedError:
                stale = connection.used and not connection.heard
                if not stale or (connection.touched and not self._repeatable):
                    raise
                new = True
            else:
                if reply.status < 400 or corrected or not self._time.corrected(reply, time.time()):
                    return reply
                new, corrected = False, True
            finally:
                pool.give_back(origin, connection)

    async def _ask_for_keys(self, moment: int) -> None:
        """Ask for credentials once a second, or for each request where they are about to end: asking is not cheap."""
        self._keys = await self._credentials.get_frozen_credentials()
        ends = isinstance(self._credentials, RefreshableCredentials) and self._credentials.refresh_needed()
        self._asked_at = -1 if ends else moment


async def _by(deadline: float, work: Awaitable[T]) -> T:
    """Wait for the few things that take time before a connection can be asked, which keeps to the deadline by itself."""
    if deadline == math.inf:
        return await work
    try:
        async with asyncio.timeout_at(deadline) as left:
            return await work
    except TimeoutError:
        if left.expired():
            raise Overdue from None
        raise


def _code(reply: Reply) -> str:
    """The error's code: services of REST write it into a header."""
    header = reply.headers().get("x-amzn-errortype", "").partition(":")[0].rpartition("#")[2]
    code: str = header or reply.parsed().get("Error", {}).get("Code", "")
    return code
