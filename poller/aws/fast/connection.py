"""One HTTP/1.1 connection that is kept: a request, its answer, the next request. Each request is sent once.

What comes is read into a buffer that all connections share, since it is cut up at once; a large body is read into
place. A connection that was left in the middle, by an error or by a cancelled call, is not used again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import cast

from botocore.exceptions import ConnectionClosedError, HTTPClientError, ReadTimeoutError

from poller.aws.fast.reading import Garbled, Reading

SCRATCH_BYTES = 16_384
"""At most so much of a body is taken off the socket before it is admitted."""
_AT_ONCE_BYTES = 65_536
_PIECE_BYTES = 262_144


class Overdue(Exception):
    """The time that a call was given is over."""


class Connection(asyncio.BufferedProtocol):
    """A protocol to be connected by the loop; then `ask`, perhaps `rest`, then `done` or `abort`."""

    __slots__ = ("_broken", "_deadline", "_drained", "_due", "_held", "_hold", "_loop", "_scratch", "_silence", "_timer",
                 "_transport", "_waiter", "alive", "answer", "gone", "heard", "touched", "used", "where")  # fmt: skip

    def __init__(self, where: str, scratch: memoryview, silence: float) -> None:
        """Be ready to be connected.

        Args:
            where: the address, for people.
            scratch: a buffer of SCRATCH_BYTES that others may use, too.
            silence: seconds without a byte after which an answer is given up.
        """
        self.where = where
        self.answer = Reading()
        self.used = False
        """It has carried a whole answer before the call that is under way."""
        self.touched = False
        """Of the request that is under way, something may have been sent."""
        self.heard = False
        """A byte of its answer has come."""
        self.alive = 0.0
        """When it was last asked or heard, of the loop's clock."""
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._scratch = scratch
        self._silence = silence
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        """Of the call that is under way."""
        self._drained: asyncio.Future[None] | None = None
        self._hold = False
        self._held = False
        self._broken: Exception | None = None
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf
        """When the timer goes off."""

    @property
    def usable(self) -> bool:
        """Another request may be sent."""
        return self._transport is not None and self._broken is None and not self._transport.is_closing()

    def ask(self, head: bytes, body: bytes, *, limit: int, hold: bool, deadline: float = math.inf) -> Awaitable[None]:
        """Send a request; its answer is there when what comes back, to be awaited at once, is done.

        Args:
            head: to the empty line.
            body: of the length that the head says.
            limit: of the answer's body, in bytes.
            hold: be done when the answer's head is there, and leave the body to `rest`.
            deadline: of the whole, on the loop's clock.

        Raises:
            ConnectionClosedError: the connection was lost.
            ReadTimeoutError: silence for too long.
            Overdue: no whole answer before the deadline.
            HTTPClientError: what came is no answer.
        """
        self.answer.begin(limit)
        self.touched = self.heard = False
        to = self._transport
        if to is None or self._broken is not None or to.is_closing():
            raise ConnectionClosedError(endpoint_url=self.where)
        self.touched = True
        self._hold, self._deadline = hold, deadline
        self._waiter = waiter = self._loop.create_future()
        self.alive = self._loop.time()
        if self._timer is None or deadline < self._due:
            self._watch()
        if len(body) > _AT_ONCE_BYTES:
            return self._send(to, head, body, waiter)
        to.write(head + body)
        return waiter

    async def rest(self, limit: int) -> None:
        """Read what is left of a body, which is refused above `limit` bytes. Raises as `ask` does."""
        if self._broken is not None:
            raise self._broken
        try:
            self.answer.into_place(limit)
        except Garbled as error:
            raise HTTPClientError(error=error) from error
        self._hold = self._held = False
        self._waiter = waiter = self._loop.create_future()
        self.alive = self._loop.time()
        self._watch()
        self._to().resume_reading()
        await waiter

    def done(self) -> bool:
        """The call is over. Answers whether the connection is good for another, and closes it where it is not."""
        self._waiter = None
        if self.answer.whole and self.answer.keep and self._drained is None:
            self.used = True
            return True
        self.abort()
        return False

    def abort(self) -> None:
        """Close, now."""
        if self._transport is not None:
            self._transport.abort()

    async def _send(self, to: asyncio.Transport, head: bytes, body: bytes, waiter: asyncio.Future[None]) -> None:
        """Write no faster than the server takes it, and let others have their turn between the pieces."""
        view = memoryview(body)
        to.writelines((head, view[:_PIECE_BYTES]))
        for start in range(_PIECE_BYTES, len(body), _PIECE_BYTES):
            try:
                if self._drained is None:
                    await asyncio.sleep(0)
                else:
                    await self._drained
            except asyncio.CancelledError:  # the next request would be taken for the rest of this one
                self.answer.keep = False
                raise
            if waiter.done():  # answered, or lost, before all was sent: the connection is of no use any more
                self.answer.keep = False
                break
            to.write(view[start : start + _PIECE_BYTES])
        await waiter

    def _to(self) -> asyncio.Transport:
        if self._transport is None:
            raise ConnectionClosedError(endpoint_url=self.where)
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop has connected us."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by name

    def connection_lost(self, error: Exception | None) -> None:
        """The connection has ended, by whomever."""
        self._end(ConnectionClosedError(endpoint_url=self.where, error=error))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.gone.done():
            self.gone.set_result(None)

    def eof_received(self) -> None:
        """The server will not say more; the loop closes the connection."""
        if self._waiter is not None and not self.answer.whole:
            try:
                self.answer.end()
            except Garbled:
                self._end(ConnectionClosedError(endpoint_url=self.where))
            else:
                self._wake()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  the loop's guess
        """Where the next bytes go."""
        room = self.answer.room
        return self._scratch if room is None else room[:_PIECE_BYTES]

    def buffer_updated(self, count: int) -> None:
        """So many bytes have come."""
        answer, waiter = self.answer, self._waiter
        if waiter is None or answer.whole:
            self._end(HTTPClientError(error="the server said something that nobody asked for"))
            return
        self.heard = True
        self.alive = self._loop.time()
        try:
            if answer.room is None:
                answer.feed(self._scratch[:count])
            else:
                answer.filled(count)
        except Garbled as error:
            self._end(HTTPClientError(error=error))
            return
        if self.answer.whole:
            if self._drained is None and not waiter.done():
                waiter.set_result(None)
            else:
                self._wake()
        elif self._hold and answer.told:
            self._held = True
            self._to().pause_reading()
            self._wake()

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """It does again."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _end(self, error: Exception) -> None:
        """Nothing more can come of this connection; the first reason is kept."""
        if self._broken is None:
            self._broken = error
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_exception(error)
            if self._drained is not None and not self._drained.done():
                self._drained.set_result(None)
            self.abort()

    def _watch(self) -> None:
        """Have one timer, which looks when it goes off whether it still means anything: arming one a call costs more."""
        due = min(self.alive + self._silence, self._deadline)
        if self._timer is not None and due < self._due:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and due < math.inf:
            self._due = due
            self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        if self._waiter is None or self._held:  # nobody waits, or for memory, which is not timed
            return
        if self._deadline <= now:
            self._end(Overdue())
        elif self.alive + self._silence <= now:
            self._end(ReadTimeoutError(endpoint_url=self.where))
        else:
            self._watch()
