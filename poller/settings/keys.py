"""Keys of a block: known, given once, with a value, and under AWS's spelling from here on. No I/O, no clock."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import get_origin

from pydantic.fields import FieldInfo

from poller.settings.shape import Shape, block_of
from poller.settings.tree import Broken, Mistake, Report, Tree, listed


def canonical(shape: type[Shape], tree: Tree, report: Report) -> Tree:
    """The block with every key under its own name, at all depths; what is not taken is reported and left out.

    Keys that are given without a value stay, as `Broken`.
    """
    spellings, fields = shape.spellings(), shape.fields()
    entries: dict[str, Tree] = {}
    for key, child in tree.entries().items():
        name = spellings.get(key)
        if name is None:
            report(Mistake(place=child.place, text=unknown(key, spellings, shape.hints)))
        elif name in entries:
            first = entries[name].place
            text = f"is given twice, first as {first.path[-1]} on line {first.line}, allowed: one spelling of it"
            report(Mistake(place=child.place, text=text))
        elif child.value is None:
            report(Mistake(place=child.place, text="has no value, give one or leave the key out"))
            entries[name] = Tree(place=child.place, value=Broken())
        else:
            entries[name] = _inner(fields[name], child, key != name, report)
    return Tree(place=tree.place, value=entries)


def _inner(field: FieldInfo, tree: Tree, is_terraform: bool, report: Report) -> Tree:  # noqa: FBT001
    """The same for the blocks within a field."""
    shape = block_of(field.annotation)
    match tree.value:
        case dict() if shape is not None and get_origin(field.annotation) is list and is_terraform:
            # Terraform writes a list as a block that may be repeated.
            return Tree(place=tree.place, value=[canonical(shape, tree, report)])
        case dict() if shape is not None and get_origin(field.annotation) is not dict:
            return canonical(shape, tree, report)
        case list() as items if shape is not None:
            found = [canonical(shape, item, report) if isinstance(item.value, dict) else item for item in items]
            return Tree(place=tree.place, value=found)
        case _:
            return tree


def unknown(key: str, spellings: Mapping[str, str], hints: Mapping[str, str]) -> str:
    """What to tell somebody who wrote this key: the nearest known one, or all of them when nothing is near."""
    if key in hints:
        return hints[key]
    like_aws = key[:1].isupper()
    by_lower = {name.lower(): name for name in sorted(spellings, key=lambda name: name[:1].isupper() == like_aws)}
    near = difflib.get_close_matches(key.lower(), by_lower, n=1, cutoff=0.6)
    if near:
        return f"is not a known key, did you mean {by_lower[near[0]]}?"
    return f"is not a known key, allowed: {listed(dict.fromkeys(spellings.values()), last='and')}"
