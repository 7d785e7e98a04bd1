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

    __slots__ = ("_beside", "_body", "_chunked", "_interim", "_limit", "_measured", "_parser", "_pieces", "_seen",
                 "_size", "headers", "keep", "length", "on_body", "on_header", "room", "status", "told", "whole")  # fmt: skip

    def __init__(self) -> None:
        self._seen: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        # What is only collected, the parser hands to the collection itself: a method around it costs more than it.
        self.on_header = self._seen.setdefault
        self.on_body = self._pieces.append
        self._parser = HttpResponseParser(self)
        self._chunked = self._interim = False
        self.status = 0
        self.begin(0)

    def begin(self, limit: int) -> None:
        """Expect an answer whose body is no larger than `limit` bytes."""
        self._limit = limit
        self._seen.clear()
        self.headers: dict[bytes, bytes] = self._seen
        """As they came, in order, of several with one name the first; until the next answer begins."""
        self.length: int | None = None
        """Of the body, as announced."""
        self.told = False
        """The head is complete."""
        self.whole = False
        """The body is, too."""
        self.keep = False
        """The server will take another request on this connection."""
        self.room: memoryview | None = None
        self._pieces.clear()
        self._measured = self._size = self._beside = 0
        self._body: bytearray | None = None

    def feed(self, data: memoryview) -> None:
        """Take the next bytes.

        Raises:
            Garbled: this is no answer, or no longer one.
        """
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as error:
            raise Garbled("the server changes the protocol") from error
        except HttpParserError as error:
            cause = error.__context__
            raise Garbled(str(cause if isinstance(cause, Garbled) else error)) from error
        if self.length is None or not self.whole:
            self._measure(len(data))

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
        if self.told and not self.whole and self.length is not None:
            begun = b"".join(self._pieces)
            self._pieces.clear()
            self._body = bytearray(self.length)
            self._body[: len(begun)] = begun
            self.room = memoryview(self._body)[len(begun) :]

    def filled(self, count: int) -> None:
        """So many bytes were put into `room`."""
        room = self.room
        if room is not None and count < len(room):
            self.room = room[count:]
        else:
            self.room = None
            self.whole = True
            self._parser = HttpResponseParser(self)  # the old one still waits for the body

    def take(self) -> bytes | bytearray:
        """The body, once: nobody else keeps it. One that was read into place is no `bytes`, which would be a copy."""
        body, self._body = self._body, None
        if body is None:
            whole = b"".join(self._pieces)
            self._pieces.clear()
            return whole
        self.room = None
        return body

    def _bound(self, limit: int) -> None:
        self._limit = limit
        if self.length is not None and self.length > limit:
            raise Garbled(f"an answer of {self.length} bytes is larger than the {limit} that are taken")

    def _measure(self, count: int) -> None:
        """Keep within its limit what has no announced end."""
        self._beside += count
        if self._measured < len(self._pieces):
            self._size += sum(map(len, self._pieces[self._measured :]))
            self._measured = len(self._pieces)
            self._beside = 0
        if self._size > self._limit:
            raise Garbled(f"the answer is larger than the {self._limit} bytes that are taken")
        if self._beside > HEAD_LIMIT_BYTES and not self.whole:
            raise Garbled(f"the head is larger than {HEAD_LIMIT_BYTES} bytes")

    def on_message_begin(self) -> None:
        """An answer begins."""
        if self.whole:
            raise Garbled("an answer follows that nobody asked for")

    def on_headers_complete(self) -> None:
        """The head is over."""
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self._interim = True
            self._seen.clear()
            return
        length = self._seen.get(b"Content-Length")
        if length is None:
            self._frame()
        else:  # and so no Transfer-Encoding beside it, which the parser refuses
            self.length = int(length)
        if self.length is not None and self.length > self._limit:
            self._bound(self._limit)
        self.told = True
        self.keep = self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        """The answer, or an interim one, is over."""
        if self._interim:
            self._interim = False
        else:
            self.whole = True

    def _frame(self) -> None:
        """Find out where the body ends, however the server spells it."""
        self._chunked = False
        for name, value in self._seen.items():
            spelled = name.lower()
            if spelled == b"content-length":
                self.length = int(value)
            elif spelled == b"transfer-encoding":
                if value.strip().lower() != b"chunked":
                    raise Garbled("the body is encoded in a way that was not asked for")
                self._chunked = True
        self.headers = dict(self._seen)  # what comes behind a chunked body is of no use
