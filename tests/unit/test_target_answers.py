"""What answers say about a function's failure."""

import json

import pytest

from poller.model.outcome import Failed
from poller.targets.answers import LINE_LIMIT, emulated_failure, failure_of, retry_after

NOW = 1_800_000_000.0


def test_reason_is_error_type_and_message_in_one_line():
    body = json.dumps({"errorType": "ValueError", "errorMessage": "two\n  lines", "stackTrace": ["a"]}).encode()
    assert failure_of(body) == Failed(reason="ValueError: two lines")


def test_reason_of_bearable_length():
    body = json.dumps({"errorType": "E", "errorMessage": "x" * 100_000}).encode()
    assert len(failure_of(body).reason) == LINE_LIMIT


@pytest.mark.parametrize(
    ("body", "reason", "timeout"),
    [
        (
            b'{"errorMessage": "2026 0aa Task timed out after 3.00 seconds"}',
            "2026 0aa Task timed out after 3.00 seconds",
            True,
        ),
        (b'{"errorType": "Sandbox.Timedout", "errorMessage": "late"}', "Sandbox.Timedout: late", True),
        (b'{"errorType": "E", "errorMessage": ""}', "E", False),
        (b'{"errorType": "E", "errorMessage": null}', "E", False),
        (b'{"errorType": "E", "errorMessage": {"a": 1}}', "E: {'a': 1}", False),
        (b'{"errorMessage": "alone"}', "Unhandled: alone", False),
        (b"{}", "Unhandled", False),
        (b"", "Unhandled", False),
        (b"[1]", "Unhandled: [1]", False),
        (b"\xffnot json", "Unhandled: \ufffdnot json", False),
    ],
    ids=[
        "time ran out, told by the message",
        "time ran out, told by the type",
        "empty message",
        "null message",
        "message that is no text",
        "no type",
        "empty account",
        "empty body",
        "an array",
        "neither JSON nor UTF-8",
    ],
)
def test_account_of_a_failure_is_read_whatever_its_form(body, reason, timeout):
    failure = failure_of(body, error_type="" if "0aa" in reason else "Unhandled")
    assert (failure.reason, failure.timeout) == (reason, timeout)


def test_failure_that_says_nothing_has_a_reason_all_the_same():
    assert failure_of(b"").reason == "the function failed and did not say why"


@pytest.mark.parametrize(
    ("body", "failed"),
    [
        (b'{"errorMessage": "m", "errorType": "T"}', True),
        (b'{"errorMessage": "m", "errorType": "T", "stackTrace": [], "requestId": "1"}', True),
        (b'{"errorMessage": "m", "errorType": "T", "trace": [], "cause": {}}', True),
        (b'{"errorMessage": "m", "errorType": "T", "more": 1}', False),
        (b'{"errorMessage": "m"}', False),
        (b'{"errorType": "T"}', False),
        (b'["errorMessage", "errorType"]', False),
        (b'"errorMessage" "errorType"', False),
        (b"Task timed out after 3.00 seconds", True),
        (b'"Task timed out after 3.00 seconds"', False),
        (b'{"message": "Task timed out after 3.00 seconds"}', False),
        (b"", False),
    ],
    ids=[
        "both keys",
        "a stack and a request id",
        "as Node.js and .NET write it",
        "a key that no error has",
        "no type",
        "no message",
        "an array of the words",
        "not JSON",
        "the bare text that time ran out",
        "that text as a JSON string",
        "that text in an object",
        "nothing",
    ],
)
def test_emulator_hides_a_failure_in_a_reply_of_exactly_this_shape(body, failed):
    assert (emulated_failure(body) is not None) is failed


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0.0),
        ("", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("-3", 0.0),
        ("1.5", 0.0),
        ("soon", 0.0),
        ("²", 0.0),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30.0),
        ("Fri, 15 Jan 2027 08:00:30 -0000", 30.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("Fri, 15 Jan 20270000000 07:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, seconds):
    assert retry_after(value, NOW) == seconds
