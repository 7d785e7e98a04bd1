"""The alternatives of one field of a filter pattern, compiled: a value either satisfies one of them or it does not.

Only scalars are tested here; objects and lists are `match`'s business. No I/O, no clock.
Source: AWS's content filtering (EventBridge rules) and semantics 5.1.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from poller.mapping.filtering.texts import fold, fold_all, like

Path: TypeAlias = tuple[str | int, ...]
Test: TypeAlias = Callable[[Any], bool]
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

OPERATORS = (
    "exists",
    "prefix",
    "suffix",
    "equals-ignore-case",
    "wildcard",
    "anything-but",
    "numeric",
    "cidr",
    "exactly",
)
_INNER = ("prefix", "suffix", "equals-ignore-case", "wildcard")
"""What stands inside anything-but."""
_LONGEST_ADDRESS = 45
"""Characters of the longest spelling of an address: longer texts are not looked at."""
_BITS = re.compile(r"[0-9]{1,3}")
_SHOWN = 80


class PatternError(ValueError):
    """A filter pattern cannot be used; its text says what is wrong and what is allowed."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(text)
        self.path = path
        """Where inside the pattern."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """The alternatives of one field; they are ORed."""

    texts: frozenset[str]
    numbers: frozenset[int | float]
    constants: tuple[bool | None, ...]
    text_tests: tuple[Test, ...]
    """Asked about texts."""
    number_tests: tuple[Test, ...]
    """Asked about numbers."""
    tests: tuple[Test, ...]
    """Asked about every scalar, also in the two above."""
    absent: bool
    """No value at all satisfies it: {"exists": false}."""
    source: str
    """The alternatives as JSON, for people."""

    def test(self, value: Any) -> bool:
        """Whether a text, number, boolean or null satisfies one of the alternatives."""
        kind = type(value)
        if kind is str:
            return value in self.texts or any(test(value) for test in self.text_tests)
        if kind is bool or value is None:
            return any(value is constant for constant in self.constants) or any(test(value) for test in self.tests)
        return value in self.numbers or any(test(value) for test in self.number_tests)


def shown(value: Any) -> str:
    """A value of a pattern or an event on one line, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    text = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def compile_leaf(alternatives: Sequence[Any], path: Path) -> Leaf:
    """Compile a field's list of alternatives. Raises `PatternError`."""
    if not alternatives:
        raise PatternError(path, "is an empty list, allowed: a list of alternatives, not empty")
    gathered = _Gathered()
    for index, given in enumerate(alternatives):
        at = (*path, index)
        match given:
            case bool() | None:
                gathered.constants.append(given)
            case str():
                gathered.texts.add(given)
            case int() | float():
                gathered.numbers.add(_number(given, at))
            case dict():
                _compile_operator(given, at, gathered)
            case _:
                allowed = "text, a number, true, false, null or an object with an operator"
                raise PatternError(at, f"is {shown(given)}, allowed: {allowed}")
    return Leaf(
        texts=frozenset(gathered.texts),
        numbers=frozenset(gathered.numbers),
        constants=tuple(gathered.constants),
        text_tests=(*gathered.text_tests, *gathered.tests),
        number_tests=(*gathered.number_tests, *gathered.tests),
        tests=tuple(gathered.tests),
        absent=gathered.absent,
        source=shown(alternatives),
    )


@dataclass(slots=True)
class _Gathered:
    """The parts of a `Leaf` while its alternatives are read."""

    texts: set[str] = field(default_factory=set)
    numbers: set[int | float] = field(default_factory=set)
    constants: list[bool | None] = field(default_factory=list)
    text_tests: list[Test] = field(default_factory=list)
    number_tests: list[Test] = field(default_factory=list)
    tests: list[Test] = field(default_factory=list)
    absent: bool = False


def _compile_operator(given: dict[str, Any], at: Path, into: _Gathered) -> None:
    """An alternative that is an object with one operator."""
    if len(given) != 1:
        raise PatternError(at, f"has {len(given)} keys, allowed: one operator in each object")
    ((name, value),) = given.items()
    path = (*at, name)
    match name:
        case "exists" if value is True:
            into.tests.append(_always)
        case "exists" if value is False:
            into.absent = True
        case "exists":
            raise PatternError(path, f"is {shown(value)}, allowed: true or false")
        case "exactly":
            into.texts.add(_text(value, path))
        case "numeric":
            into.number_tests.append(_numeric(value, path))
        case "anything-but":
            into.tests.append(_anything_but(value, path))
        case "cidr":
            into.text_tests.append(_cidr(value, path))
        case "prefix" | "suffix" | "equals-ignore-case" | "wildcard":
            into.text_tests.append(_text_test(name, value, path))
        case _:
            raise PatternError(path, f"is not an operator, allowed: one of {', '.join(OPERATORS)}")


def _always(value: Any) -> bool:  # noqa: ARG001  # one signature for all
    return True


def _text(value: Any, path: Path) -> str:
    if not isinstance(value, str):
        raise PatternError(path, f"is {shown(value)}, allowed: text")
    return value


def _number(value: Any, path: Path) -> Any:
    """A number that can be compared: JSON lets one write 1e400, which none is."""
    if isinstance(value, float) and not math.isfinite(value):
        raise PatternError(path, "is too large a number, allowed: numbers up to 1.7e308")
    return value


def _text_test(name: str, value: Any, path: Path) -> Test:
    """Prefix, suffix, equals-ignore-case or wildcard."""
    match name, value:
        case "prefix", str():
            return lambda text: bool(text.startswith(value))
        case "suffix", str():
            return lambda text: bool(text.endswith(value))
        case "prefix" | "suffix", dict():
            if value.keys() != {"equals-ignore-case"}:
                raise PatternError(path, f"is {shown(value)}, allowed: text or an object with equals-ignore-case alone")
            folded = fold(_text(value["equals-ignore-case"], (*path, "equals-ignore-case")))
            size = len(folded)
            if name == "prefix":
                return lambda text: fold(text[:size]) == folded
            return lambda text: fold(text[max(0, len(text) - size) :]) == folded
        case "prefix" | "suffix", _:
            raise PatternError(path, f"is {shown(value)}, allowed: text or an object with equals-ignore-case")
        case "equals-ignore-case", _:
            folded = fold(_text(value, path))
            size = len(folded)
            return lambda text: len(text) == size and fold(text) == folded
        case _:
            text = _text(value, path)
            try:
                return like(text)
            except ValueError as error:
                raise PatternError(path, str(error)) from error


def _anything_but(value: Any, path: Path) -> Test:
    """What is not one of the given. A field has to be there, whatever its type."""
    if isinstance(value, dict):
        if len(value) != 1 or next(iter(value)) not in _INNER:
            raise PatternError(path, f"is {shown(value)}, allowed inside: one of {', '.join(_INNER)}")
        ((name, inner),) = value.items()
        return _anything_but_text(name, inner, (*path, name))
    given = value if isinstance(value, list) else [value]
    if given and all(isinstance(item, str) for item in given):
        texts = frozenset(given)
        return lambda seen: type(seen) is not str or seen not in texts
    if given and all(isinstance(item, int | float) and not isinstance(item, bool) for item in given):
        numbers = frozenset(_number(item, path) for item in given)
        return lambda seen: type(seen) not in (int, float) or seen not in numbers
    allowed = "text, a number, a list of texts, a list of numbers, or an object"
    raise PatternError(path, f"is {shown(value)}, allowed: {allowed} with one of {', '.join(_INNER)}")


def _anything_but_text(name: str, value: Any, path: Path) -> Test:
    given = value if isinstance(value, list) else [value]
    if not given or not all(isinstance(item, str) for item in given):
        raise PatternError(path, f"is {shown(value)}, allowed: text or a list of texts, not empty")
    if name in {"prefix", "suffix"}:
        if "" in given:
            raise PatternError(
                path, 'holds "", with which every text begins and ends, allowed: texts of one letter or more'
            )
        whole = tuple(given)
        if name == "prefix":
            return lambda seen: type(seen) is not str or not seen.startswith(whole)
        return lambda seen: type(seen) is not str or not seen.endswith(whole)
    if name == "equals-ignore-case":
        folded = fold_all(given)
        longest = max(map(len, folded))
        return lambda seen: type(seen) is not str or len(seen) > longest or fold(seen) not in folded
    tests = tuple(_text_test(name, item, path) for item in given)
    return lambda seen: type(seen) is not str or not any(test(seen) for test in tests)


def _numeric(value: Any, path: Path) -> Test:
    """One comparison, or a lower bound and an upper one."""
    match value:
        case [str(), _] | [str(), _, str(), _]:
            pairs = [(value[i], value[i + 1]) for i in range(0, len(value), 2)]
        case _:
            allowed = 'a list such as ["=", 5] or [">", 0, "<=", 5]'
            raise PatternError(path, f"is {shown(value)}, allowed: {allowed}")
    for index, (operator, bound) in enumerate(pairs):
        if operator not in {"=", "<", "<=", ">", ">="}:
            raise PatternError((*path, 2 * index), f"is {shown(operator)}, allowed: =, <, <=, > or >=")
        if isinstance(bound, bool) or not isinstance(bound, int | float):
            raise PatternError((*path, 2 * index + 1), f"is {shown(bound)}, allowed: a number")
        _number(bound, (*path, 2 * index + 1))
    if len(pairs) == 1:
        return _compare(*pairs[0])
    (first, low), (second, high) = pairs
    if first not in {">", ">="} or second not in {"<", "<="}:
        raise PatternError(path, f"compares {shown(value)}, allowed for two: > or >= first, then < or <=")
    if not low < high:
        raise PatternError(
            path, f"is {shown(value)}, which no number satisfies, allowed: a lower bound below the upper one"
        )
    above, below = _compare(first, low), _compare(second, high)
    return lambda number: above(number) and below(number)


def _compare(operator: str, bound: float) -> Test:
    match operator:
        case "=":
            return lambda number: bool(number == bound)
        case "<":
            return lambda number: bool(number < bound)
        case "<=":
            return lambda number: bool(number <= bound)
        case ">":
            return lambda number: bool(number > bound)
        case _:
            return lambda number: bool(number >= bound)


def _cidr(value: Any, path: Path) -> Test:
    """An address within a network of its own family."""
    address, _, bits = _text(value, path).partition("/")
    text = f"is {shown(value)}, allowed: ADDRESS/BITS such as 10.0.0.0/8 or 2001:db8::/32"
    if not _BITS.fullmatch(bits) or "%" in address:
        raise PatternError(path, text)
    try:
        network: _Network = ipaddress.ip_network(f"{address}/{int(bits)}", strict=False)
    except ValueError as error:
        raise PatternError(path, text) from error
    return lambda text: _within(text, network)


def _within(text: str, network: _Network) -> bool:
    if len(text) > _LONGEST_ADDRESS or "%" in text:
        return False
    try:
        return ipaddress.ip_address(text) in network
    except ValueError:  # not an address, so in no network
        return False
