"""What a local function prints, line by line. No I/O, no clock."""

from __future__ import annotations

LINE_LIMIT_BYTES = 16_384
"""A longer line goes on in the next one."""

TAIL_LIMIT = 4_096
"""Characters of the log's end that go with a failure, as Lambda's X-Amz-Log-Result has it."""


class Lines:
    """Cuts bytes into lines of text, ended as anywhere by CR, LF or both; bytes that are not UTF-8 are replaced.

    Lambda's own runtime client for Python writes the lines of a traceback with CR between them.
    """

    def __init__(self) -> None:
        self._held = b""

    def feed(self, chunk: bytes) -> list[str]:
        """The lines that this chunk completes."""
        text = self._held + chunk
        kept = text[-1:] if text.endswith(b"\r") else b""  # the LF of a CR LF may follow
        *whole, self._held = _unified(text[: len(text) - len(kept)]).split(b"\n")
        lines = [piece for line in whole for piece in _pieces(line)]
        if len(self._held) > LINE_LIMIT_BYTES:
            *begun, self._held = _cut(self._held)
            lines += [_text(piece) for piece in begun]
        self._held += kept
        return lines

    def rest(self) -> list[str]:
        """What was printed without a newline, at the end."""
        held, self._held = self._held, b""
        return _pieces(held.removesuffix(b"\r")) if held else []


class Tail:
    """The end of a log."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, line: str) -> None:
        """Add a line."""
        self._text = f"{self._text}{line}\n"[-TAIL_LIMIT:]

    def clear(self) -> None:
        """Begin anew."""
        self._text = ""

    def __str__(self) -> str:
        return self._text


def _unified(text: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _pieces(line: bytes) -> list[str]:
    return [_text(piece) for piece in _cut(line)]


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")


def _cut(line: bytes) -> list[bytes]:
    """Pieces of at most the limit, none of which ends within a character; at least one."""
    pieces = []
    while len(line) > LINE_LIMIT_BYTES:
        end = next((at for at in range(LINE_LIMIT_BYTES, LINE_LIMIT_BYTES - 4, -1) if line[at] & 0xC0 != 0x80), None)
        pieces.append(line[: end or LINE_LIMIT_BYTES])
        line = line[end or LINE_LIMIT_BYTES :]
    return [*pieces, line]
