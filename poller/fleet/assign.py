"""Who shall have which shard: a pure function that every replica computes for itself from the same rows.

Sticky: who has a shard keeps it unless a move makes the fleet fairer, and then as few move as can be. No leader.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Shard(NamedTuple):
    """One shard of the fleet."""

    stream: str
    id: str


class Seat(NamedTuple):
    """Who has a shard now."""

    holder: str = ""
    """A live member; "": nobody."""
    near: str = ""
    """Who had it last, or has its parent: the first choice for one that nobody has; "": all are alike."""


def assign(members: Mapping[str, frozenset[str]], shards: Mapping[Shard, Seat]) -> Mapping[Shard, str]:
    """Give every shard a member.

    Args:
        members: those that stay, and the streams that each serves.
        shards: all that may be processed now. A holder that is not among the members (it leaves) has to be replaced.

    Returns:
        A member for each shard; none for those whose stream nobody serves. No member has two more than another that
        serves the same streams.
    """
    loads = _Loads(members)
    free: list[Shard] = []
    for shard in sorted(shards):
        holder = shards[shard].holder
        if shard.stream in members.get(holder, ()):
            loads.give(shard, holder)
        else:
            free.append(shard)
    for shard in free:
        able = [name for name in members if shard.stream in members[name]]
        if able:
            near = shards[shard].near
            loads.give(shard, near if near in able else min(able, key=lambda name: loads.rank(name, shard.stream)))
    while loads.level():
        pass
    return loads.owner


class _Loads:
    """How much each member has while shards are being given."""

    def __init__(self, members: Mapping[str, frozenset[str]]) -> None:
        self.owner: dict[Shard, str] = {}
        self._members = members
        self._count = dict.fromkeys(members, 0)
        self._of: dict[str, dict[str, list[Shard]]] = {name: {} for name in members}

    def rank(self, name: str, stream: str) -> tuple[int, int, str]:
        """The least is the next to be given a shard of this stream."""
        return self._count[name], len(self._of[name].get(stream, ())), name

    def give(self, shard: Shard, name: str) -> None:
        self.owner[shard] = name
        self._count[name] += 1
        self._of[name].setdefault(shard.stream, []).append(shard)

    def level(self) -> bool:
        """Move one shard from who has most to who has least. False when no move makes it fairer."""
        by_load = sorted(self._members, key=lambda name: (self._count[name], name))
        for receiver in by_load:
            for donor in reversed(by_load):
                if self._count[donor] - self._count[receiver] < 2:
                    break
                if stream := self._stream_to_move(donor, receiver):
                    shard = self._of[donor][stream].pop()
                    self._count[donor] -= 1
                    self.give(shard, receiver)
                    return True
        return False

    def _stream_to_move(self, donor: str, receiver: str) -> str:
        """The stream of which the donor has most more than the receiver; "" when the receiver serves none of them."""
        surplus = {
            stream: len(held) - len(self._of[receiver].get(stream, ()))
            for stream, held in self._of[donor].items()
            if held and stream in self._members[receiver]
        }
        return max(sorted(surplus), key=surplus.__getitem__, default="")
