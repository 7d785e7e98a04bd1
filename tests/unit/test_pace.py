"""When the next read of a shard begins."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.mapping.pace import IDLE, Pace, beginning, in_slot, pause_after
from poller.model.policy import Policy
from poller.model.record import After, Cursor, Page, Record, TrimHorizon

CURSOR = Cursor(position=After("7"))
RECORDS = (Record(id="7", body=b"{}", arrived=0.0),)
EMPTY, BROUGHT = Page((), CURSOR), Page(RECORDS, CURSOR)

moments = st.floats(0.0, 1e7)
chances = st.floats(0.0, 1.0, exclude_max=True)
intervals = st.floats(0.4, 900.0)


def pace(interval: float = 1.0, *, eager: bool = False, chance: float = 0.0) -> Pace:
    policy = Policy(batch_size=1, start=TrimHorizon(), poll_interval=interval, eager=eager)
    return beginning(policy, chance=chance)


def begins(pace: Pace, brought: list[bool], *, began: float = 100.0, late: float = 0.0) -> list[float]:
    """When reads begin, each late by as much, of which these bring records and the others bring nothing."""
    found, empty = [began], IDLE
    for each in brought:
        empty = 0 if each else empty + 1
        began = pace.due(BROUGHT if each else EMPTY, began=began, empty=empty) + late
        found.append(began)
    return found


def gaps(moments: list[float]) -> list[float]:
    return [second - first for first, second in itertools.pairwise(moments)]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (EMPTY, 0.9),
        (BROUGHT, 0.9),
        (Page(RECORDS, CURSOR, full=True), 0.0),
        (Page((), CURSOR, full=True), 0.0),
        (Page(RECORDS, CURSOR, behind=3.0), 0.0),
        (Page((), CURSOR, behind=3.0), 0.1),
        (Page(RECORDS, None), 0.0),
    ],
    ids=[
        "nothing",
        "records, and none behind them",
        "cut by a limit",
        "cut by a limit before any record",
        "records with more behind them",
        "nothing though there is more: five reads a second",
        "the end of the shard",
    ],
)
def test_a_shard_is_read_at_once_while_there_is_more_and_otherwise_an_interval_after_the_last_read_began(
    page: Page, expected: float
):
    assert pause_after(page, interval=1.0, took=0.1) == pytest.approx(expected)
    assert pause_after(page, interval=1.0, took=1.1) == 0.0
    assert pause_after(page, interval=0.05, took=0.05) == 0.0


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize(
    "page",
    [Page(RECORDS, CURSOR, full=True), Page((), CURSOR, full=True), Page(RECORDS, CURSOR, behind=3.0)],
    ids=["cut by a limit", "cut by a limit before any record", "records with more behind them"],
)
@given(began=moments, interval=st.floats(0.05, 3600.0), chance=chances, empty=st.integers(0, 100))
def test_nothing_comes_between_reads_while_there_is_more(
    eager: bool, page: Page, began: float, interval: float, chance: float, empty: int
):
    assert pace(interval, eager=eager, chance=chance).due(page, began=began, empty=empty) == began


@pytest.mark.parametrize("eager", [False, True])
@given(began=moments, interval=st.floats(0.2, 3600.0), chance=chances, empty=st.integers(1, 100))
def test_a_shard_that_brings_nothing_though_there_is_more_is_read_five_times_a_second(
    eager: bool, began: float, interval: float, chance: float, empty: int
):
    due = pace(interval, eager=eager, chance=chance).due(Page((), CURSOR, behind=3.0), began=began, empty=empty)
    assert due - began == pytest.approx(0.2, abs=0.025 + 1e-6)


@given(began=moments, late=st.floats(0.0, 0.024))
def test_reads_a_second_apart_stay_a_second_apart_though_each_begins_a_little_late(began: float, late: float):
    slot = began + in_slot(began, 1.0)
    now = slot + late
    assert now + in_slot(now, 1.0 - late) == pytest.approx(slot + 1.0, abs=1e-6)


@given(one=moments, apart=st.floats(0.0, 0.5))
def test_reads_begin_together_or_a_whole_slot_apart(one: float, apart: float):
    first, second = one + in_slot(one, 1.0), one + apart + in_slot(one + apart, 1.0)
    slots = (second - first) / 0.05
    assert slots == pytest.approx(round(slots), abs=1e-3)


@given(now=moments, pause=st.floats(0.0, 900.0))
def test_no_read_is_moved_by_more_than_half_a_slot(now: float, pause: float):
    assert in_slot(now, pause) == pytest.approx(pause, abs=0.025 + 1e-6)


@pytest.mark.parametrize("pause", [0.0, 0.001, 0.05])
def test_a_pause_that_is_hardly_one_stays_what_it_is(pause: float):
    assert in_slot(12.345, pause) == pause


@given(interval=intervals, start=moments, chance=chances, brought=st.lists(st.booleans(), min_size=1, max_size=60))
def test_reads_of_a_shard_are_half_an_interval_to_one_and_a_half_apart_and_five_in_a_second_at_the_most(
    interval: float, start: float, chance: float, brought: list[bool]
):
    read = begins(pace(interval, chance=chance), brought, began=start)
    for gap in gaps(read):
        assert 0.5 * interval - 1e-6 <= gap <= 1.5 * interval + 1e-6
        assert gap >= 0.2 - 1e-6
        assert abs(gap - interval) <= 0.5 + 1e-6  # nor does a long interval waver by more


@given(began=moments, interval=st.floats(0.05, 0.39), chance=chances, brought=st.booleans())
def test_a_shard_that_could_not_be_read_sooner_than_after_a_fifth_of_a_second_keeps_to_its_interval(
    began: float, interval: float, chance: float, brought: bool
):
    (gap,) = gaps(begins(pace(interval, chance=chance), [brought], began=began))
    assert gap == pytest.approx(interval, abs=0.025 + 1e-6)


@given(began=moments, interval=intervals, chance=chances, brought=st.booleans(), late=st.floats(0.0, 0.19))
def test_a_read_that_begins_late_does_not_make_the_next_one_later(
    began: float, interval: float, chance: float, brought: bool, late: float
):
    mine = pace(interval, chance=chance)
    once, again, *_ = begins(mine, [brought] * 2, began=began)[1:]
    empty = 0 if brought else IDLE
    assert mine.due(BROUGHT if brought else EMPTY, began=once + late, empty=empty) == pytest.approx(again, abs=1e-6)


@pytest.mark.parametrize("eager", [False, True])
@given(interval=st.floats(0.05, 900.0), begun=st.lists(moments, min_size=2, max_size=5), reads=st.integers(1, 30))
def test_idle_shards_are_read_at_the_same_moments_whenever_they_began(
    eager: bool, interval: float, begun: list[float], reads: int
):
    for number, start in enumerate(begun):
        mine = pace(interval, eager=eager, chance=number / 7)
        read = begins(mine, [False] * reads, began=start)
        assert gaps(read)[1:] == pytest.approx([interval] * (reads - 1), abs=1e-6)
        rests = [moment / mine.rest for moment in read[1:]]
        assert rests == pytest.approx([round(each) for each in rests], rel=1e-9, abs=1e-4)


def test_shards_that_bring_records_are_read_each_at_a_phase_of_its_own_and_at_whole_intervals():
    phases = []
    for chance in (0.0, 0.1, 0.35, 0.5, 0.75, 0.99):
        read = begins(pace(chance=chance), [True] * 10)
        assert gaps(read)[1:] == pytest.approx([1.0] * 9)
        phases.append(read[-1] % 1.0)
    assert phases == pytest.approx([0.0, 0.1, 0.35, 0.5, 0.75, 0.99], abs=1e-6)


def test_one_read_in_a_while_that_brings_nothing_does_not_move_a_shard():
    sparse = [True, *[False] * 15] * 5
    assert gaps(begins(pace(chance=0.3), sparse))[1:] == pytest.approx([1.0] * 79)


def test_a_shard_that_has_become_idle_is_read_together_with_the_other_idle_ones_again():
    idle = begins(pace(chance=0.3), [False] * 40)
    once_busy = begins(pace(chance=0.8), [False, True, True, *[False] * 37])
    together = {round(moment, 3) for moment in idle} & {round(moment, 3) for moment in once_busy[20:]}
    assert len(together) >= 20


@given(interval=st.floats(1.0, 3600.0), start=moments, first=chances, second=chances)
def test_phases_are_within_a_second_however_long_the_interval_is(
    interval: float, start: float, first: float, second: float
):
    one = begins(pace(interval, chance=first), [True], began=start)[-1]
    other = begins(pace(interval, chance=second), [True], began=start)[-1]
    assert abs(one - other) <= 1.0 + 1e-6


@pytest.mark.parametrize(
    ("interval", "empty", "expected"),
    [
        (1.0, 0, 0.1),
        (1.0, 1, 0.2),
        (1.0, 2, 0.4),
        (1.0, 3, 0.8),
        (1.0, 4, 1.0),
        (1.0, IDLE, 1.0),
        (1.0, 10**6, 1.0),
        (0.3, 1, 0.2),
        (0.3, 2, 0.3),
        (0.05, 0, 0.05),
        (3600.0, 14, 1638.4),
        (3600.0, 15, 3276.8),
        (3600.0, 16, 3600.0),
    ],
)
def test_where_the_source_bears_it_a_shard_is_read_soon_after_records_and_half_as_often_after_each_read_without(
    interval: float, empty: int, expected: float
):
    page = EMPTY if empty else BROUGHT
    assert pace(interval, eager=True).due(page, began=100.0, empty=empty) == pytest.approx(100.0 + expected, abs=1e-6)


@given(interval=st.floats(0.05, 3600.0), start=moments, chance=chances, brought=st.lists(st.booleans(), max_size=40))
def test_where_the_source_bears_it_reads_are_half_a_tenth_of_a_second_to_the_interval_apart(
    interval: float, start: float, chance: float, brought: list[bool]
):
    eager = pace(interval, eager=True, chance=chance)
    assert min(0.05, interval) - 1e-9 <= eager.beat <= 0.1
    for gap in gaps(begins(eager, brought, began=start)):
        assert eager.beat / 2 - 1e-6 <= gap <= interval + eager.rest / 2 + 1e-6


@given(start=moments, chance=chances, brought=st.lists(st.booleans(), min_size=2, max_size=40))
def test_where_the_source_bears_it_records_on_records_are_read_a_tenth_of_a_second_apart_at_the_phase_of_the_shard(
    start: float, chance: float, brought: list[bool]
):
    read = begins(pace(eager=True, chance=chance), [True, *brought], began=start)
    soon = [gap for gap, each in zip(gaps(read)[1:], brought, strict=True) if each]
    assert soon == pytest.approx([0.1] * len(soon), abs=1e-6)


@given(interval=st.floats(0.05, 3600.0), began=moments, chance=chances, empty=st.integers(IDLE, 100))
def test_an_idle_shard_is_read_no_more_often_because_the_source_would_bear_it(
    interval: float, began: float, chance: float, empty: int
):
    eager, other = pace(interval, eager=True, chance=chance), pace(interval, eager=False, chance=chance)
    due = eager.due(EMPTY, began=began, empty=empty)
    assert due == other.due(EMPTY, began=began, empty=empty)
    assert due - began == pytest.approx(interval, abs=eager.rest / 2 + 1e-6)
