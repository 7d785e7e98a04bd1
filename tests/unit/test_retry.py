"""What follows an attempt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.mapping.retry import CAP, Advance, Again, Leave, Step, backoff, expired, next_step
from poller.model.outcome import Failed, Outcome, Refused, Replied, Unavailable, label
from poller.model.record import Record

CASES: dict[str, tuple[Outcome, int, bool, Step]] = {
    "a stream's success advances": (Replied(), 0, False, Advance()),
    "a queue's success advances": (Replied(), 0, True, Advance()),
    "a stream's failure is tried again": (Failed(reason="x"), 1, False, Again(0.2)),
    "a stream's third failure waits longer": (Failed(reason="x"), 3, False, Again(0.8)),
    "a queue's failure waits out its visibility": (Failed(reason="x"), 1, True, Leave()),
    "a queue's timeout waits out its visibility": (Failed(reason="x", timeout=True), 1, True, Leave()),
    "a stream's throttle is tried again": (Refused(reason="x"), 1, False, Again(0.2)),
    "a queue's throttle is tried again": (Refused(reason="x"), 2, True, Again(0.4)),
    "a throttle's own pause is kept to": (Refused(reason="x", after=3.0), 1, False, Again(3.0)),
    "an absurd pause is not kept to": (Refused(reason="x", after=1e9), 1, False, Again(900.0)),
    "a service error is tried again": (Unavailable(reason="x"), 1, True, Again(1.0)),
    "a wrong configuration is tried again slowly": (Unavailable(reason="x", lasting=True), 2, False, Again(10.0)),
}


@pytest.mark.parametrize(("outcome", "failures", "redelivers", "step"), CASES.values(), ids=CASES.keys())
def test_next_step(outcome: Outcome, failures: int, redelivers: bool, step: Step):
    assert next_step(outcome, failures=failures, redelivers=redelivers, chance=0.0) == step


@given(failures=st.integers(0, 10**9), chance=st.floats(0, 1, exclude_max=True))
def test_a_pause_is_positive_and_never_longer_than_the_cap_and_its_jitter(failures: int, chance: float):
    assert 0.2 <= backoff(failures, chance) <= CAP * 1.35


@given(failures=st.integers(1, 40))
def test_pauses_never_shrink_as_failures_add_up(failures: int):
    assert backoff(failures + 1, 0.0) >= backoff(failures, 0.0)


@given(ages=st.lists(st.floats(0, 200), min_size=1, max_size=20))
def test_only_a_head_of_expired_records_is_named(ages: list[float]):
    batch = tuple(Record(id=str(index), body=b"", arrived=1000 - age) for index, age in enumerate(ages))
    count = expired(batch, now=1000.0, retention=100.0)
    assert all(1000.0 - record.arrived >= 100 for record in batch[:count])
    assert count == len(batch) or 1000.0 - batch[count].arrived < 100


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (Replied(), "success"),
        (Failed(reason=""), "function_error"),
        (Failed(reason="", timeout=True), "timeout"),
        (Refused(reason=""), "throttled"),
        (Unavailable(reason=""), "service_error"),
    ],
)
def test_each_outcome_has_its_label(outcome: Outcome, text: str):
    assert label(outcome) == text
