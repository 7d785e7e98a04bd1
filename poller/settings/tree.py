"""The configuration as a tree whose every value knows where it was written, and mistakes that say so. No I/O, no clock."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeAlias

Key: TypeAlias = str | int
Path: TypeAlias = tuple[Key, ...]

_PLAIN_KEY = re.compile(r"[\w.$/-]+")
_SHOWN = 100
"""Characters of a value that a mistake repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something was written."""

    file: str
    line: int
    """1 for the first; 0 where the file as a whole is meant."""
    path: Path = ()
    """The keys that lead there, as they were spelled."""

    def at(self, key: Key) -> Place:
        """The place of an entry that is not there, but would be here."""
        return Place(file=self.file, line=self.line, path=(*self.path, key))

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Broken:
    """Stands for a value that has been reported already: nothing more is said about it."""


Scalar: TypeAlias = str | int | float | bool | date | datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A value and its place."""

    place: Place
    value: Scalar | Broken | dict[str, Tree] | list[Tree]

    def entries(self) -> dict[str, Tree]:
        """The entries of a block; nothing for any other value."""
        return self.value if isinstance(self.value, dict) else {}

    def find(self, path: Iterable[Key]) -> Place:
        """The place of what lies at `path`, or where it would have to be added."""
        tree: Tree | None = self
        place = self.place
        for key in path:
            tree = _child(tree, key)
            place = place.at(key) if tree is None else tree.place
        return place


def _child(tree: Tree | None, key: Key) -> Tree | None:
    if tree is None or isinstance(key, str):
        return tree.entries().get(str(key)) if tree else None
    items = tree.value
    return items[key] if isinstance(items, list) and 0 <= key < len(items) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One thing that the operator must change."""

    place: Place
    text: str
    """What is wrong, what is allowed."""

    def __str__(self) -> str:
        where = f"{path_text(self.place.path)}: " if self.place.path else ""
        return f"{self.place}: {where}{self.text}"


Report: TypeAlias = Callable[[Mistake], None]
"""Takes a mistake; the reading goes on."""


def plain(tree: Tree) -> Any:
    """The values alone."""
    match tree.value:
        case dict() as entries:
            return {key: plain(child) for key, child in entries.items()}
        case list() as items:
            return [plain(item) for item in items]
        case value:
            return value


def is_broken(tree: Tree) -> bool:
    """Whether anything in here has been reported already."""
    match tree.value:
        case Broken():
            return True
        case dict() as entries:
            return any(map(is_broken, entries.values()))
        case list() as items:
            return any(map(is_broken, items))
        case _:
            return False


def path_text(path: Path) -> str:
    """`mappings.orders.FilterCriteria.Filters[0]`."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += ("." if text else "") + (key if _PLAIN_KEY.fullmatch(key) else quoted(key))
    return text


def quoted(text: str) -> str:
    """A text as a mistake repeats it: on one line, cut where it is long."""
    cut = json.dumps(text if len(text) <= _SHOWN else text[:_SHOWN] + "...", ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in cut)


def shown(value: Any) -> str:
    """A value as a mistake repeats it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case dict():
            return "a block"
        case list():
            return "a list"
        case _:
            return str(value)


def listed(words: Iterable[str], last: str = "or") -> str:
    """`a, b or c`."""
    *most, end = words
    return f"{', '.join(most)} {last} {end}" if most else end
