"""What can happen to a mapping of a stream, as values that hypothesis draws, and shrinks when something breaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from hypothesis import strategies as st

from tests.pipeline.algorithm import Flaw, Rules

ReadError: TypeAlias = Literal["transient", "throttled", "denied", "expired", "gone"]
Mood: TypeAlias = Literal["throttled", "unavailable", "raises", "times out"]


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float


@dataclass(frozen=True, slots=True)
class Records:
    """Records for one of the open shards: for each its key and its flaw."""

    shard: int
    records: tuple[tuple[int, Flaw], ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Split:
    shard: int


@dataclass(frozen=True, slots=True)
class Merge:
    shard: int


@dataclass(frozen=True, slots=True)
class Heal:
    """The function is mended: no record has a flaw any more."""


@dataclass(frozen=True, slots=True)
class Moods:
    """How the next calls end, whatever they carry."""

    moods: tuple[Mood, ...]


@dataclass(frozen=True, slots=True)
class FailingReads:
    errors: tuple[ReadError, ...]


@dataclass(frozen=True, slots=True)
class FailingListings:
    count: int


@dataclass(frozen=True, slots=True)
class TornListing:
    """The next listing leaves out one shard."""

    shard: int


@dataclass(frozen=True, slots=True)
class IteratorsExpire:
    pass


@dataclass(frozen=True, slots=True)
class FailingStore:
    """The next calls of the store fail, before or after the deed."""

    after: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Refusals:
    """The destination refuses the next accounts."""

    count: int


@dataclass(frozen=True, slots=True)
class Trim:
    """The stream drops the oldest records of a shard."""

    shard: int
    count: int


@dataclass(frozen=True, slots=True)
class Vanish:
    """A closed shard leaves the stream."""

    shard: int


@dataclass(frozen=True, slots=True)
class Restart:
    """The mapping is stopped, or killed, and started after a while; perhaps with another ParallelizationFactor."""

    kill: bool
    after: float
    lanes: int | None


Gentle: TypeAlias = (
    Wait
    | Records
    | Split
    | Merge
    | Heal
    | Moods
    | FailingReads
    | FailingListings
    | TornListing
    | IteratorsExpire
    | FailingStore
    | Refusals
)
Action: TypeAlias = Gentle | Trim | Vanish | Restart


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A mapping, and what happens to it."""

    batch_size: int
    window: float
    retries: int | None
    record_age: float | None
    retention: float
    bisect: bool
    partial: bool
    lanes: int
    latest: bool
    destination: bool
    page: int
    event_limit_bytes: int
    call: float
    """Seconds an invocation takes."""
    pace: float
    """Seconds from one action to the next."""
    actions: tuple[Action, ...]

    @property
    def exact(self) -> bool:
        """Nobody kills it, changes its lanes or takes its records away: each single call can be foretold."""
        return not any(
            isinstance(each, Trim | Vanish) or (isinstance(each, Restart) and (each.kill or each.lanes is not None))
            for each in self.actions
        )

    @property
    def rules(self) -> Rules:
        return Rules(
            batch_size=self.batch_size,
            retries=self.retries,
            record_age=self.record_age,
            retention=self.retention,
            bisect=self.bisect,
        )


_place = st.integers(0, 7)
_waits = st.sampled_from([0.05, 0.3, 1.0, 2.5, 7.0, 20.0, 65.0])
_flaws: st.SearchStrategy[Flaw] = st.sampled_from(
    ["none", "none", "none", "none", "raises", "named", "named", "foreign", "no key", "too large"]
)
_records = st.lists(st.tuples(st.integers(0, 3), _flaws), min_size=1, max_size=12).map(tuple)
_moods: st.SearchStrategy[Mood] = st.sampled_from(["throttled", "unavailable", "raises", "times out"])
_errors: st.SearchStrategy[ReadError] = st.sampled_from(["transient", "throttled", "denied", "expired", "gone"])
_few = st.integers(1, 3)


def _tuples(each: st.SearchStrategy[object], most: int) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(each, min_size=1, max_size=most).map(tuple)


_put = st.builds(Records, _place, _records, st.sampled_from([10, 10, 150, 900]))
_gentle: list[st.SearchStrategy[Action]] = [
    st.builds(Wait, _waits),
    _put,
    _put,
    st.builds(Wait, _waits),
    st.builds(Split, _place),
    st.builds(Merge, _place),
    st.builds(Heal),
    st.builds(Moods, _tuples(_moods, 4)),
    st.builds(FailingReads, _tuples(_errors, 3)),
    st.builds(FailingListings, _few),
    st.builds(TornListing, _place),
    st.builds(IteratorsExpire),
    st.builds(FailingStore, _tuples(st.booleans(), 3)),
    st.builds(Refusals, _few),
    st.builds(Restart, st.just(False), _waits, st.none()),  # not killed
]
_harsh: list[st.SearchStrategy[Action]] = [
    st.builds(Trim, _place, st.integers(1, 10)),
    st.builds(Vanish, _place),
    st.builds(Restart, st.booleans(), _waits, st.none() | st.integers(1, 4)),
    st.builds(Restart, st.just(True), _waits, st.none()),  # killed
]


@st.composite
def stories(draw: st.DrawFn, *, most: int = 60) -> Story:
    """Any story; about half of them are exact."""
    action = st.one_of(_gentle if draw(st.booleans()) else [*_gentle, *_harsh])
    count = draw(st.integers(1, most))
    return Story(
        batch_size=draw(st.sampled_from([1, 2, 3, 5, 10, 100])),
        window=draw(st.sampled_from([0.0, 0.0, 2.0, 30.0])),
        retries=draw(st.sampled_from([None, 0, 1, 3])),
        record_age=draw(st.sampled_from([None, None, 60.0])),
        retention=draw(st.sampled_from([86400.0, 86400.0, 200.0])),
        bisect=draw(st.booleans()),
        partial=draw(st.booleans()),
        lanes=draw(st.sampled_from([1, 1, 2, 3])),
        latest=draw(st.booleans()),
        destination=draw(st.booleans()),
        page=draw(st.sampled_from([1, 3, 50])),
        event_limit_bytes=draw(st.sampled_from([6_291_456, 500])),
        call=draw(st.sampled_from([0.02, 0.5, 3.0])),
        pace=draw(st.sampled_from([0.0, 0.3, 2.0, 10.0])),
        actions=tuple(draw(st.lists(action, min_size=count, max_size=count))),
    )
