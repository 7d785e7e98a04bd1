"""A filter pattern, read and compiled once: what is wrong with it is found here, with its place. No I/O, no clock.

Source: AWS's content filtering (EventBridge rules) and semantics 5.1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, NoReturn

from poller.mapping.filtering.operators import OPERATORS, Leaf, Path, PatternError, compile_leaf, shown

LONGEST_PATTERN = 4096
"""Characters, as AWS counts them."""
_DEEPEST = 64
"""Keys within keys. AWS names no limit; this one keeps the matching of any event within the stack."""
_MOST_BRANCHES = 1000
"""Branches of one $or, written out over conditions on the same keys."""
_OR = "$or"
_COMPARISONS = frozenset({*OPERATORS, "=", "<", "<=", ">", ">="})
"""Keys that make an object within $or no branch: then $or is a key like any other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The conditions on a value. All of them hold for the same value, and for the same element of a list."""

    leaf: Leaf | None = None
    """On the value itself."""
    fields: tuple[Field, ...] = ()
    """On the fields of an object."""
    choices: tuple[tuple[Node, ...], ...] = ()
    """$or: of each, one branch holds."""
    idle: bool = False
    """No value at all satisfies it: everything in it that is not left to choice is {"exists": false}."""

    def named(self) -> Iterator[Field]:
        """Every field that is named, those of branches too."""
        yield from self.fields
        for choice in self.choices:
            for branch in choice:
                yield from branch.named()


class Field(NamedTuple):
    """The conditions on one field of an object."""

    key: str
    attribute: str
    """Under which an object keeps the field of which only the named fields were read."""
    node: Node


def compile_pattern(given: object) -> Node:
    """Compile a pattern, an object or AWS's JSON text of one. Raises `PatternError`."""
    pattern = parse_pattern(given) if isinstance(given, str) else given
    if not isinstance(pattern, dict):
        raise PatternError((), f"{shown(pattern)} is not a pattern, allowed: an object or the JSON text of one")
    return _object(pattern, ())


def parse_pattern(text: str) -> Any:
    """The value of a pattern's JSON text; of a key that is given twice, the last holds. Raises `PatternError`."""
    if len(text) > LONGEST_PATTERN:
        raise PatternError((), f"is {len(text)} characters long, allowed: at most {LONGEST_PATTERN}")
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise PatternError((), "holds half a character (a lone surrogate)") from error
    except (ValueError, RecursionError) as error:
        raise PatternError((), f"{shown(text)} is not JSON, allowed: an object or the JSON text of one") from error
    if _is_deep(value):
        raise PatternError((), f"is nested too deeply, allowed: at most {_DEEPEST} keys within one another")
    return value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(2 * _DEEPEST):
        level = [
            child
            for each in level
            if isinstance(each, dict | list)
            for child in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _object(given: Mapping[str, Any], path: Path) -> Node:
    """An object of the pattern: fields, and $or."""
    if not given:
        where = "is an empty object" if path else "the pattern is an empty object"
        raise PatternError(path, f"{where}, allowed: keys with lists of alternatives")
    if len(path) > _DEEPEST:
        raise PatternError(path, f"is nested too deeply, allowed: at most {_DEEPEST} keys within one another")
    fields: list[Field] = []
    choices: list[tuple[Node, ...]] = []
    for key, value in given.items():
        at = (*path, key)
        match value:
            case [*branches] if key == _OR and _is_choice(branches):
                choices.append(tuple([_object(branch, (*at, index)) for index, branch in enumerate(branches)]))
            case dict():
                fields.append(_field(key, _object(value, at)))
            case list():
                fields.append(_field(key, _leaf(value, at)))
            case _:
                raise PatternError(at, f"is {shown(value)}, allowed: a list of alternatives, or an object of keys")
    return _joined(_node(fields=fields, choices=choices), path)


def _is_choice(branches: Sequence[Any]) -> bool:
    objects = [branch for branch in branches if isinstance(branch, dict) and _COMPARISONS.isdisjoint(branch)]
    return len(objects) == len(branches) >= 2


def _leaf(alternatives: Sequence[Any], path: Path) -> Node:
    try:
        return _node(leaf=compile_leaf(alternatives, path))
    except PatternError as error:
        if path[-1] == _OR and len(error.path) > len(path):
            text = f"{error} (to be a choice, $or needs two objects or more, none with an operator's name as a key)"
            raise PatternError(error.path, text) from error
        raise


def _node(
    *,
    leaf: Leaf | None = None,
    fields: Sequence[Field] = (),
    choices: Sequence[tuple[Node, ...]] = (),
) -> Node:
    return Node(
        leaf=leaf,
        fields=tuple(fields),
        choices=tuple(choices),
        idle=(leaf is None or leaf.absent)
        and all(field.node.idle for field in fields)
        and all(any(branch.idle for branch in choice) for choice in choices),
    )


def _joined(node: Node, path: Path) -> Node:
    """The node with every condition on a key in one place, so that all of them look at the same element of a list.

    Branches that name a key which is named beside them too are written out: a AND (b OR c) as (a AND b) OR (a AND c).
    """
    named = [{field.key for field in node.fields}]
    named += [{field.key for branch in choice for field in branch.named()} for choice in node.choices]
    if len(set().union(*named)) == sum(map(len, named)):
        return node
    count = 1
    for choice in node.choices:
        count *= len(choice)
    if count > _MOST_BRANCHES:
        raise PatternError(path, f"has {count} combinations of $or, allowed: at most {_MOST_BRANCHES}")
    branches = []
    for picked in product(*node.choices):
        merged = _node(fields=node.fields)
        for branch in picked:
            merged = _merged(merged, branch, path)
        branches.append(_joined(merged, path))
    return _node(choices=[tuple(branches)])


def _merged(one: Node, other: Node, path: Path) -> Node:
    """Both: a key of both is one field with the conditions of both."""
    if one.leaf is not None and other.leaf is not None:
        text = "has conditions at several places of which all must hold (beside $or and in it), allowed: one list"
        raise PatternError(path, text)
    fields = {field.key: field for field in one.fields}
    for field in other.fields:
        mine, at = fields.get(field.key), (*path, field.key)
        fields[field.key] = (
            field if mine is None else _field(field.key, _joined(_merged(mine.node, field.node, at), at))
        )
    return _node(leaf=one.leaf or other.leaf, fields=[*fields.values()], choices=(*one.choices, *other.choices))


def _field(key: str, node: Node) -> Field:
    return Field(key=key, attribute=f"f_{key.encode().hex()}", node=node)
