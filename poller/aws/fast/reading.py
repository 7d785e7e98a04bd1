"""One HTTP/1.1 answer after another, from the bytes of a connection as they come. No I/O, no clock.

What is not an answer, ends early, is followed by what nobody asked for, or is larger than it may be, is an error.
"""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

HEAD_LIMIT_BYTES = 65_536
"""Of a head with its interim answers before it, and of what a chunked body says beside its pieces."""


class Garbled(Exception):
    """What came is not one whole answer."""


class Reading:
    """The answer that is under way: `begin`, then `feed` until it is `whole`, then `take` its body.

    A body of known length that does not come with its head may be read into place: where `room` is not empty, the next
    bytes go there, and `filled` says how many they were.
    """

    __slots__ = ("_at", "_beside", "_body", "_chunked", "_interim", "_limit", "_parser", "_pieces", "_size", "headers",
                 "keep", "length", "room", "status", "told", "whole")  # fmt: skip

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        self.begin(0)

    def begin(self, limit: int) -> None:
        """Expect an answer whose body is no larger than `limit` bytes."""
        self._limit = limit
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        """As they came, in order."""
        self.length: int | None = None
        """Of the body, as announced."""
        self.told = False
        """The head is complete."""
        self.whole = False
        """The body is, too."""
        self.keep = False
        """The server will take another request on this connection."""
        self.room: memoryview | None = None
        self._chunked = False
        self._interim = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._beside = 0
        self._body = bytearray()
        self._at = 0

    def feed(self, data: memoryview) -> None:
        """Take the next bytes.

        Raises:
            Garbled: this is no answer, or no longer one.
        """
        self._beside += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as error:
            raise Garbled("the server changes the protocol") from error
        except HttpParserError as error:
            cause = error.__context__
            raise Garbled(str(cause if isinstance(cause, Garbled) else error)) from error
        if self._beside > HEAD_LIMIT_BYTES and not self.whole:
            raise Garbled(f"the head is larger than {HEAD_LIMIT_BYTES} bytes")

    def end(self) -> None:
        """The server has ended the connection, which ends a body that has no other end.

        Raises:
            Garbled: the answer is not whole.
        """
        if not self.whole:
            if not self.told or self._chunked or self.length is not None:
                raise Garbled("the connection ended within the answer")
            self.whole = True
            self.keep = False

    def into_place(self, limit: int) -> None:
        """Go on behind the head, and read what is left of a body of known length without copies.

        Raises:
            Garbled: the body is larger than `limit` bytes, which is at most that of `begin`.
        """
        self._bound(limit)
        if self.told and not self.whole and self.length is not None and not self._chunked:
            self._body = bytearray(self.length)
            self._at = self._size
            self._body[: self._at] = b"".join(self._pieces)
            self._pieces = []
            self.room = memoryview(self._body)[self._at :]

    def filled(self, count: int) -> None:
        """So many bytes were put into `room`."""
        self._at += count
        if self._at < len(self._body):
            self.room = memoryview(self._body)[self._at :]
        else:
            self.room = None
            self.whole = True
            self._parser = HttpResponseParser(self)  # the old one still waits for the body

    def take(self) -> bytes | bytearray:
        """The body, once: nobody else keeps it. One that was read into place is no `bytes`, which would be a copy."""
        self.room = None
        body = self._body if self._at else b"".join(self._pieces)
        self._body, self._pieces = bytearray(), []
        return body

    def _bound(self, limit: int) -> None:
        self._limit = limit
        if self.length is not None and self.length > limit:
            raise Garbled(f"an answer of {self.length} bytes is larger than the {limit} that are taken")

    def on_message_begin(self) -> None:
        """An answer begins."""
        if self.whole:
            raise Garbled("an answer follows that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        if not self.told:  # what comes behind a chunked body is of no use
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is over."""
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self._interim = True
            self.headers.clear()
            return
        for name, value in self.headers:
            match len(name):
                case 14 if name.lower() == b"content-length":
                    self.length = int(value)
                case 17 if name.lower() == b"transfer-encoding":
                    if value.strip().lower() != b"chunked":
                        raise Garbled("the body is encoded in a way that was not asked for")
                    self._chunked = True
        self._bound(self._limit)
        self.told = True
        self.keep = self._parser.should_keep_alive()

    def on_body(self, piece: bytes) -> None:
        """A piece of the body, copied."""
        self._beside = 0
        self._size += len(piece)
        if self._size > self._limit:
            raise Garbled(f"the answer is larger than the {self._limit} bytes that are taken")
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """The answer, or an interim one, is over."""
        if self._interim:
            self._interim = False
        else:
            self.whole = True
