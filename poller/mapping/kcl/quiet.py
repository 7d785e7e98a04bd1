"""Whether anybody works on a stream, seen in what moved between two looks. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from poller.mapping.kcl.leases import Table
from poller.model.ports import Row

_NAMED = 3
"""Rows that a line names at most."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that moves while somebody works, at one moment."""

    table: Table
    rows: Mapping[str, Row]
    """Of our store, by shard."""
    members: Mapping[str, int]
    """Versions of the rows by which replicas of the poller say that they live."""


class _Held(msgspec.Struct):
    """As much of a shard's row as says whether a replica holds it."""

    owner: str | None = None


def at_work(before: Look, after: Look) -> str:
    """Who is at work, and what to do about it; "" when nobody is.

    A worker of the library renews its leases, and one without leases its statistics. A poller that has nothing to
    checkpoint lives in its own row, and holds the shards whose rows name an owner.
    """
    if moved := restless(before.table, after.table):
        named = ", ".join(moved[:_NAMED]) + (", ..." if len(moved) > _NAMED else "")
        return f"workers of the application are alive: {len(moved)} of its rows changed ({named}); stop them first"
    held = any(msgspec.json.decode(row.value, type=_Held).owner for row in after.rows.values())
    if before.rows != after.rows or (held and before.members != after.members):
        return "a poller is processing the mapping: stop it first"
    return ""


def restless(before: Table, after: Table) -> list[str]:
    """Keys of rows that somebody touched, made or removed between two looks."""
    keys = before.signs.keys() | after.signs.keys()
    return sorted(key for key in keys if before.signs.get(key) != after.signs.get(key))
