"""A block against its shape: pydantic finds what is wrong, this file says it in words for people. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from poller.mapping.filtering import PatternError
from poller.settings.keys import canonical
from poller.settings.shape import Shape
from poller.settings.tree import Mistake, Report, Tree, is_broken, listed, plain, shown

S = TypeVar("S", bound=Shape)

_BOUNDS = frozenset({"greater_than", "greater_than_equal", "less_than", "less_than_equal"})
_LENGTHS = frozenset({"too_long", "too_short", "string_too_long", "string_too_short"})
_SECRET = frozenset({"headers", "environment", "token"})
"""Blocks whose values are never repeated in a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked(Generic[S]):
    """What is right of a block."""

    shape: S | None
    """The block, with defaults in place of what is broken; None when it cannot do without that."""
    tree: Tree
    """The block under its canonical keys."""
    broken: frozenset[str]
    """The keys that were reported: nothing more need be said about them."""


def checked(shape: type[S], tree: Tree, report: Report) -> Checked[S]:
    """Hold a block against its shape and report every key that does not fit."""
    if not isinstance(tree.value, dict):
        if not is_broken(tree):
            report(Mistake(place=tree.place, text=f"{_given(plain(tree))}, allowed: a block with {_keys(shape)}"))
        return Checked(shape=None, tree=tree, broken=frozenset())
    tree = canonical(shape, tree, report)
    entries = tree.entries()
    broken = frozenset(key for key, child in entries.items() if is_broken(child))
    try:
        return Checked(shape=_validated(shape, entries, broken), tree=tree, broken=broken)
    except ValidationError as error:
        bad = {str(item["loc"][0]): item for item in error.errors() if item["loc"][0] not in broken}
        for mistake in _mistakes(shape, tree, error, broken):
            report(mistake)
    broken |= bad.keys()
    try:
        return Checked(shape=_validated(shape, entries, broken), tree=tree, broken=broken)
    except ValidationError:  # it misses a key that is needed, which has been reported
        return Checked(shape=None, tree=tree, broken=broken)


def _validated(shape: type[S], entries: Mapping[str, Tree], broken: frozenset[str]) -> S:
    return shape.model_validate({key: plain(child) for key, child in entries.items() if key not in broken})


def _mistakes(shape: type[Shape], tree: Tree, error: ValidationError, broken: frozenset[str]) -> Iterator[Mistake]:
    schema = _schema(shape)
    for item in error.errors(include_url=False):
        path = tuple(key for key in item["loc"] if key != "[key]")
        if path[0] not in broken:
            is_secret = not _SECRET.isdisjoint(map(str, path))
            fragment = _fragment(schema, path)
            text = _text(item["type"], item.get("ctx", {}), item["input"], fragment, is_secret=is_secret)
            yield Mistake(place=tree.find((*path, *_inside(item.get("ctx", {})))), text=text)


def _inside(context: Mapping[str, Any]) -> tuple[str | int, ...]:
    """Where inside the value the mistake is, if the value is a pattern."""
    error = context.get("error")
    return error.path if isinstance(error, PatternError) else ()


def _text(kind: str, context: Mapping[str, Any], value: object, fragment: Mapping[str, Any], *, is_secret: bool) -> str:
    """What is wrong, what is allowed."""
    if kind == "value_error":
        return str(context["error"])  # written in this package, for people
    if kind == "missing":
        return f"is missing, allowed: {_allowed(fragment)}"
    subject = "its value" if is_secret else shown(value)
    if kind in _BOUNDS:
        return f"{subject} is out of range, allowed: {_range(fragment)}"
    if kind in _LENGTHS:
        return f"is {_length(value)} long, allowed: {_allowed(fragment)}"
    if kind in {"literal_error", "enum"} and isinstance(value, str):
        return f"{subject} is not one of the choices, allowed: {_allowed(fragment)}"
    if kind == "string_pattern_mismatch":
        return f"{subject} has the wrong form, allowed: {_allowed(fragment)}"
    hint = ' (put it in quotes: "...")' if kind == "string_type" and not isinstance(value, dict | list) else ""
    return f"{_given(value, is_secret=is_secret)}, allowed: {_allowed(fragment)}{hint}"


def _given(value: object, *, is_secret: bool = False) -> str:
    match value:
        case bool():
            kind = "a boolean"
        case int() | float():
            kind = "a number"
        case str():
            kind = "text"
        case None:
            return "has no value"
        case dict():
            return "is a block of keys"
        case list():
            return "is a list"
        case _:
            kind = "a date"
    return f"is {kind}" if is_secret else f"{shown(value)} is {kind}"


def _length(value: object) -> str:
    match value:
        case str():
            return f"{len(value)} characters"
        case dict() | list():
            return f"{len(value)} entries"
        case _:
            return "too much or too little"


def _keys(shape: type[Shape]) -> str:
    return listed(shape.fields(), last="and")


@cache
def _schema(shape: type[Shape]) -> dict[str, Any]:
    return shape.model_json_schema()


def _fragment(schema: dict[str, Any], path: tuple[str | int, ...]) -> dict[str, Any]:
    """The part of a JSON Schema that speaks about what lies at `path`."""
    here = _resolved(schema, schema)
    for key in path:
        here = _resolved(_inner(here, key), schema)
    return here | ({"items": _resolved(here["items"], schema)} if "items" in here else {})


def _inner(part: dict[str, Any], key: str | int) -> dict[str, Any]:
    """What a schema says of one entry of a block or list; nothing when it says nothing."""
    found: dict[str, Any] = {}
    for choice in part.get("anyOf", [part]):
        more = choice.get("items") if isinstance(key, int) else choice.get("properties", {}).get(key)
        found = found or more or (isinstance(key, str) and choice.get("additionalProperties")) or {}
    return found


def _resolved(part: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference; of a value that may be left out, take the value."""
    if "$ref" in part:
        return _resolved(schema["$defs"][part["$ref"].rpartition("/")[2]], schema)
    choices = [choice for choice in part.get("anyOf", ()) if choice.get("type") != "null"]
    return _resolved(choices[0], schema) if len(choices) == 1 else part


def _allowed(fragment: Mapping[str, Any]) -> str:
    """A phrase for what a JSON Schema allows."""
    if "enum" in fragment or "const" in fragment:
        return listed(map(str, fragment.get("enum", [fragment.get("const")])))
    if "anyOf" in fragment:
        return listed(_allowed(choice) for choice in fragment["anyOf"])
    match fragment.get("type"):
        case "integer":
            return f"a whole number, {_range(fragment)}"
        case "number":
            return f"a number, {_range(fragment)}"
        case "boolean":
            return "true or false"
        case "string":
            return _allowed_text(fragment)
        case "array":
            return f"a list of {_allowed(fragment.get('items', {}))}, {_count(fragment, 'Items', ' entries')}".removesuffix(
                ", "
            )
        case "object" if "properties" in fragment:
            return f"a block with {listed(fragment['properties'], last='and')}"
        case "object":
            return "a block of names and values"
        case None if "minimum" in fragment:
            return _range(fragment)
        case _:
            return "something else"


def _allowed_text(fragment: Mapping[str, Any]) -> str:
    if "pattern" in fragment:
        return f"text that matches {fragment['pattern']}"
    if fragment.get("format") == "uri":
        return "text, http://HOST[:PORT][/PATH] or https://..."
    return f"text, {_count(fragment, 'Length', ' characters')}".removesuffix(", ")


def _count(fragment: Mapping[str, Any], what: str, unit: str) -> str:
    low, high = fragment.get(f"min{what}", 0), fragment.get(f"max{what}")
    if high is None:
        return "not empty" if low else ""
    return f"{low} to {high}{unit}" if low else f"at most {high}{unit}"


def _range(fragment: Mapping[str, Any]) -> str:
    above, low, high = fragment.get("exclusiveMinimum"), fragment.get("minimum"), fragment.get("maximum")
    return f"above {above:g} to {high}" if above is not None else f"{low} to {high}"
