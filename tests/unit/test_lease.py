"""For how long received messages are ours, as decisions."""

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.mapping import lease
from poller.mapping.lease import LONGEST, Leases
from poller.model.record import Record


def message(number: int = 1) -> Record:
    return Record(id=str(number), body=b"{}", arrived=0.0, receipt=f"r{number}")


def held(*records: Record, at: float = 100.0, seconds: float = 30.0) -> Leases:
    leases = Leases()
    leases.took(records, at=at, seconds=seconds)
    return leases


@pytest.mark.parametrize(
    ("window", "timeout", "expected"),
    [(5.0, 60.0, 95), (300.0, 900.0, 1230), (5.0, 0.5, 36), (0.0, 60.0, 0), (5.0, None, 0), (1.0, 86_400.0, 43_200)],
    ids=["window + timeout + 30", "the longest", "whole seconds", "no window", "timeout not known", "twelve hours"],
)
def test_a_batch_with_a_window_needs_its_window_its_timeout_and_half_a_minute(
    window: float, timeout: float | None, expected: int
):
    assert lease.needed(window=window, timeout=timeout) == expected


@pytest.mark.parametrize(
    ("seconds", "now", "expected"),
    [(30.0, 127.9, 0), (30.0, 128.0, 1), (30.0, 500.0, 1), (5.0, 104.4, 0), (5.0, 104.5, 1)],
    ids=["in time", "two seconds before the end", "long past", "a short lease", "a tenth of a short lease"],
)
def test_what_is_nearly_over_may_not_be_sent(seconds: float, now: float, expected: int):
    record = message()
    leases = held(record, seconds=seconds)
    assert len(leases.over([record], now)) == expected
    assert (now >= leases.sent_until([record])) == bool(expected)


def test_a_message_handed_out_again_has_a_lease_of_its_own():
    first, again = message(), message()
    leases = held(first)
    leases.took((again,), at=140.0, seconds=30.0)
    assert (leases.until([first]), leases.until([again])) == (130.0, 170.0)
    leases.ended([first])
    assert leases.until([again]) == 170.0


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [(5.0, 125.0), (15.0, 115.0), (60.0, 115.0), (None, 115.0)],
    ids=["leaves its timeout", "half the lease", "no more than half", "half when it is not known"],
)
def test_what_is_gathered_leaves_in_time_for_the_function(timeout: float | None, expected: float):
    old, new = message(1), message(2)
    leases = held(old)
    leases.took((new,), at=110.0, seconds=30.0)
    assert leases.leave_by([old, new], timeout) == expected


def test_nothing_gathered_never_leaves():
    assert Leases().leave_by([], 5.0) == math.inf


@pytest.mark.parametrize(
    ("now", "expected"),
    [(109.0, {}), (110.0, {30: 1}), (129.0, {30: 1}), (130.0, {})],
    ids=["a fresh one is left alone", "after a third", "shortly before the end", "one that ended is not ours to renew"],
)
def test_a_lease_is_renewed_from_its_second_third_on(now: float, expected: dict[int, int]):
    due = held(message()).due(now, 30.0)
    assert {seconds: len(records) for seconds, records in due.items()} == expected


def test_a_lease_is_never_renewed_beyond_twelve_hours_from_its_receipt():
    record = message()
    leases, now = held(record, at=0.0), 0.0
    while now < LONGEST + 100:
        for seconds, records in leases.due(now, 30.0).items():
            assert now + seconds <= LONGEST
            leases.renewed(records, at=now, seconds=seconds)
        now += 5.0
    assert leases.until([record]) == pytest.approx(LONGEST, abs=1.0)


def test_what_the_queue_refuses_to_renew_is_not_asked_for_again():
    record = message()
    leases = held(record)
    leases.lost([record])
    assert leases.due(120.0, 30.0) == {}


def test_what_ended_while_it_was_renewed_is_passed_over():
    record = message()
    leases = held(record)
    leases.ended([record])
    leases.renewed([record], at=110.0, seconds=30.0)
    leases.lost([record])
    assert len(leases) == 0


def test_renewing_a_part_of_a_receive_leaves_the_lease_of_the_rest_as_it_was():
    kept, renewed, lost = messages = tuple(message(number) for number in range(3))
    leases = held(*messages)
    leases.renewed([renewed], at=120.0, seconds=30.0)
    leases.lost([lost])
    assert [leases.until([each]) for each in messages] == [130.0, 150.0, 130.0]
    assert (leases.until(messages), leases.sent_until(messages), leases.past(messages, 135.0)) == (130.0, 128.0, 2)
    assert leases.over(messages, 129.0) == [kept, lost]
    assert leases.due(125.0, 30.0) == {30: [kept]}
    assert {leases.received(each) for each in messages} == {100.0}


def test_a_receive_is_held_until_its_last_message_has_ended():
    messages = tuple(message(number) for number in range(3))
    leases = held(*messages)
    leases.ended(messages[:1])
    assert (len(leases), leases.until(messages[1:])) == (2, 130.0)
    leases.ended(messages[1:])
    assert len(leases) == 0


def test_messages_of_two_receives_are_none_of_them_though_they_are_equal():
    first, second = (message(), message()), (message(),)
    leases = held(*first)
    leases.took(second, at=140.0, seconds=30.0)
    leases.ended((first[0], second[0]))
    assert (len(leases), leases.until(first[1:])) == (1, 130.0)


class Plain:
    """Leases told the obvious way: each message has its own."""

    def __init__(self) -> None:
        self.held: dict[int, list[float]] = {}

    def took(self, records: tuple[Record, ...], at: float, seconds: float) -> None:
        self.held |= {id(each): [at + seconds, seconds, 0] for each in records}

    def until(self, records: Sequence[Record]) -> float:
        return min(self.held[id(each)][0] for each in records)

    def leave_by(self, records: Sequence[Record]) -> float:
        return min((self.held[id(each)][0] - self.held[id(each)][1] / 2 for each in records), default=math.inf)

    def renewed(self, records: Sequence[Record], at: float, seconds: float) -> None:
        for each in records:
            if id(each) in self.held:
                self.held[id(each)][:2] = [at + seconds, seconds]

    def lost(self, records: Sequence[Record]) -> None:
        for each in records:
            if id(each) in self.held:
                self.held[id(each)][2] = 1

    def due(self, now: float) -> set[int]:
        return {key for key, (until, _, lost) in self.held.items() if not lost and now < until <= now + 20.0}


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_a_receive_that_is_looked_at_as_a_whole_is_held_as_its_messages_would_be_one_by_one(
    sizes: list[int], dice: random.Random
):
    leases, plain, receives = Leases(), Plain(), list[tuple[Record, ...]]()
    for number, size in enumerate(sizes):
        receives.append(tuple(message() for _ in range(size)))  # equal to one another, and not the same
        leases.took(receives[-1], at=100.0 + number, seconds=30.0)
        plain.took(receives[-1], 100.0 + number, 30.0)
    everything = [each for receive in receives for each in receive]
    for _ in range(8):
        left = [each for each in everything if id(each) in plain.held]
        whole = [each for each in receives if all(id(record) in plain.held for record in each)]
        part = dice.choice([*whole, tuple(dice.sample(left, dice.randint(0, len(left))))])
        step = dice.choice(["ended", "renewed", "lost", "look", "look", "due"])
        if step == "ended":
            leases.ended(part)
            for each in part:
                del plain.held[id(each)]
        elif step == "renewed":
            leases.renewed(part, at=110.0, seconds=40.0)
            plain.renewed(part, 110.0, 40.0)
        elif step == "lost":
            leases.lost(part)
            plain.lost(part)
        elif step == "due":
            due = leases.due(112.0, 30.0)
            assert {id(each) for records in due.values() for each in records} == plain.due(112.0)
        elif part:
            assert leases.until(part) == plain.until(part)
            assert leases.sent_until(part) == plain.until(part) - 2.0
        assert leases.leave_by(part if step == "look" else (), None) == plain.leave_by(part if step == "look" else ())
        assert len(leases) == len(plain.held)
