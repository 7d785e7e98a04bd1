"""Dates as servers write them into headers. No I/O, no clock."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime


def moment_of(date: str) -> float | None:
    """Unix seconds of a date of HTTP; None where it is none, or lies beyond all years. Source: RFC 9110, section 5.6.7."""
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):  # the second of a year without end
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
