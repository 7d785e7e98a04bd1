"""Which answer of an HTTP function means what: the table of its documentation."""

import pytest
from multidict import CIMultiDict

from poller.model.outcome import Failed, Outcome, Refused, Replied, Unavailable, label
from poller.targets.http import HttpFunction, classify, is_emulator

NOW = 1_800_000_000.0
ERROR = b'{"errorType": "T", "errorMessage": "m"}'


def told(status: int, body: bytes = b"", emulator: bool = False, **headers: str) -> Outcome:
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return classify(status, named, body, emulator=emulator, now=NOW)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, Replied(body=b"x")),
        (201, Replied(body=b"x")),
        (204, Replied(body=b"x")),
        (301, Unavailable(reason="status 301: redirects to nowhere are not followed", lasting=True)),
        (400, Failed(reason="status 400: x")),
        (401, Unavailable(reason="status 401: x", lasting=True)),
        (403, Unavailable(reason="status 403: x", lasting=True)),
        (404, Unavailable(reason="status 404: x", lasting=True)),
        (405, Unavailable(reason="status 405: x", lasting=True)),
        (409, Failed(reason="status 409: x")),
        (413, Failed(reason="status 413: x", error=None, ran=False)),
        (422, Failed(reason="status 422: x")),
        (429, Refused(reason="status 429: x")),
        (500, Failed(reason="status 500: x")),
        (501, Unavailable(reason="status 501: x")),
        (502, Unavailable(reason="status 502: x")),
        (503, Refused(reason="status 503: x")),
        (504, Unavailable(reason="status 504: x")),
        (521, Unavailable(reason="status 521: x")),
    ],
    ids=str,
)
@pytest.mark.parametrize("emulator", [False, True], ids=["plain", "emulator"])
def test_status_decides(status, expected, emulator):
    assert told(status, b"x", emulator) == expected


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_kept(status):
    assert told(status, retry_after="9") == Refused(reason=f"status {status}", after=9.0)


def test_redirect_says_where_it_leads():
    outcome = told(308, location="http://elsewhere/")
    assert outcome == Unavailable(reason="status 308: redirects to http://elsewhere/ are not followed", lasting=True)


def test_function_error_header_is_a_failure_at_any_path():
    assert told(200, ERROR, x_amz_function_error="Unhandled") == Failed(reason="T: m")


def test_failure_with_an_account_tells_it():
    assert told(500, ERROR) == Failed(reason="T: m")


def test_error_object_is_a_failure_from_an_emulator_and_a_reply_from_others():
    assert told(200, ERROR, emulator=True) == Failed(reason="T: m")
    assert told(200, ERROR) == Replied(body=ERROR)


def test_emulator_tells_in_plain_text_that_time_ran_out():
    text = b"Task timed out after 3.00 seconds"
    assert told(200, text, emulator=True) == Failed(reason=text.decode(), timeout=True)
    assert told(200, text) == Replied(body=text)


def test_emulator_whose_function_does_not_start_has_failed():
    assert label(told(502, ERROR, emulator=True)) == "function_error"
    assert label(told(502, ERROR)) == "service_error"


def test_emulator_at_work_refuses_the_next_event():
    assert label(told(400, emulator=True)) == "throttled"
    assert label(told(400)) == "function_error"


@pytest.mark.parametrize(
    ("url", "emulator"),
    [
        ("http://orders:8080/2015-03-31/functions/function/invocations", True),
        ("http://orders:8080/2015-03-31/functions/function/invocations/", True),
        ("http://orders:8080/lambda/2015-03-31/functions/a%3Ab/invocations?Qualifier=live", True),
        ("http://orders:8080/2015-03-31/functions/function/invocations/more", False),
        ("http://orders:8080/2015-03-31/functions/invocations", False),
        ("http://orders:8080/?next=/2015-03-31/functions", False),
        ("http://orders:8080/", False),
    ],
)
def test_emulator_is_known_by_its_path(url, emulator):
    assert is_emulator(url) is emulator


def test_headers_are_not_shown_when_settings_are_printed():
    function = HttpFunction(name="f", url="http://x", headers=(("Authorization", "Bearer secret"),))
    assert "secret" not in repr(function)
