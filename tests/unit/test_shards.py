"""Which shards are read, from where, and which wait."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.mapping.row import ShardRow
from poller.mapping.shards import forgettable, plan, unnamed
from poller.model.record import After, At, Partition, TrimHorizon

START = At(100.0)
OPEN = ShardRow(position=After("7"))
ENDED = ShardRow(position=After("9"), ended=True)


def shard(name: str, *parents: str) -> Partition:
    return Partition(name, parents)


CASES: dict[
    str, tuple[list[Partition], dict[str, ShardRow], set[str], dict[str, object], dict[str, tuple[str, ...]]]
] = {
    "a shard nobody knows begins where the mapping began": ([shard("a")], {}, set(), {"a": START}, {}),
    "a known shard goes on where it stands": ([shard("a")], {"a": OPEN}, set(), {"a": After("7")}, {}),
    "an ended shard is left alone": ([shard("a")], {"a": ENDED}, set(), {}, {}),
    "a child waits for a parent that is listed and not known": (
        [shard("b", "a"), shard("a")],
        {},
        set(),
        {"a": START},
        {"b": ("a",)},
    ),
    "a child waits for a parent that is being read": (
        [shard("a"), shard("b", "a")],
        {"a": OPEN},
        set(),
        {"a": After("7")},
        {"b": ("a",)},
    ),
    "a child of an ended parent begins at its own beginning": (
        [shard("a"), shard("b", "a")],
        {"a": ENDED},
        set(),
        {"b": TrimHorizon()},
        {},
    ),
    "a child of an ended parent that is not listed any more begins at its own beginning": (
        [shard("b", "a")],
        {"a": ENDED},
        set(),
        {"b": TrimHorizon()},
        {},
    ),
    "a merge waits for the parent that has not ended": (
        [shard("a"), shard("b"), shard("c", "a", "b")],
        {"a": ENDED, "b": OPEN},
        set(),
        {"b": After("7")},
        {"c": ("b",)},
    ),
    "a merge of ended parents begins": (
        [shard("c", "a", "b")],
        {"a": ENDED, "b": ENDED},
        set(),
        {"c": TrimHorizon()},
        {},
    ),
    "a parent that nobody knows and one listing does not name is waited for": (
        [shard("b", "a")],
        {},
        set(),
        {},
        {"b": ("a",)},
    ),
    "a parent that nobody knows and two listings do not name counts as ended": (
        [shard("b", "a")],
        {},
        {"a"},
        {"b": START},
        {},
    ),
    "a parent that we have not finished is waited for though no listing names it": (
        [shard("b", "a")],
        {"a": OPEN},
        set(),
        {},
        {"b": ("a",)},
    ),
    "a shard that we have begun does not wait for a parent whose row was removed": (
        [shard("b", "a")],
        {"b": OPEN},
        set(),
        {"b": After("7")},
        {},
    ),
    "grandchildren wait for children": (
        [shard("a"), shard("b", "a"), shard("c", "b")],
        {"a": ENDED},
        set(),
        {"b": TrimHorizon()},
        {"c": ("b",)},
    ),
}


@pytest.mark.parametrize(("listed", "rows", "missing", "opens", "waits"), CASES.values(), ids=CASES.keys())
def test_plan(
    listed: list[Partition],
    rows: dict[str, ShardRow],
    missing: set[str],
    opens: Mapping[str, object],
    waits: Mapping[str, tuple[str, ...]],
):
    decided = plan(listed, rows, start=START, missing=frozenset(missing))
    assert decided.open == opens
    assert decided.blocked == waits


BEFORE = ShardRow(position=START, ended=True)
"""A shard that ended before the moment: nothing of it was read."""


@pytest.mark.parametrize(
    ("parents", "named", "begins"),
    [
        ({"a": BEFORE}, True, START),
        ({"a": BEFORE, "b": BEFORE}, True, START),
        ({"a": BEFORE, "b": ENDED}, True, TrimHorizon()),
        ({"a": ShardRow(position=TrimHorizon(), ended=True)}, True, TrimHorizon()),
        ({"a": BEFORE}, False, TrimHorizon()),
    ],
    ids=[
        "of a parent that ended before the moment",
        "of two",
        "of one that ended before and one that brought records",
        "of one that somebody else has read to its end",
        "under LATEST, of one that brought nothing",
    ],
)
def test_where_a_child_begins_under_a_moment(parents: dict[str, ShardRow], named: bool, begins: object):
    decided = plan([shard("c", *parents)], parents, start=START, named=named, missing=frozenset())
    assert decided.open == {"c": begins}


def test_an_unknown_parent_does_not_count_as_ended_while_a_shard_that_left_the_stream_is_unfinished():
    decided = plan([shard("c", "b")], {"a": OPEN}, start=START, missing=frozenset({"a", "b"}))
    assert (decided.open, decided.blocked) == ({}, {"c": ("b",)})
    assert plan([shard("c", "b")], {"a": ENDED}, start=START, missing=frozenset({"b"})).open == {"c": START}


def test_an_unfinished_shard_is_lost_when_two_listings_in_a_row_do_not_name_it():
    once = plan([], {"a": OPEN}, start=START, missing=frozenset())
    assert (once.missing, once.lost) == (frozenset({"a"}), frozenset())
    twice = plan([], {"a": OPEN}, start=START, missing=once.missing)
    assert twice.lost == {"a"}
    assert plan([shard("a")], {"a": OPEN}, start=START, missing=once.missing).lost == frozenset()


FORGOTTEN: dict[str, tuple[list[Partition], dict[str, ShardRow], float, set[str]]] = {
    "long unnamed and its child is known": ([shard("b", "a")], {"a": ENDED, "b": OPEN}, 60, {"a"}),
    "long unnamed and nobody names a child": ([], {"a": ENDED}, 60, {"a"}),
    "not before a minute": ([], {"a": ENDED}, 59.9, set()),
    "not while a child of it is not known": ([shard("b", "a")], {"a": ENDED}, 60, set()),
    "not while it is listed": ([shard("a")], {"a": ENDED}, 60, set()),
    "not while it has not ended": ([], {"a": OPEN}, 60, set()),
}


@pytest.mark.parametrize(("listed", "rows", "after", "forgets"), FORGOTTEN.values(), ids=FORGOTTEN.keys())
def test_the_row_of_a_shard_is_forgotten_when_it_is(
    listed: list[Partition], rows: dict[str, ShardRow], after: float, forgets: set[str]
):
    first = unnamed([], rows, since={}, now=100.0)
    then = unnamed(listed, rows, since=first, now=100.0 + after)
    assert forgettable(listed, rows, since=then, now=100.0 + after) == forgets


def test_a_shard_that_is_listed_once_more_is_unnamed_anew():
    first = unnamed([], {"a": ENDED}, since={}, now=100.0)
    assert first == {"a": 100.0}
    assert unnamed([shard("a")], {"a": ENDED}, since=first, now=150.0) == {}


trees = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11), st.booleans()), max_size=12)


@given(tree=trees, ended=st.sets(st.integers(0, 11)), order=st.randoms())
def test_no_shard_is_opened_before_every_known_parent_has_ended(tree, ended, order):
    listed = [
        shard(str(number), *{str(parent) for parent in (one, other) if parent < number and has_parents})
        for number, (one, other, has_parents) in enumerate(tree)
    ]
    rows = {str(number): ENDED for number in ended if number < len(tree)}
    order.shuffle(listed)
    decided = plan(listed, rows, start=START, missing=frozenset())
    for each in listed:
        done = all(parent in rows for parent in each.parents)
        if each.id in rows:
            assert each.id not in decided.open
        else:
            assert (each.id in decided.open) == done
            assert (each.id in decided.blocked) == (not done)
