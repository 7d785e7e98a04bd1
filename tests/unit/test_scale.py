"""How many batches of a queue are in flight and how many receives under way, as decisions."""

import math
from dataclasses import replace

import pytest

from poller.mapping import scale
from poller.mapping.scale import Scale
from poller.model.outcome import Failed, Outcome, Partial, Refused, Replied, Unavailable
from poller.model.policy import Policy, Scaling
from poller.model.record import TrimHorizon

POLICY = Policy(batch_size=10, start=TrimHorizon())
RULE = POLICY.scaling
FAILED, REFUSED = Failed(reason="Boom"), Refused(reason="429")


def at(limit: int, *, receives: int = 1, hungry: bool = False) -> Scale:
    return Scale(limit=limit, receives=receives, hungry=hungry, grown=0.0)


def load(*, batches: int = 0, held: int = 0, receives: int = 0, asked: int = 0) -> dict[str, int]:
    return {"batches": batches, "held": held, "receives": receives, "asked": asked}


def test_a_queue_starts_with_five_batches_and_one_receive():
    first = scale.beginning(RULE, 7.0)
    assert (first.limit, first.receives) == (5, 1)


@pytest.mark.parametrize(
    ("state", "busy", "size", "window", "expected"),
    [
        (at(5), load(), 10, 0.0, 10),
        (at(5), load(), 3, 0.0, 3),
        (at(5), load(receives=1, asked=10), 10, 0.0, 0),
        (at(5, receives=8), load(receives=4, asked=40), 10, 0.0, 10),
        (at(5, receives=8), load(receives=5, asked=50), 10, 0.0, 0),
        (at(5, receives=8), load(batches=4, receives=1, asked=10), 10, 0.0, 0),
        (at(5), load(batches=5), 10, 0.0, 0),
        (at(2), load(batches=7), 10, 0.0, 0),
        (at(5), load(held=20), 100, 5.0, 10),
        (at(1, receives=8), load(held=85, receives=1, asked=10), 100, 5.0, 5),
        (at(1, receives=8), load(held=90, receives=1, asked=10), 100, 5.0, 0),
        (at(2, receives=8), load(held=90, receives=1, asked=10), 100, 5.0, 10),
        (at(2), load(batches=3, held=5), 100, 5.0, 0),
    ],
    ids=[
        "an idle queue is asked for ten",
        "a small batch is asked for as it is",
        "one receive at a time",
        "several while they come back full",
        "each of them needs a batch to itself",
        "a batch in flight takes the place of one",
        "nothing is received while all batches are in flight",
        "nothing is received while there are more than there should be",
        "a batch is gathered from several receives",
        "the last receive asks for what is missing",
        "what is asked for may fill the batch",
        "the next batch begins where another may be in flight",
        "nothing is gathered for a batch that may not be sent",
    ],
)
def test_only_what_could_be_sent_at_once_is_received(
    state: Scale, busy: dict[str, int], size: int, window: float, expected: int
):
    assert scale.may_receive(state, replace(POLICY, batch_size=size, window=window), **busy) == expected


def test_receives_double_while_they_come_back_full_and_one_that_does_not_ends_it():
    state, seen = at(100), []
    for _ in range(6):
        state = scale.after_receive(state, RULE, records=10, full=True, now=0.0)
        seen.append(state.receives)
    assert seen == [2, 4, 8, 16, 16, 16]
    assert scale.after_receive(state, RULE, records=9, full=False, now=0.0).receives == 1


@pytest.mark.parametrize(
    ("limit", "records", "expected"),
    [(100, 0, 50), (6, 0, 5), (5, 0, 5), (2, 0, 2), (100, 3, 100)],
    ids=["halves", "not below the start", "stays", "does not grow when the function failed", "with messages it stays"],
)
def test_an_empty_receive_shrinks_towards_the_start(limit: int, records: int, expected: int):
    assert scale.after_receive(at(limit), RULE, records=records, full=False, now=0.0).limit == expected


@pytest.mark.parametrize("rule", [Scaling(), Scaling(start=20, least=20, most=5000, per_minute=1000)])
def test_growth_keeps_to_what_aws_allows_in_a_minute(rule: Scaling):
    state, now = replace(at(rule.start, hungry=True), limit=rule.start), 0.0
    while now < 60:
        now += 0.013
        state = scale.grow(state, rule, batches=state.limit, now=now)
    assert rule.per_minute * 0.9 < state.limit - rule.start <= rule.per_minute


def test_growth_is_not_saved_up_while_nobody_needs_it():
    assert scale.grow(at(5, hungry=True), RULE, batches=5, now=3600.0).limit == 10


@pytest.mark.parametrize(
    ("state", "batches"),
    [(at(5), 5), (at(5, hungry=True), 4), (at(1250, hungry=True), 1250), (replace(at(5, hungry=True), health=0.4), 5)],
    ids=["receives are not full", "not all batches are in flight", "the most are", "most calls fail"],
)
def test_nothing_grows_without_need(state: Scale, batches: int):
    assert scale.grow(state, RULE, batches=batches, now=10.0) == state
    assert (scale.looks_at(state, RULE, now=0.0) == math.inf) is (batches >= state.limit)


def test_the_moment_of_growth_is_foretold():
    state = at(5, hungry=True)
    moment = scale.looks_at(state, RULE, now=0.1)
    assert moment == pytest.approx(0.2)
    assert scale.grow(state, RULE, batches=5, now=moment).limit == 6
    assert scale.grow(state, RULE, batches=5, now=moment - 0.01).limit == 5
    assert scale.looks_at(state, RULE, now=7.0) == pytest.approx(7.2)  # too few batches have been there to grow


@pytest.mark.parametrize(
    ("outcome", "partial", "limit", "expected"),
    [
        (FAILED, False, 100, 90),
        (FAILED, False, 5, 4),
        (FAILED, False, 2, 2),
        (FAILED, True, 100, 100),
        (REFUSED, False, 100, 50),
        (REFUSED, True, 100, 50),
        (REFUSED, False, 3, 2),
        (Unavailable(reason="503"), False, 100, 90),
        (Replied(), False, 100, 100),
        (Partial(failed=("1",)), True, 100, 100),
    ],
    ids=[
        "an error takes a tenth",
        "at least one",
        "never less than two",
        "but nothing under ReportBatchItemFailures",
        "a throttle halves",
        "under ReportBatchItemFailures too",
        "but leaves two",
        "a service error is as an error",
        "success changes nothing",
        "nor does partial success",
    ],
)
def test_a_function_that_fails_or_is_throttled_has_fewer_batches(
    outcome: Outcome, partial: bool, limit: int, expected: int
):
    policy = replace(POLICY, partial=partial)
    assert scale.after_call(at(limit), policy, outcome, now=10.0).limit == expected


def test_many_failures_of_one_second_count_once():
    state = at(100)
    for step in range(50):
        state = scale.after_call(state, POLICY, FAILED, now=10.0 + step / 100)
    assert state.limit == 90
    assert scale.after_call(state, POLICY, FAILED, now=11.0).limit == 81


def test_success_leads_back_to_the_start_though_receives_are_never_full():
    state, now = scale.after_call(at(3), POLICY, REFUSED, now=0.0), 0.0
    for _ in range(100):
        now += 0.1
        state = scale.after_call(state, POLICY, Replied(), now=now)
    assert state.limit == 5


def test_a_function_that_is_down_is_left_alone_until_it_answers():
    state = at(100, hungry=True)
    for step in range(60):
        state = scale.after_call(state, POLICY, FAILED, now=step + 0.5)
        state = scale.grow(state, RULE, batches=state.limit, now=step + 1.0)
    assert state.limit == 2
    for step in range(60, 70):
        state = scale.after_call(state, POLICY, Replied(), now=step + 0.5)
        state = scale.grow(state, RULE, batches=state.limit, now=step + 1.0)
    assert state.limit > 5


def test_a_few_failures_among_many_successes_do_not_stop_the_growth():
    state = at(5, hungry=True)
    for step in range(2000):
        state = scale.after_call(state, POLICY, REFUSED if step % 100 == 0 else Replied(), now=step / 10)
        state = scale.grow(state, RULE, batches=state.limit, now=step / 10)
    assert state.limit > 30


def test_provisioned_pollers_are_kept_whatever_fails():
    policy = replace(POLICY, scaling=Scaling(least=20, start=20, most=2000, per_minute=1000))
    state = scale.beginning(policy.scaling, 0.0)
    for now in range(1, 20):
        state = scale.after_call(state, policy, REFUSED, now=float(now))
        state = scale.after_receive(state, policy.scaling, records=0, full=False, now=float(now))
    assert state.limit == 20
