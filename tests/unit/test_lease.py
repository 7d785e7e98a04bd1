"""For how long received messages are ours, as decisions."""

import math

import pytest

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
    leases.took([again], at=140.0, seconds=30.0)
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
    leases.took([new], at=110.0, seconds=30.0)
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
