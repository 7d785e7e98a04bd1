"""A limit that a fleet shares: how much of it each member may use. No I/O, no clock, no chance.

The grants are one row of the store, written by compare-and-swap: whoever raises its own part has seen what all others
have, so the parts together never exceed the limit. A part is given up only when the calls in flight fit into what is
left. Fair to within one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """What one member may use."""

    epoch: int
    part: int


class Grants(msgspec.Struct, frozen=True):
    """The row of one shared limit."""

    parts: Mapping[str, Grant] = {}


encode = msgspec.json.Encoder(order="deterministic").encode
decode = msgspec.json.Decoder(Grants).decode


def fair(limit: int, members: Collection[str], me: str) -> int:
    """The part of the limit that I shall have: an equal one, the rest to the first in the order of names."""
    if me not in members:
        return 0
    each, rest = divmod(limit, len(members))
    return each + (sorted(members).index(me) < rest)


def regrant(grants: Grants, limit: int, *, me: str, epochs: Mapping[str, int], wanted: int, in_flight: int) -> Grants:
    """The row after I have taken what I shall have, as far as the others have left it.

    Args:
        grants: as it is stored.
        limit: of all together.
        me: who asks.
        epochs: of every member that is not gone; a grant of an older epoch, or of somebody unknown, is void.
        wanted: my fair part.
        in_flight: calls of mine under way: less than these cannot be given up.
    """
    others = {
        name: grant
        for name, grant in grants.parts.items()
        if name != me and name in epochs and grant.epoch >= epochs[name]
    }
    left = max(0, limit - sum(grant.part for grant in others.values()))
    part = min(left, max(wanted, in_flight))
    return Grants({**others, me: Grant(epochs.get(me, 0), part)})
