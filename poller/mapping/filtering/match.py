"""Whether a value satisfies a compiled pattern, looking at the fields that it names and at no others. No I/O, no clock.

Lists of the event: a condition holds for a list when it holds for one of its elements, and conditions on one object of
a pattern hold for the same element. {"exists": false} is about that element too; where nothing else picks an element,
it is about all of them. A list within a list counts as its elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import msgspec
from msgspec import UNSET

from poller.mapping.filtering.operators import Leaf
from poller.mapping.filtering.pattern import Field, Node

_NO, _NOTHING_THERE, _YES = 0, 1, 2
"""Not satisfied; satisfied by what is absent; satisfied by a value that is there."""
SCALARS = frozenset({str, int, float, bool, type(None)})
"""What a leaf of a pattern is held against."""


class Look(msgspec.Struct, gc=False):
    """An object of the event of which only the named fields were read."""


class Payload(Protocol):
    """What the producer wrote: read when it is first asked for."""

    def json(self) -> Any:
        """The object or list that it is; UNSET when it is neither."""

    def text(self) -> str | None:
        """The text that it is; None when it is an object or list in JSON, or no text."""


class Held:
    """Carries a payload among the values of an event."""

    __slots__ = ("payload",)

    def __init__(self, payload: Payload) -> None:
        self.payload = payload


def matches(node: Node, value: Any) -> bool:
    """Whether the pattern is satisfied by a value: None, bool, int, float, str, list, dict, `Look` or `Held`."""
    return _evaluate(node, value) != _NO


def _evaluate(node: Node, value: Any) -> int:
    kind = type(value)
    if kind is list:
        return _evaluate_list(node, value)
    if value is UNSET:
        return _NOTHING_THERE if node.idle else _NO
    if kind is Held:
        return _evaluate_payload(node, value.payload)
    is_scalar = kind in SCALARS
    best = _NOTHING_THERE if node.leaf is None else _evaluate_leaf(node.leaf, value, is_scalar=is_scalar)
    if best == _NO:
        return _NO
    for field in node.fields:
        found = _evaluate(field.node, UNSET if is_scalar else read(value, field))
        if found != _NOTHING_THERE:
            if found == _NO:
                return _NO
            best = _YES
    for choice in node.choices:
        found = max([_evaluate(branch, value) for branch in choice])
        if found == _NO:
            return _NO
        best = max(best, found)
    return best


def _evaluate_leaf(leaf: Leaf, value: Any, *, is_scalar: bool) -> int:
    """Of an object nothing but absence can be said: it is no leaf of the event."""
    if is_scalar:
        return _YES if leaf.test(value) else _NO
    return _NOTHING_THERE if leaf.absent else _NO


def _evaluate_list(node: Node, values: list[Any]) -> int:
    for value in elements(values):
        if _evaluate(node, value) == _YES:
            return _YES
    return _NOTHING_THERE if node.idle and _is_absent(node, list(elements(values))) else _NO


def _is_absent(node: Node, values: list[Any]) -> bool:
    """Whether nothing that the pattern wants absent is in any of these elements, and it wants nothing else."""
    if not node.idle:
        return False
    if node.leaf is not None and any(type(value) in SCALARS for value in values):
        return False
    for field in node.fields:
        found = [read(value, field) for value in values if type(value) not in SCALARS]
        if not _is_absent(field.node, list(elements(value for value in found if value is not UNSET))):
            return False
    return all(any(_is_absent(branch, values) for branch in choice) for choice in node.choices)


def _evaluate_payload(node: Node, payload: Payload) -> int:
    """A payload is there, so nothing about it is satisfied by absence alone. Source: semantics 5.2."""
    if node.leaf is not None:
        text = payload.text()
        if text is None or node.fields or node.choices:
            return _NO
        return _YES if node.leaf.test(text) else _NO
    value = payload.json()
    return _NO if value is UNSET or _evaluate(node, value) == _NO else _YES


def elements(values: Iterable[Any]) -> Iterator[Any]:
    """The elements, those of lists within in their place, however deep."""
    stack = [iter(values)]
    while stack:
        for value in stack[-1]:
            if type(value) is list:
                stack.append(iter(value))
                break
            yield value
        else:
            stack.pop()


def read(value: Any, field: Field) -> Any:
    """A field of an object; UNSET when it is not there."""
    return value.get(field.key, UNSET) if type(value) is dict else getattr(value, field.attribute, UNSET)
