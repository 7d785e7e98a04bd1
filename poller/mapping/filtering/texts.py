"""Texts without regard to case, and texts with wildcards, in time that grows with the text alone. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def fold(text: str) -> str:
    """The text for a comparison without regard to case, of the same length: character by character, as in Java."""
    return text.lower() if text.isascii() else "".join([_fold_one(char) for char in text])


def _fold_one(char: str) -> str:
    """One character for one: what grows when its case changes (ß to SS) stays as it is."""
    upper = char.upper()
    lower = (upper if len(upper) == 1 else char).lower()
    return lower if len(lower) == 1 else char


def fold_all(texts: Iterable[str]) -> frozenset[str]:
    """Every text folded."""
    return frozenset(map(fold, texts))


def like(pattern: str) -> Callable[[str], bool]:
    r"""A test for a text with wildcards: `*` is any run of characters, `\*` and `\\` are the characters themselves.

    The parts between the wildcards are looked for one after the other and never again, so nothing is tried twice.

    Raises:
        ValueError: two wildcards in a row, or a backslash before anything else.
    """
    first, *more = _parts(pattern)
    if not more:
        return lambda text: text == first
    *middle, last = more
    least = len(first) + len(last)

    def test(text: str) -> bool:
        if len(text) < least or not text.startswith(first) or not text.endswith(last):
            return False
        at, end = len(first), len(text) - len(last)
        for part in middle:
            at = text.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True

    return test


def _parts(pattern: str) -> list[str]:
    """The literal texts between the wildcards: one more than there are wildcards."""
    parts: list[list[str]] = [[]]
    chars = iter(pattern)
    was_wild = False
    for char in chars:
        if char == "*" and was_wild:
            raise ValueError("has two * in a row, allowed: one *, which stands for any run of characters")
        was_wild = char == "*"
        if was_wild:
            parts.append([])
        elif char == "\\":
            escaped = next(chars, "")
            if escaped not in ("*", "\\"):
                raise ValueError(r"has a \ before something else than * or \, allowed: \* and \\ for these characters")
            parts[-1].append(escaped)
        else:
            parts[-1].append(char)
    return ["".join(part) for part in parts]
