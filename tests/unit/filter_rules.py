"""A second matcher, slow and obvious: it writes the rules out one by one and tries every way to satisfy them.

An event is flattened to leaves (path, value, which element of which list it lies in). A pattern is written out to
rules without $or and without alternatives: each a condition for each path. A rule holds when every condition that
wants a value finds a leaf, all these leaves lying in the same elements of the lists they share, and when no leaf that
shares these elements lies at a path that has to be absent.
"""

import ipaddress
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Path = tuple[str, ...]


@dataclass(frozen=True)
class Leaf:
    path: Path
    value: Any
    within: tuple[tuple[int, int], ...]
    """(number of the list, number of the element), outermost first."""


def reference(pattern: dict[str, Any], event: dict[str, Any]) -> bool:
    leaves = list(_flatten(event, (), (), itertools.count()))
    return any(_holds(rule, leaves) for rule in _rules(pattern, ()))


def _flatten(value: Any, path: Path, within: tuple[tuple[int, int], ...], lists: Iterator[int]) -> Iterator[Leaf]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _flatten(child, (*path, key), within, lists)
    elif isinstance(value, list):
        number = next(lists)
        for index, child in enumerate(value):
            yield from _flatten(child, path, (*within, (number, index)), lists)
    else:
        yield Leaf(path, value, within)


def _rules(pattern: dict[str, Any], path: Path) -> list[list[tuple[Path, Any]]]:
    """Every way to satisfy a pattern: a list of (path, alternative)."""
    parts: list[list[list[tuple[Path, Any]]]] = []
    for key, value in pattern.items():
        if key == "$or" and len(value) > 1 and all(isinstance(branch, dict) for branch in value):
            parts.append([rule for branch in value for rule in _rules(branch, path)])
        elif isinstance(value, dict):
            parts.append(_rules(value, (*path, key)))
        else:
            parts.append([[((*path, key), alternative)] for alternative in value])
    return [list(itertools.chain(*picked)) for picked in itertools.product(*parts)]


def _holds(rule: list[tuple[Path, Any]], leaves: list[Leaf]) -> bool:
    wanted = [(path, test) for path, test in rule if test != {"exists": False}]
    absent = [path for path, test in rule if test == {"exists": False}]
    found = [[leaf for leaf in leaves if leaf.path == path and satisfies(test, leaf.value)] for path, test in wanted]
    for picked in itertools.product(*found):
        if all(_share(one, other) for one, other in itertools.combinations(picked, 2)) and not any(
            leaf.path in absent and all(_share(leaf, other) for other in picked) for leaf in leaves
        ):
            return True
    return False


def _share(one: Leaf, other: Leaf) -> bool:
    mine = dict(one.within)
    return all(mine.get(number, index) == index for number, index in other.within)


def satisfies(test: Any, value: Any) -> bool:
    """One alternative against one scalar, as the documentation words it."""
    if not isinstance(test, dict):
        return _same(test, value)
    ((operator, operand),) = test.items()
    return _OPERATORS[operator](operand, value)


def _same(one: Any, other: Any) -> bool:
    if one is None or other is None or isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return isinstance(one, str) == isinstance(other, str) and bool(one == other)


def _lower(text: str) -> str:
    return "".join(char.upper().lower() if len(char.upper().lower()) == 1 else char for char in text)


def _affix(operand: Any, value: Any, take: Callable[[str, int], str]) -> bool:
    if not isinstance(value, str):
        return False
    if isinstance(operand, dict):
        inner = operand["equals-ignore-case"]
        return _lower(take(value, len(inner))) == _lower(inner)
    return take(value, len(operand)) == str(operand)


def _wild(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_wild(pattern[1:], text[i:]) for i in range(len(text) + 1))
    skip = 1 if pattern[0] == "\\" else 0
    return text[:1] == pattern[skip] and _wild(pattern[skip + 1 :], text[1:])


def _anything_but(operand: Any, value: Any) -> bool:
    if isinstance(operand, dict):
        ((operator, inner),) = operand.items()
        items = inner if isinstance(inner, list) else [inner]
        return not any(satisfies({operator: item}, value) for item in items)
    return not any(_same(item, value) for item in (operand if isinstance(operand, list) else [operand]))


def _numeric(operand: list[Any], value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    for operator, bound in zip(operand[::2], operand[1::2], strict=True):
        if operator == "=" and value != bound:
            return False
        if operator == "<" and value >= bound:
            return False
        if operator == "<=" and value > bound:
            return False
        if operator == ">" and value <= bound:
            return False
        if operator == ">=" and value < bound:
            return False
    return True


def _cidr(operand: str, value: Any) -> bool:
    if not isinstance(value, str) or "%" in value:
        return False
    try:
        return ipaddress.ip_address(value) in ipaddress.ip_network(operand, strict=False)
    except ValueError:
        return False


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "exists": lambda operand, value: bool(operand),
    "exactly": _same,
    "prefix": lambda operand, value: _affix(operand, value, lambda text, size: text[:size]),
    "suffix": lambda operand, value: _affix(
        operand, value, lambda text, size: text[len(text) - size :] if size else ""
    ),
    "equals-ignore-case": lambda operand, value: isinstance(value, str) and _lower(operand) == _lower(value),
    "wildcard": lambda operand, value: isinstance(value, str) and _wild(operand, value),
    "anything-but": _anything_but,
    "numeric": _numeric,
    "cidr": _cidr,
}
