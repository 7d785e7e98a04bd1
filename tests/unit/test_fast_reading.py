"""An answer is read whole, however it is cut up, and what is no whole answer is never taken for one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poller.aws.fast.reading import HEAD_LIMIT_BYTES, Garbled, Reading

LIMIT = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Said:
    """An answer as a server writes it."""

    body: bytes = b'{"Records":[]}'
    status: int = 200
    framing: str = "length"
    """"length", "chunked", or "close"."""
    pieces: Sequence[int] = (5,)
    """Sizes of the chunks, over and over."""
    interims: int = 0
    version: str = "1.1"
    connection: str = ""
    trailer: bytes = b""

    @property
    def head(self) -> bytes:
        framed = {"length": f"Content-Length: {len(self.body)}\r\n", "chunked": "Transfer-Encoding: chunked\r\n"}
        told = f"Connection: {self.connection}\r\n" if self.connection else ""
        begun = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nContent-Length: 7\r\nX: y\r\n\r\n"
        return (
            "".join([begun] * self.interims)
            + f"HTTP/{self.version} {self.status} Some Reason\r\nX-Amzn-RequestId: 1-2\r\n"
            + framed.get(self.framing, "")
            + told
            + "\r\n"
        ).encode()

    @property
    def text(self) -> bytes:
        return self.head + (self.chunked() if self.framing == "chunked" else self.body)

    @property
    def kept(self) -> bool:
        """Whether the connection may be used again."""
        if self.framing == "close" or self.connection == "close":
            return False
        return self.version == "1.1" or self.connection == "keep-alive"

    def chunked(self) -> bytes:
        said, at, turn = b"", 0, 0
        while at < len(self.body):
            piece = self.body[at : at + self.pieces[turn % len(self.pieces)]]
            said += b"%x;name=value\r\n%b\r\n" % (len(piece), piece)
            at, turn = at + len(piece), turn + 1
        return said + b"0\r\n" + self.trailer + b"\r\n"


def read(parts: Iterable[bytes], *, in_place: bool = True, reading: Reading | None = None) -> Reading:
    """As a connection does it."""
    reading = reading or Reading()
    reading.begin(LIMIT)
    for part in parts:
        left = memoryview(part)
        while left:
            if reading.whole:
                raise Garbled("more than was asked for")
            if reading.room is None:
                reading.feed(left)
                left = left[len(left) :]
                if in_place and reading.told and not reading.whole:
                    reading.into_place(LIMIT)
            else:
                count = min(len(left), len(reading.room))
                reading.room[:count] = left[:count]
                reading.filled(count)
                left = left[count:]
    return reading


def cut(text: bytes, places: Iterable[int]) -> list[bytes]:
    ends = sorted({place for place in places if 0 < place < len(text)})
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


says = st.builds(
    Said,
    body=st.binary(max_size=300),
    status=st.sampled_from([200, 400, 503]),
    framing=st.sampled_from(["length", "chunked", "close"]),
    pieces=st.lists(st.integers(1, 100), min_size=1, max_size=3),
    interims=st.integers(0, 2),
    version=st.sampled_from(["1.1", "1.0"]),
    connection=st.sampled_from(["", "close", "keep-alive"]),
    trailer=st.sampled_from([b"", b"X-Checksum: 1\r\n"]),
)


@settings(max_examples=300, deadline=None)
@given(said=says, places=st.lists(st.integers(0, 600), max_size=12), in_place=st.booleans())
def test_an_answer_is_read_whole_however_it_is_cut_up(said, places, in_place):
    reading = read(cut(said.text, places), in_place=in_place)
    if said.framing == "close":
        assert not reading.whole
        reading.end()
    assert reading.whole
    assert (reading.status, reading.take(), reading.keep) == (said.status, said.body, said.kept)
    assert reading.headers[b"X-Amzn-RequestId"] == b"1-2"
    assert b"X" not in reading.headers
    assert reading.length == (len(said.body) if said.framing == "length" else None)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_an_answer_may_be_cut_at_every_byte_and_at_each(framing):
    said = Said(framing=framing, interims=1, trailer=b"A: b\r\n")
    everywhere = range(1, len(said.text))
    for places in [everywhere, *([place] for place in everywhere)]:
        reading = read(cut(said.text, places))
        if framing == "close":
            reading.end()
        assert reading.whole
        assert reading.take() == said.body


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "in pieces"])
def test_an_answer_that_ends_early_is_never_taken_for_a_whole_one(framing, in_place):
    said = Said(framing=framing, interims=1)
    for end in range(len(said.text)):
        reading = read([said.text[:end]], in_place=in_place)
        assert not reading.whole
        if framing == "close" and end >= len(said.head):
            reading.end()
            assert not reading.keep
        else:
            with pytest.raises(Garbled):
                reading.end()


@settings(max_examples=300, deadline=None)
@given(said=says, at=st.integers(0, 600), other=st.binary(max_size=3), places=st.lists(st.integers(0, 600), max_size=4))
def test_damage_is_an_error_of_our_own_or_an_answer(said, at, other, places):
    text = said.text[:at] + other + said.text[at + 1 :]
    try:
        reading = read(cut(text, places))
    except Garbled:
        return
    assert not reading.whole or reading.status >= 200


@given(st.binary(min_size=1, max_size=200).filter(lambda text: not text.lstrip(b"\r\n").startswith(b"H")))
def test_noise_is_refused(noise):
    with suppress(Garbled):
        assert not read([noise]).told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (Said().text * 2, "nobody asked for"),
        (Said(framing="chunked").text + Said().text, "nobody asked for"),
        (Said(connection="close").text + b"x", "Data after"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", "changes the protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", "Transfer-Encoding"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ntransfer-encoding: gzip\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "not asked for"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", "not asked for"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", "not asked for"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\n", "chunk size"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (LIMIT + 1), "larger than the 1000000"),
        (b"HTTP/2 200\r\n\r\n", "Expected dot"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "HTTP"),
    ],
)
def test_what_is_not_one_answer_is_refused(text, said):
    with pytest.raises(Garbled, match=said):
        read([text])


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_body_larger_than_it_may_be_is_refused(framing):
    with pytest.raises(Garbled, match="larger than the 1000000"):
        read(cut(Said(body=b" " * (LIMIT + 1), framing=framing, pieces=[60_000]).text, range(0, 2_000_000, 50_000)))


@pytest.mark.parametrize(
    ("before", "endless"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-Y: z\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (Said(framing="chunked").text[:-2], b"X-Y: z\r\n"),
        (Said(framing="chunked").text[:-2] + b"X: ", b"y"),
    ],
    ids=["headers", "a header", "interim answers", "trailers", "a trailer"],
)
def test_a_head_without_an_end_is_refused_before_it_takes_memory(before, endless):
    with pytest.raises(Garbled, match=f"larger than {HEAD_LIMIT_BYTES}"):
        read([before, *[endless * 100] * (HEAD_LIMIT_BYTES // len(endless) // 100 + 2)])


@pytest.mark.parametrize("name", ["Content-Length", "content-length", "CONTENT-LENGTH", "cOnTeNt-LeNgTh"])
def test_a_length_is_one_however_it_is_spelled(name):
    text = Said().text.replace(b"Content-Length", name.encode())
    for parts in ([text], cut(text, range(len(text)))):
        reading = read(parts, in_place=len(parts) > 1)
        assert reading.whole
        assert (reading.length, reading.take()) == (len(Said().body), Said().body)


def test_what_comes_behind_a_body_is_no_header():
    reading = read([Said(framing="chunked", trailer=b"X-Amz-Function-Error: Unhandled\r\n").text])
    assert reading.headers.keys() == {b"X-Amzn-RequestId", b"Transfer-Encoding"}


def test_of_two_headers_with_one_name_the_first_counts():
    text = Said().text.replace(b"X-Amzn-RequestId: 1-2\r\n", b"X-Y: 1\r\nX-Y: 2\r\n")
    assert read([text]).headers[b"X-Y"] == b"1"


def test_one_reading_reads_many_answers():
    reading = Reading()
    for said in [Said(), Said(framing="chunked"), Said(body=b"x" * 5000), Said(status=204, body=b""), Said(interims=2)]:
        assert read(cut(said.text, [len(said.head), len(said.head) + 3]), reading=reading).take() == said.body
        assert reading.keep


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_has_no_body_ends_with_its_head(status):
    assert read([f"HTTP/1.1 {status} Nothing\r\n\r\n".encode()]).whole
