"""A limit that a fleet shares: the parts together never exceed it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poller.fleet.quota import Grant, Grants, decode, encode, fair, regrant


@pytest.mark.parametrize(
    ("limit", "members", "parts"),
    [(6, "abc", [2, 2, 2]), (7, "abc", [3, 2, 2]), (2, "abc", [1, 1, 0]), (5, "a", [5]), (0, "ab", [0, 0])],
    ids=["equal", "the rest to the first", "fewer than members", "alone", "nothing"],
)
def test_fair_parts_are_equal_to_within_one_and_make_up_the_limit(limit: int, members: str, parts: list[int]):
    assert [fair(limit, members, each) for each in members] == parts


def test_who_is_not_a_member_has_no_part():
    assert fair(6, "ab", "c") == 0


def test_a_part_is_taken_only_as_far_as_the_others_have_left_it():
    after = regrant(Grants({"a": Grant(1, 5)}), 6, me="b", epochs={"a": 1, "b": 1}, wanted=3, in_flight=0)
    assert after.parts["b"].part == 1


def test_a_part_is_given_up_only_as_far_as_no_call_uses_it():
    after = regrant(Grants({"a": Grant(1, 6)}), 6, me="a", epochs={"a": 1, "b": 1}, wanted=3, in_flight=5)
    assert after.parts["a"].part == 5


@pytest.mark.parametrize("epochs", [{"b": 1}, {"a": 2, "b": 1}], ids=["gone", "begun anew"])
def test_the_part_of_a_life_that_is_over_is_free(epochs: dict[str, int]):
    after = regrant(Grants({"a": Grant(1, 6)}), 6, me="b", epochs=epochs, wanted=6, in_flight=0)
    assert after.parts == {"b": Grant(1, 6)}


def test_a_row_is_read_as_it_was_written():
    grants = Grants({"a": Grant(1, 2), "b": Grant(7, 0)})
    assert decode(encode(grants)) == grants


_steps = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(["ask", "look", "dies", "ask", "ask"]), st.integers(0, 9)),
    max_size=60,
)


@settings(deadline=None, database=None, derandomize=True, max_examples=300)
@given(limit=st.integers(0, 12), steps=_steps)
def test_however_members_come_go_and_ask_their_parts_never_exceed_the_limit(
    limit: int, steps: list[tuple[str, str, int]]
):
    """A member asks with what it read: the row, and then who is there. Another may write in between: then it may not."""
    row, version = Grants(), 0
    epochs = dict.fromkeys("abcd", 1)
    read: dict[str, tuple[Grants, int, dict[str, int]]] = {}
    for name, what, number in steps:
        if what == "look":
            read[name] = row, version, dict(epochs)
        elif what == "dies":
            epochs[name] += 1
        elif name in read:
            seen, expected, known = read.pop(name)
            if expected == version:
                row = regrant(seen, limit, me=name, epochs=known, wanted=number, in_flight=number // 2)
                version += 1
        good = [grant.part for name, grant in row.parts.items() if grant.epoch >= epochs[name]]
        assert sum(good) <= limit
