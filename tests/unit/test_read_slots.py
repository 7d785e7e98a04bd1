"""When the next read of a shard begins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.mapping.read import in_slot

moments = st.floats(0.0, 1e7)


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
