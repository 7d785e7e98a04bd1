"""Batching: by count, by bytes, by time."""

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from poller.mapping.batch import Batcher, batches_of
from poller.model.policy import Policy
from poller.model.record import Counted, Record, TrimHorizon, bodies_bytes, event_of, event_size_bytes


def records(sizes: list[int], first: int = 0) -> list[Record]:
    return [Record(id=str(first + index), body=b"x" * size, arrived=0.0) for index, size in enumerate(sizes)]


def policy(batch_size: int = 3, window: float = 0.0, limit: int = 1000) -> Policy:
    return Policy(batch_size=batch_size, window=window, event_limit_bytes=limit, start=TrimHorizon())


def ids(batches: list[tuple[Record, ...]]) -> list[list[str]]:
    return [[record.id for record in batch] for batch in batches]


def test_without_a_window_everything_a_read_brought_leaves_at_once():
    batcher = Batcher(policy(), 0.0)
    batcher.take(records([1] * 7), 5.0)
    assert ids(batcher.ready(5.0)) == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    assert batcher.deadline == math.inf


def test_with_a_window_a_full_batch_leaves_and_the_rest_stays_until_it_closes():
    batcher = Batcher(policy(window=10.0), 0.0)
    batcher.take(records([1] * 4), 5.0)
    assert ids(batcher.ready(5.0)) == [["0", "1", "2"]]
    assert batcher.deadline == 10.0
    assert batcher.ready(9.9) == []
    assert ids(batcher.ready(10.0)) == [["3"]]


def test_the_window_opens_when_the_previous_invocation_ends():
    batcher = Batcher(policy(window=10.0), 0.0)
    batcher.take(records([1]), 1.0)
    batcher.ready(10.0)
    batcher.reopen(30.0)
    batcher.take(records([1]), 35.0)
    assert batcher.deadline == 40.0


def test_a_window_that_passed_empty_opens_anew_with_the_first_record():
    batcher = Batcher(policy(window=10.0), 0.0)
    batcher.take(records([1]), 25.0)
    assert batcher.deadline == 35.0


def test_a_batch_whose_event_reaches_the_limit_exactly_is_one_batch_and_a_byte_more_makes_two():
    sizes = [100, 100, 100]
    exact = event_size_bytes(records(sizes))
    fits, splits = Batcher(policy(limit=exact), 0.0), Batcher(policy(limit=exact - 1), 0.0)
    fits.take(records(sizes), 0.0)
    splits.take(records(sizes), 0.0)
    assert ids(fits.ready(0.0)) == [["0", "1", "2"]]
    assert ids(splits.ready(0.0)) == [["0", "1"], ["2"]]


def test_a_record_larger_than_the_limit_is_a_batch_of_its_own():
    batcher = Batcher(policy(limit=200), 0.0)
    batcher.take(records([10, 500, 10]), 0.0)
    assert ids(batcher.ready(0.0)) == [["0"], ["1"], ["2"]]


@given(
    pages=st.lists(st.lists(st.integers(0, 120), max_size=30), max_size=20),
    batch_size=st.integers(1, 20),
    window=st.sampled_from([0.0, 1.0, 3.5]),
    limit=st.integers(60, 600),
)
def test_every_record_leaves_exactly_once_in_order_and_within_the_limits(
    pages: list[list[int]], batch_size: int, window: float, limit: int
):
    batcher = Batcher(policy(batch_size, window, limit), 0.0)
    came: list[Record] = []
    left: list[tuple[Record, ...]] = []
    for now, sizes in enumerate(pages):
        page = records(sizes, len(came))
        came += page
        batcher.take(page, float(now))
        left += batcher.ready(float(now))
        assert batcher.deadline == math.inf or batcher.deadline > now
    left += batcher.rest()
    assert [record for batch in left for record in batch] == came
    for batch in left:
        assert 1 <= len(batch) <= batch_size
        assert len(batch) == 1 or len(event_of(batch)) <= limit
        assert len(event_of(batch)) == event_size_bytes(batch)


@given(sizes=st.lists(st.integers(0, 50), min_size=1, max_size=40), limit=st.integers(40, 300))
def test_no_two_neighbouring_batches_could_have_been_one(sizes: list[int], limit: int):
    batcher = Batcher(policy(10, 0.0, limit), 0.0)
    batcher.take(records(sizes), 0.0)
    batches = batcher.ready(0.0)
    for batch, following in itertools.pairwise(batches):
        grown = (*batch, following[0])
        assert len(grown) > 10 or event_size_bytes(grown) > limit


@given(sizes=st.lists(st.integers(0, 50), min_size=1, max_size=12), limit=st.integers(40, 400))
def test_what_is_not_gathered_makes_the_batches_that_a_lane_would_make_of_it(sizes: list[int], limit: int):
    received, rules = tuple(records(sizes)), policy(batch_size=10, limit=limit)
    batcher = Batcher(rules, 0.0)
    batcher.take(received, 0.0)
    batches = batches_of(received, rules)
    assert batches == batcher.rest()
    assert len(batches) > 1 or batches[0] is received or len(received) == 1, (
        "a lease is known by the batch it was taken for"
    )


@given(sizes=st.lists(st.integers(0, 50), max_size=12))
def test_records_that_were_counted_are_as_large_as_they_are(sizes: list[int]):
    counted = Counted(records(sizes))
    assert counted == tuple(records(sizes))
    assert bodies_bytes(counted) == counted.size_bytes == sum(sizes)
    assert event_size_bytes(counted) == len(event_of(counted))
    assert bodies_bytes(counted[1:]) == sum(sizes[1:]), "a part of them is no longer what was counted"
