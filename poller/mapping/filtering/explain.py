"""Which condition of a pattern refused a value, in words for people. No I/O, no clock."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from poller.mapping.filtering.match import SCALARS, Held, elements, matches, read
from poller.mapping.filtering.operators import shown
from poller.mapping.filtering.pattern import Node


def refusal(node: Node, value: Any, path: str = "") -> str:
    """The first condition that does not hold, and what it saw; "" when all of them hold."""
    if matches(node, value):
        return ""
    where = path or "the record"
    if type(value) is Held:
        return _of_payload(node, value, where)
    if type(value) is list:
        found = list(elements(value))
        if len(found) == 1:
            return refusal(node, found[0], f"{path}[0]")
        return f"{where}: none of {len(found)} elements satisfies {_wanted(node)}"
    if node.leaf is not None and not (value is UNSET and node.leaf.absent):
        is_scalar = type(value) in SCALARS
        if not (is_scalar and node.leaf.test(value)):
            seen = "is missing" if value is UNSET else f"is {shown(value) if is_scalar else 'an object'}"
            return f"{where}: {seen}, wanted: {node.leaf.source}"
    for field in node.fields:
        inner = UNSET if value is UNSET or type(value) in SCALARS else read(value, field)
        if why := refusal(field.node, inner, f"{path}.{field.key}" if path else field.key):
            return why
    for choice in node.choices:
        reasons = [refusal(branch, value, path) for branch in choice]
        if all(reasons):
            return f"{where}: no branch of $or holds ({'; '.join(reasons)})"
    return f"{where}: does not satisfy {_wanted(node)}"


def _of_payload(node: Node, held: Held, where: str) -> str:
    value, text = held.payload.json(), held.payload.text()
    if node.leaf is not None:
        seen = f"is {shown(text)}" if text is not None else "is JSON or no text, and a list of alternatives is for text"
        return f"{where}: {seen}, wanted: {node.leaf.source}"
    if value is UNSET:
        return f"{where}: is no object or list in JSON{'' if text is None else f' but {shown(text)}'}"
    return refusal(node, value, where)


def _wanted(node: Node) -> str:
    """The conditions in a few words."""
    if node.leaf is not None and not node.fields and not node.choices:
        return node.leaf.source
    keys = dict.fromkeys(field.key for field in node.named())
    return f"the conditions on {', '.join(keys)} together"
