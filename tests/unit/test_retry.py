"""What follows an attempt: the numbered facts of Lambda's retry rules as single decisions."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.mapping.retry import (
    CAP,
    Advance,
    Again,
    GiveUp,
    Leave,
    QueueStep,
    Split,
    StreamStep,
    backoff,
    next_queue_step,
    next_step,
    older_than,
)
from poller.model.outcome import Failed, Outcome, Partial, Refused, Replied, Unavailable, failed_records, label
from poller.model.policy import Policy
from poller.model.record import Record, TrimHorizon

PLAIN = Policy(batch_size=100, start=TrimHorizon())
LIMITED = dataclasses.replace(PLAIN, retry_attempts=2)
BISECT = dataclasses.replace(LIMITED, bisect=True)
BOOM = Failed(reason="Boom")


def batch(*sequences: int) -> tuple[Record, ...]:
    return tuple(Record(id=str(sequence), body=b"", arrived=0.0) for sequence in sequences)


FOUR = batch(1, 2, 3, 4)
STREAM: dict[str, tuple[tuple[Record, ...], Outcome, int, Policy, StreamStep]] = {
    "success advances": (FOUR, Replied(), 0, PLAIN, Advance()),
    "a failure is tried again": (FOUR, BOOM, 0, PLAIN, Again(0.2)),
    "without a limit the ten thousandth failure is tried again": (FOUR, BOOM, 9_999, PLAIN, Again(0.2)),
    "a failure below the limit is tried again": (FOUR, BOOM, 1, LIMITED, Again(0.2)),
    "a failure at the limit is given up": (FOUR, BOOM, 2, LIMITED, GiveUp()),
    "without retries the first failure is given up": (
        FOUR,
        BOOM,
        0,
        dataclasses.replace(PLAIN, retry_attempts=0),
        GiveUp(),
    ),
    "a batch too large for the function spends an attempt": (
        FOUR,
        Failed(reason="413", ran=False),
        2,
        LIMITED,
        GiveUp(),
    ),
    "a throttle spends no attempt": (FOUR, Refused(reason="x"), 2, LIMITED, Again(0.2, counts=False)),
    "a throttle's own pause is kept to": (FOUR, Refused(reason="x", after=3.0), 2, LIMITED, Again(3.0, counts=False)),
    "an absurd pause is cut": (FOUR, Refused(reason="x", after=1e9), 2, LIMITED, Again(900.0, counts=False)),
    "a service error spends no attempt": (FOUR, Unavailable(reason="x"), 2, BISECT, Again(1.0, counts=False)),
    "a wrong configuration is tried slowly": (
        FOUR,
        Unavailable(reason="x", lasting=True),
        2,
        BISECT,
        Again(5.0, counts=False),
    ),
    "bisecting splits before it retries": (FOUR, BOOM, 0, BISECT, Split(0, (batch(1, 2), batch(3, 4)))),
    "bisecting an odd batch leaves the smaller half on the left": (
        batch(1, 2, 3),
        BOOM,
        0,
        BISECT,
        Split(0, (batch(1), batch(2, 3))),
    ),
    "a single record is not split but retried": (batch(2), BOOM, 0, BISECT, Again(0.2)),
    "a single record at the limit is given up": (batch(2), BOOM, 2, BISECT, GiveUp()),
    "a throttle does not split": (FOUR, Refused(reason="x"), 0, BISECT, Again(0.2, counts=False)),
    "a partial answer retries the suffix whole": (FOUR, Partial(failed=("3",)), 2, LIMITED, Split(2, (batch(3, 4),))),
    "the lowest failed sequence wins, by number": (
        batch(9, 10, 11),
        Partial(failed=("11", "10")),
        0,
        LIMITED,
        Split(1, (batch(10, 11),)),
    ),
    "a partial answer that names the first record is an ordinary failure": (
        FOUR,
        Partial(failed=("1",)),
        1,
        LIMITED,
        Again(0.2),
    ),
    "a partial answer that names the first record at the limit is given up": (
        FOUR,
        Partial(failed=("1", "4")),
        2,
        LIMITED,
        GiveUp(),
    ),
    "bisecting halves the suffix of a partial answer": (
        FOUR,
        Partial(failed=("2",)),
        0,
        BISECT,
        Split(1, (batch(2), batch(3, 4))),
    ),
    "bisecting a partial answer that names the first record halves the batch": (
        FOUR,
        Partial(failed=("1",)),
        0,
        BISECT,
        Split(0, (batch(1, 2), batch(3, 4))),
    ),
    "a suffix of one record has a fresh budget": (FOUR, Partial(failed=("4",)), 2, BISECT, Split(3, (batch(4),))),
}


@pytest.mark.parametrize(("sent", "outcome", "tried", "policy", "step"), STREAM.values(), ids=STREAM.keys())
def test_a_stream(sent: tuple[Record, ...], outcome: Outcome, tried: int, policy: Policy, step: StreamStep):
    assert next_step(sent, outcome, tried=tried, failures=1, policy=policy, chance=0.0) == step


QUEUE: dict[str, tuple[Outcome, int, QueueStep]] = {
    "success advances": (Replied(), 0, Advance()),
    "a failure waits out its visibility": (BOOM, 1, Leave(frozenset("1234"))),
    "a timeout waits out its visibility": (Failed(reason="x", timeout=True), 1, Leave(frozenset("1234"))),
    "a partial answer leaves what it names": (Partial(failed=("2", "4", "2")), 1, Leave(frozenset("24"))),
    "a throttle is tried again": (Refused(reason="x"), 2, Again(0.4, counts=False)),
    "a service error is tried again": (Unavailable(reason="x"), 1, Again(1.0, counts=False)),
}


@pytest.mark.parametrize(("outcome", "failures", "step"), QUEUE.values(), ids=QUEUE.keys())
def test_a_queue(outcome: Outcome, failures: int, step: QueueStep):
    assert next_queue_step(FOUR, outcome, failures=failures, chance=0.0) == step


@given(failures=st.integers(0, 10**9), chance=st.floats(0, 1, exclude_max=True))
def test_a_pause_is_positive_and_never_longer_than_the_cap_and_its_jitter(failures: int, chance: float):
    assert 0.2 <= backoff(failures, chance) <= CAP * 1.35


@given(failures=st.integers(1, 40))
def test_pauses_never_shrink_as_failures_add_up(failures: int):
    assert backoff(failures + 1, 0.0) >= backoff(failures, 0.0)


def test_the_first_pauses_are_those_that_real_mappings_make():
    assert [backoff(failures, 0.0) for failures in (1, 2, 3, 9, 10, 11)] == pytest.approx([0.2, 0.4, 0.8, 51.2, 60, 60])
    assert backoff(1, 0.999) == pytest.approx(0.27, abs=0.001)


@given(ages=st.lists(st.floats(0, 200), min_size=1, max_size=20))
def test_only_a_head_of_old_records_is_named(ages: list[float]):
    old = tuple(Record(id=str(index), body=b"", arrived=1000 - age) for index, age in enumerate(ages))
    count = older_than(old, now=1000.0, age=100.0)
    assert all(1000.0 - record.arrived >= 100 for record in old[:count])
    assert count == len(old) or 1000.0 - old[count].arrived < 100


@pytest.mark.parametrize(
    ("outcome", "text", "failed"),
    [
        (Replied(), "success", 0),
        (Partial(failed=("1", "1", "3")), "partial", 2),
        (Failed(reason=""), "function_error", 4),
        (Failed(reason="", timeout=True), "timeout", 4),
        (Refused(reason=""), "throttled", 4),
        (Unavailable(reason=""), "service_error", 4),
    ],
)
def test_each_outcome_has_its_label_and_its_count_of_failed_records(outcome: Outcome, text: str, failed: int):
    assert label(outcome) == text
    assert failed_records(outcome, 4) == failed
