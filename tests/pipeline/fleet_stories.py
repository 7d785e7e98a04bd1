"""What can happen to a fleet, as values that hypothesis draws, and shrinks when something breaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from hypothesis import strategies as st

Fault: TypeAlias = Literal["none", "request lost", "reply lost", "slow", "late"]
"""What becomes of one call of the store; "late" is applied when its caller has given up, perhaps."""


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float


@dataclass(frozen=True, slots=True)
class Records:
    mapping: int
    shard: int
    count: int


@dataclass(frozen=True, slots=True)
class Split:
    mapping: int
    shard: int


@dataclass(frozen=True, slots=True)
class Merge:
    mapping: int
    shard: int


@dataclass(frozen=True, slots=True)
class Vanish:
    """A closed shard whose parents have left the stream leaves it."""

    mapping: int
    shard: int


@dataclass(frozen=True, slots=True)
class TornListing:
    """The next listing of each replica leaves out one shard."""

    mapping: int
    shard: int


@dataclass(frozen=True, slots=True)
class Join:
    """A replica starts: under a new name, or under that of one that has died."""

    again: bool
    rate: float
    lanes: int


@dataclass(frozen=True, slots=True)
class Exit:
    member: int


@dataclass(frozen=True, slots=True)
class Kill:
    member: int


@dataclass(frozen=True, slots=True)
class Freeze:
    member: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """A replica cannot reach the store for so many seconds."""

    member: int
    seconds: float
    hangs: bool
    """Its calls are not refused, they hang until they time out."""


@dataclass(frozen=True, slots=True)
class Outage:
    """Nobody can."""

    seconds: float
    hangs: bool


@dataclass(frozen=True, slots=True)
class Faults:
    """The next calls that a replica makes to the store."""

    member: int
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Bounce:
    """A mapping is stopped and started again within its process, perhaps with another ParallelizationFactor."""

    member: int
    mapping: int
    lanes: int


@dataclass(frozen=True, slots=True)
class DeleteRow:
    """Somebody removes a shard's row by hand."""

    mapping: int
    shard: int


Calm: TypeAlias = Wait | Records | Split | Merge | Join | Exit
Action: TypeAlias = Calm | Vanish | TornListing | Kill | Freeze | Cut | Outage | Faults | Bounce | DeleteRow
CALM = (Wait, Records, Split, Merge, Join, Exit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A fleet of two mappings, and what happens to it."""

    rates: tuple[float, ...]
    """Of the clocks of the members that are there at the beginning."""
    shards: tuple[int, int]
    batch_size: int
    call: float
    """Seconds an invocation takes."""
    pace: float
    """Of the store."""
    latest: bool
    limit: int
    """What all members may use together."""
    actions: tuple[Action, ...]

    @property
    def calm(self) -> bool:
        """Nothing fails: replicas come, and go as they should."""
        return all(isinstance(each, CALM) for each in self.actions)


_which = st.integers(0, 7)
_mapping = st.integers(0, 1)
_soon = st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.3, 1.0, 1.0, 2.5, 7.0])
_long = st.sampled_from([0.3, 1.0, 3.0, 5.0, 6.5, 8.0, 12.0])
_rates = st.sampled_from([0.9, 0.95, 1.0, 1.0, 1.05, 1.1])
_lanes = st.sampled_from([1, 1, 2, 3])
_faults: st.SearchStrategy[Fault] = st.sampled_from(
    ["none", "none", "request lost", "reply lost", "reply lost", "slow", "late"]
)
_calm: list[st.SearchStrategy[Action]] = [
    st.builds(Wait, _soon),
    st.builds(Records, _mapping, _which, st.integers(1, 8)),
    st.builds(Records, _mapping, _which, st.integers(1, 8)),
    st.builds(Records, _mapping, _which, st.integers(1, 8)),
    st.builds(Split, _mapping, _which),
    st.builds(Merge, _mapping, _which),
    st.builds(Join, st.booleans(), _rates, _lanes),
    st.builds(Exit, _which),
]
_harsh: dict[type[Action], st.SearchStrategy[Action]] = {
    Faults: st.builds(Faults, _which, st.lists(_faults, min_size=1, max_size=6).map(tuple)),
    Kill: st.builds(Kill, _which),
    Freeze: st.builds(Freeze, _which, _long),
    Cut: st.builds(Cut, _which, _long, st.booleans()),
    Outage: st.builds(Outage, _long, st.booleans()),
    Bounce: st.builds(Bounce, _which, _mapping, _lanes),
    Vanish: st.builds(Vanish, _mapping, _which),
    TornListing: st.builds(TornListing, _mapping, _which),
    DeleteRow: st.builds(DeleteRow, _mapping, _which),
}


@st.composite
def stories(draw: st.DrawFn, *, most: int = 120, about: tuple[type[Action], ...] = tuple(_harsh)) -> Story:
    """Any story; about a third of them are calm.

    Args:
        most: actions.
        about: the trouble that there may be.
    """
    calm = not about or draw(st.integers(0, 2)) == 0
    action = st.one_of(_calm if calm else [*_calm, *(_harsh[each] for each in about)])
    count = draw(st.integers(most // 2, most))
    return Story(
        rates=tuple(draw(st.lists(_rates, min_size=1, max_size=4))),
        shards=(draw(st.integers(1, 4)), draw(st.integers(1, 2))),
        batch_size=draw(st.sampled_from([1, 3, 100])),
        call=draw(st.sampled_from([0.02, 0.3, 1.5])),
        pace=draw(st.sampled_from([0.0, 5.0])),
        latest=draw(st.booleans()),
        limit=draw(st.integers(1, 9)),
        actions=tuple(draw(st.lists(action, min_size=count, max_size=count))),
    )
