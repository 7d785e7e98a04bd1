"""Dates of headers, and what is none."""

import pytest

from poller.model.dates import moment_of


@pytest.mark.parametrize(
    ("date", "moment"),
    [
        ("Thu, 01 Jan 2026 00:00:10 GMT", 1_767_225_610.0),
        ("Thu, 01 Jan 2026 01:00:10 +0100", 1_767_225_610.0),
        ("Thu, 01 Jan 2026 00:00:10 -0000", 1_767_225_610.0),
        ("", None),
        ("yesterday", None),
        ("Thu, 32 Jan 2026 00:00:10 GMT", None),
        ("Thu, 01 Jan 99999999999 00:00:10 GMT", None),
    ],
)
def test_the_moment_of_a_date(date: str, moment: float | None):
    assert moment_of(date) == moment
