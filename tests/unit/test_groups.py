"""Whose turn it is on a FIFO queue, as decisions."""

import pytest

from poller.mapping.groups import apart, turn
from poller.model.record import Record


def batch(*groups: str) -> tuple[Record, ...]:
    return tuple(Record(id=group, body=b"{}", arrived=0.0, key=group) for group in groups)


@pytest.mark.parametrize(
    ("waiting", "busy", "free", "expected"),
    [
        ([], "a", 5, []),
        (["a", "b", "c"], "", 5, [0, 1, 2]),
        (["a", "b", "c"], "", 2, [0, 1]),
        (["a", "b", "c"], "", 0, []),
        (["a", "b", "c"], "b", 5, [0, 2]),
        (["a", "a", "b"], "", 5, [0, 2]),
        (["ab", "bc", "c", "d"], "a", 5, [3]),
        (["a", "b", "c"], "a", 1, [1]),
    ],
    ids=[
        "nobody waits",
        "groups go beside one another",
        "no more than may",
        "none may",
        "a group in flight waits",
        "a group's second batch waits for its first",
        "what waits holds up what follows in any of its groups",
        "a group that waits takes nobody's place",
    ],
)
def test_a_batch_goes_when_none_of_its_groups_is_in_flight_or_waits_before_it(
    waiting: list[str], busy: str, free: int, expected: list[int]
):
    batches = [batch(*groups) for groups in waiting]
    going, left = turn(batches, set(busy), free)
    assert going == [batches[place] for place in expected]
    assert left == [each for place, each in enumerate(batches) if place not in expected]


def test_a_receive_is_parted_in_order_by_what_waits():
    free, blocked = apart(batch("a", "b", "a", "c"), {"a"})
    assert [each.key for each in free] == ["b", "c"]
    assert [each.key for each in blocked] == ["a", "a"]


def test_a_part_of_a_receive_that_has_nothing_is_none():
    whole = batch("a", "b")
    assert apart(whole, {"c"}) == [whole]
    assert apart(whole, {"a", "b"}) == [whole]
    assert apart((), {"a"}) == []
