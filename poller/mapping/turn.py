"""What this replica does with a shard that may be processed. No I/O, no clock."""

from __future__ import annotations

from typing import Literal, TypeAlias

STAYS = 20.0
"""Seconds for which a shard that was handed over stays, so that two replicas with different news do not play ball."""
ORPHANED_AFTER = 20.0
"""Seconds after which a shard that nobody has is anybody's, whoever it was meant for."""

Turn: TypeAlias = Literal["open", "keep", "hand_over", "leave"]


def turn(
    *,
    me: str,
    holder: str,
    target: str,
    near: str,
    free_for: float,
    held_for: float | None,
    handed: bool,
    settled: bool,
) -> Turn:
    """Decide.

    Args:
        me: this replica.
        holder: the live member that the shard's row names; "" for nobody.
        target: who shall have it, "" when nobody can.
        near: who had it last, or has its parent.
        free_for: seconds for which nobody has had it, as far as we saw.
        held_for: seconds for which it has been in our hands; None when it is not.
        handed: another replica gave it to us.
        settled: nobody came or went just now.
    """
    if held_for is not None:
        moves = target not in ("", me) and settled and (not handed or held_for >= STAYS)
        return "hand_over" if moves else "keep"
    if holder:
        return "open" if holder == me else "leave"
    return "open" if me in (target, near) or free_for >= ORPHANED_AFTER else "leave"
