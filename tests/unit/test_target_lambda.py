"""Which answer of Invoke means what."""

import base64
import json

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.aws.calls import Answer
from poller.aws.fast.calls import headers_of
from poller.aws.fast.exchange import Reply
from poller.model.outcome import Failed, Outcome, Partial, Refused, Replied, Unavailable
from poller.targets.aws_lambda import BATCH_FAULTS, LASTING, THROTTLES, TRANSIENT, classify

NOW = 1_800_000_000.0


def answered(status: int, body: bytes = b"", **headers: str) -> Outcome:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return classify(Answer(status=status, headers=named, body=body), NOW)


def test_reply_is_passed_on_untouched():
    assert answered(200, b' {"a": 1}\n') == Replied(body=b' {"a": 1}\n')


def test_empty_reply_is_a_reply():
    assert answered(200) == Replied(body=b"")


def test_reply_that_looks_like_an_error_is_a_reply_without_the_header():
    body = b'{"errorMessage": "m", "errorType": "T"}'
    assert answered(200, body) == Replied(body=body)


def test_function_error_is_a_failure_with_the_end_of_its_log():
    body = json.dumps({"errorMessage": "no", "errorType": "KeyError", "stackTrace": []}).encode()
    log = base64.b64encode(b"START\n\xc3\xa9\nEND").decode()
    outcome = answered(200, body, x_amz_function_error="Unhandled", x_amz_log_result=log)
    assert outcome == Failed(reason="KeyError: no", log_tail="START\né\nEND")


def test_version_that_ran_is_kept():
    assert answered(200, b"{}", x_amz_executed_version="7") == Replied(body=b"{}", version="7")
    outcome = answered(200, b"", x_amz_executed_version="7", x_amz_function_error="Unhandled")
    assert outcome == Failed(reason="Unhandled", version="7")


def test_batch_that_lambda_refuses_never_reached_the_function():
    outcome = answered(413, b'{"message": "m"}', x_amzn_errortype="RequestTooLargeException")
    assert outcome == Failed(reason="RequestTooLargeException: m", error=None, ran=False)


def test_log_that_is_not_base64_is_left_out():
    assert answered(200, b"{}", x_amz_function_error="Handled", x_amz_log_result="%%%") == Failed(
        reason="Handled", error="Handled"
    )


@pytest.mark.parametrize(
    "account",
    [
        {"errorType": "Sandbox.Timedout", "errorMessage": "RequestId: 1 Error: Task timed out after 3.00 seconds"},
        {"errorMessage": "2026-11-20T10:00:00Z 1 Task timed out after 3.00 seconds"},
    ],
)
def test_function_that_ran_out_of_time_is_told_apart(account):
    outcome = answered(200, json.dumps(account).encode(), x_amz_function_error="Unhandled")
    assert isinstance(outcome, Failed)
    assert outcome.timeout


def test_function_error_without_account_is_a_failure():
    assert answered(200, b"", x_amz_function_error="Unhandled") == Failed(reason="Unhandled")


def test_throttle_says_why_and_how_long():
    body = (
        b'{"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded", "Type": "User", "message": "Rate Exceeded."}'
    )
    outcome = answered(429, body, x_amzn_errortype="TooManyRequestsException", retry_after="2")
    reason = "TooManyRequestsException: Rate Exceeded. (ReservedFunctionConcurrentInvocationLimitExceeded)"
    assert outcome == Refused(reason=reason, after=2.0)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (429, "TooManyRequestsException", "throttled"),
        (429, "", "throttled"),
        (502, "EC2ThrottledException", "throttled"),
        (400, "ThrottlingException", "throttled"),
        (500, "ServiceException", "passes"),
        (500, "", "passes"),
        (502, "ENINotReadyException", "passes"),
        (502, "EC2UnexpectedException", "passes"),
        (503, "", "passes"),
        (504, "", "passes"),
        (409, "ResourceConflictException", "passes"),
        (409, "SnapStartNotReadyException", "passes"),
        (409, "", "passes"),
        (408, "EFSMountTimeoutException", "passes"),
        (410, "EFSIOException", "passes"),
        (404, "ResourceNotFoundException", "lasts"),
        (404, "", "lasts"),
        (403, "AccessDeniedException", "lasts"),
        (403, "InvalidSignatureException", "lasts"),
        (403, "", "lasts"),
        (402, "ServiceQuotaExceededException", "lasts"),
        (502, "KMSDisabledException", "lasts"),
        (502, "InvalidRuntimeException", "lasts"),
        (400, "RecursiveInvocationException", "lasts"),
        (400, "NoPublishedVersionException", "lasts"),
        (400, "NobodyKnowsException", "lasts"),
        (409, "CodeArtifactUserFailedException", "lasts"),
        (301, "", "lasts"),
        (413, "RequestTooLargeException", "batch"),
        (413, "", "batch"),
        (400, "InvalidRequestContentException", "batch"),
        (415, "UnsupportedMediaTypeException", "batch"),
    ],
)
def test_error_answers_mean_what_lambda_documents(status, code, expected):
    outcome = answered(status, b'{"message": "m"}', **({"x_amzn_errortype": f"{code}:http://x/"} if code else {}))
    assert kind(outcome) == expected
    assert outcome.reason == f"{code or f'status {status}'}: m"  # type: ignore[union-attr]  # no reply is among them


def kind(outcome: Outcome) -> str:
    match outcome:
        case Refused():
            return "throttled"
        case Failed():
            return "batch"
        case Unavailable(lasting=lasting):
            return "lasts" if lasting else "passes"
        case Replied() | Partial():
            return "reply"


def test_code_is_found_in_the_body_when_no_header_names_it():
    body = b'{"__type": "com.amazonaws.lambda#ResourceNotFoundException", "Message": "Function not found"}'
    assert answered(404, body) == Unavailable(reason="ResourceNotFoundException: Function not found", lasting=True)


def test_every_error_that_the_api_documents_has_its_place():
    model = botocore.session.get_session().get_service_model("lambda")
    documented = {shape.name for shape in model.operation_model("Invoke").error_shapes}
    assert documented - (THROTTLES | TRANSIENT | LASTING | BATCH_FAULTS) == set()


def test_no_error_has_two_places():
    places = [THROTTLES, TRANSIENT, LASTING, BATCH_FAULTS]
    assert len(frozenset.union(*places)) == sum(map(len, places))


told = {
    "Content-Type": "application/json",
    "Date": "Mon, 30 Nov 2026 00:00:00 GMT",
    "X-Amz-Executed-Version": "7",
    "X-Amz-Function-Error": "Unhandled",
    "X-Amz-Log-Result": base64.b64encode(b"END").decode(),
    "X-Amzn-ErrorType": "TooManyRequestsException",
    "Retry-After": "3",
    "X-Unheard-Of": "1",
}


@given(
    status=st.sampled_from([200, 202, 400, 429, 500]),
    headers=st.dictionaries(st.sampled_from(sorted(told)), st.sampled_from([str, str.lower, str.upper]), max_size=8),
    body=st.sampled_from([b"", b"null", b'{"errorMessage":"m","errorType":"T"}']),
)
def test_an_answer_means_what_it_would_with_all_of_its_headers(status, headers, body):
    raw = {spell(name).encode(): told[name].encode() for name, spell in headers.items()}
    reply = Reply(status=status, raw_headers=raw, body=body, signed=0)
    whole = {name.lower(): told[name] for name in headers}
    assert reply.headers() == whole
    looked_at = Answer(status=status, headers=headers_of(reply), body=body)
    assert classify(looked_at, NOW) == classify(Answer(status=status, headers=whole, body=body), NOW)
