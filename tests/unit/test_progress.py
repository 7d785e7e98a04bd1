"""The order of positions, and what is stored."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.mapping import row
from poller.mapping.progress import Progress, Received, behind, forward, spell
from poller.model.record import After, At, Position, Record, TrimHorizon

positions = st.one_of(
    st.just(TrimHorizon()),
    st.floats(0, 1e11).map(At),
    st.integers(0, 10**60).map(str).map(After),
)


@pytest.mark.parametrize(
    ("stored", "reached", "kept"),
    [
        (After("9"), After("10"), After("10")),
        (After("10"), After("9"), After("10")),
        (TrimHorizon(), After("1"), After("1")),
        (At(5.0), After("1"), After("1")),
        (TrimHorizon(), At(5.0), At(5.0)),
        (After("1"), TrimHorizon(), After("1")),
    ],
    ids=["numbers, not text", "never backwards", "from the horizon", "from a time", "a time is later", "no way back"],
)
def test_forward(stored: Position, reached: Position, kept: Position):
    assert forward(stored, reached) == kept


@given(one=positions, other=positions)
def test_a_checkpoint_never_moves_backwards(one: Position, other: Position):
    assert forward(forward(one, other), one) == forward(one, other)


sequences = st.tuples(st.integers(0, 10**60) | st.integers(0, 200), st.integers(1, 60)).map(
    lambda drawn: str(drawn[0]).rjust(drawn[1], "0")
)


@given(one=sequences, other=sequences)
def test_sequence_numbers_are_in_the_order_of_numbers_however_many_zeros_they_begin_with(one: str, other: str):
    assert behind(one, other) == (int(one) < int(other))
    later = forward(After(one), After(other))
    assert isinstance(later, After)
    assert int(later.sequence) == max(int(one), int(other))


@given(position=positions, ended=st.booleans())
def test_a_stored_row_is_read_back_equal(position: Position, ended: bool):
    stored = row.ShardRow(position=position, ended=ended)
    assert row.decode_shard(row.encode(stored)) == stored


def test_another_stream_or_a_stream_created_anew_has_other_keys():
    keys = {row.prefix("m", source, identity) for source in "ab" for identity in "12"}
    assert len(keys) == 4
    assert all(key.startswith("m/") for key in keys)


def test_positions_are_spelled_for_people():
    assert [spell(TrimHorizon()), spell(At(1.5)), spell(After("7"))] == ["TRIM_HORIZON", "AT_TIMESTAMP 1.500", "7"]


def test_a_message_that_comes_twice_under_one_id_is_held_twice():
    progress = Received()
    first, again = (Record(id="1", body=b"abc", arrived=at, receipt=f"r{at}") for at in (0.0, 9.0))
    progress.took([first])
    progress.took([again])
    assert len(progress) == 2
    assert progress.oldest == 0.0
    assert progress.settled([first]) == 3
    assert progress.oldest == 9.0
    assert progress.settled([first]) == 0
    assert len(progress) == 1


@given(pages=st.lists(st.integers(0, 6), max_size=4), order=st.randoms(use_true_random=False))
def test_progress_stands_before_the_first_record_that_is_not_settled(pages: list[int], order: random.Random):
    """Against what anybody would write: a list of what was read, and of what is settled."""
    progress, read, settled = Progress(), list[Record](), list[Record]()
    for count in pages:
        page = [
            Record(id=str(len(read) + place), body=b"x" * place, arrived=float(len(read) + place))
            for place in range(count)
        ]
        progress.took(page)
        read += page
        held = [record for record in read if record not in settled]
        some = order.sample(held, order.randint(0, len(held)))
        assert progress.settled(some) == sum(len(record.body) for record in some)
        settled += some
        left = [record for record in read if record not in settled]
        first = read.index(left[0]) if left else len(read)
        assert len(progress) == len(left)
        assert progress.oldest == (left[0].arrived if left else None)
        assert progress.watermark == (read[first - 1].id if first else "")


@given(reads=st.lists(st.integers(0, 4), max_size=6), order=st.randoms(use_true_random=False))
def test_messages_are_held_alike_whether_they_are_settled_as_they_were_read_or_otherwise(
    reads: list[int], order: random.Random
):
    """Against what anybody would write: a list of what is held, and bytes."""
    progress, held, pages = Received(), list[Record](), list[tuple[Record, ...]]()
    for number, count in enumerate(reads):
        page = tuple(
            Record(id=str(place % 2), body=b"x" * place, arrived=order.random(), receipt=f"{number}/{place}")
            for place in range(count)
        )
        progress.took(page)
        held += page
        pages.append(page)
        match order.choice(["a read", "the same records", "some", "nothing"]):
            case "a read":
                some: list[Record] | tuple[Record, ...] = order.choice(pages)
            case "the same records":
                some = list(order.choice(pages))
            case "some":
                some = order.sample(held, order.randint(0, len(held)))
            case _:
                some = []
        left = [record for record in held if all(record is not each for each in some)]
        assert progress.settled(some) == sum(len(record.body) for record in held) - sum(len(each.body) for each in left)
        held = left
        assert len(progress) == len(held)
        assert progress.oldest == min((record.arrived for record in held), default=None)


def test_an_old_message_is_seen_for_as_long_as_it_is_held_whatever_comes_and_goes_meanwhile():
    progress = Received()
    fresh = [Record(id=f"{n}", body=b"", arrived=100.0 + n, receipt=f"r{n}") for n in range(1000)]
    old = Record(id="old", body=b"", arrived=1.0, receipt="old")
    progress.took([fresh[0]])
    progress.took([old])
    for one in fresh[1:]:
        progress.took([one])
        assert progress.oldest == 1.0
        progress.settled([one])
    progress.settled([old])
    assert progress.oldest == 100.0
    progress.settled([fresh[0]])
    assert [progress.oldest, len(progress)] == [None, 0]
