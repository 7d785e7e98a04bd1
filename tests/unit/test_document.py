"""What an on-failure destination is told, fact by fact, as AWS was seen to write it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from poller.mapping.document import Family, GivenUpFor, account_of
from poller.model.account import Account
from poller.model.outcome import Failed, Outcome, Partial, Refused, Replied, Unavailable
from poller.model.record import Record, event_of

FUNCTION = "arn:aws:lambda:eu-west-1:111122223333:function:orders:live"
STREAM = "arn:aws:kinesis:eu-west-1:111122223333:stream/orders"
UUID = "59004163-e744-5d20-acdc-01d51c799621"
SHARD = "shardId-000000000001"
NOW = 1_573_691_889.1239
"""2019-11-14T00:38:09.123Z and a little."""
RECORDS = (
    Record(id="100", body='{"n":"ü\\u0000\\""}'.encode(), arrived=1_573_691_886.021),
    Record(id="205", body=b'{"n":2}', arrived=1_573_691_887.0),
    Record(id="310", body=b'{"n":3}', arrived=1_573_691_888.983),
)


def account(
    records: tuple[Record, ...] = RECORDS,
    *,
    condition: GivenUpFor = "RetryAttemptsExhausted",
    outcome: Outcome | None = Failed(reason="boom"),  # noqa: B008  a frozen value
    invoke_count: int = 3,
    family: Family = "kinesis",
    event: bytes | None = None,
    time_window: dict[str, Any] | None = None,
) -> Account:
    return account_of(
        records,
        condition=condition,
        outcome=outcome,
        invoke_count=invoke_count,
        request_id="c9b8fa9f-5a7f-xmpl-af9c-0c604cde93a5",
        function=FUNCTION,
        source_arn=STREAM,
        uuid=UUID,
        shard=SHARD,
        now=NOW,
        random_id="7f1b0f4c-0000-4000-8000-000000000000",
        family=family,
        event=event,
        time_window=time_window,
    )


def document(found: Account) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(found.document)
    return decoded


def test_the_document_has_lambdas_keys_in_lambdas_order():
    expected = {
        "requestContext": {
            "requestId": "c9b8fa9f-5a7f-xmpl-af9c-0c604cde93a5",
            "functionArn": FUNCTION,
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 3,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": "2019-11-14T00:38:09.123Z",
        "KinesisBatchInfo": {
            "shardId": SHARD,
            "startSequenceNumber": "100",
            "endSequenceNumber": "310",
            "approximateArrivalOfFirstRecord": "2019-11-14T00:38:06.021Z",
            "approximateArrivalOfLastRecord": "2019-11-14T00:38:08.983Z",
            "batchSize": 3,
            "streamArn": STREAM,
        },
    }
    assert account().document.decode() == json.dumps(expected, separators=(",", ":"))


def test_a_table_streams_batch_is_named_otherwise_and_arrived_in_whole_seconds():
    found = document(account(family="dynamodb"))
    assert list(found) == ["requestContext", "responseContext", "version", "timestamp", "DDBStreamBatchInfo"]
    assert found["timestamp"] == "2019-11-14T00:38:09.123Z"
    assert found["DDBStreamBatchInfo"] == {
        "shardId": SHARD,
        "startSequenceNumber": "100",
        "endSequenceNumber": "310",
        "approximateArrivalOfFirstRecord": "2019-11-14T00:38:06Z",
        "approximateArrivalOfLastRecord": "2019-11-14T00:38:08Z",
        "batchSize": 3,
        "streamArn": STREAM,
    }


def test_a_moment_on_the_second_still_has_its_milliseconds():
    info = document(account(RECORDS[1:2]))["KinesisBatchInfo"]
    assert info["approximateArrivalOfFirstRecord"] == "2019-11-14T00:38:07.000Z"


def test_a_batch_of_one_starts_and_ends_with_its_record():
    info = document(account(RECORDS[2:]))["KinesisBatchInfo"]
    assert (info["startSequenceNumber"], info["endSequenceNumber"], info["batchSize"]) == ("310", "310", 1)
    assert info["approximateArrivalOfFirstRecord"] == info["approximateArrivalOfLastRecord"]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Failed(reason="x", version="7"), {"executedVersion": "7", "functionError": "Unhandled"}),
        (Failed(reason="x", error="Handled"), {"executedVersion": "$LATEST", "functionError": "Handled"}),
        (Failed(reason="x", timeout=True), {"executedVersion": "$LATEST", "functionError": "Unhandled"}),
        (Failed(reason="x", error=None), {"executedVersion": "$LATEST", "functionError": None}),
        (Partial(failed=("100",), version="7"), {"executedVersion": "7", "functionError": None}),
        (Replied(version="7"), {"executedVersion": "7", "functionError": None}),
    ],
    ids=["exception", "handled", "timeout", "unreadable answer", "partial answer", "answer"],
)
def test_the_response_says_which_version_ran_and_how_it_failed(outcome: Outcome, expected: dict[str, Any]):
    found = document(account(outcome=outcome))["responseContext"]
    assert found == {"statusCode": 200} | expected
    assert list(found) == ["statusCode", "executedVersion", "functionError"]


@pytest.mark.parametrize(
    "outcome",
    [Failed(reason="too large", ran=False), Refused(reason="throttled"), Unavailable(reason="no such function"), None],
    ids=["too large", "throttled", "unavailable", "never invoked"],
)
def test_a_batch_that_never_reached_the_function_has_no_response(outcome: Outcome | None):
    found = document(account(outcome=outcome))
    assert list(found) == ["requestContext", "version", "timestamp", "KinesisBatchInfo"]


@pytest.mark.parametrize(
    "outcome", [None, Failed(reason="boom"), Partial(failed=("100",))], ids=["never invoked", "failed", "partial"]
)
def test_records_that_are_too_old_have_no_response(outcome: Outcome | None):
    found = document(account(condition="RecordAgeExceeded", outcome=outcome))
    assert list(found) == ["requestContext", "version", "timestamp", "KinesisBatchInfo"]
    assert found["requestContext"]["condition"] == "RecordAgeExceeded"


@pytest.mark.parametrize(("invoked", "told"), [(0, 1), (1, 1), (8, 8)])
def test_records_that_were_too_old_before_they_were_sent_are_told_as_sent_once(invoked: int, told: int):
    found = document(account(condition="RecordAgeExceeded", outcome=None, invoke_count=invoked))
    assert found["requestContext"]["approximateInvokeCount"] == told


def test_a_final_invocation_without_records_names_only_the_shard():
    window = {"start": "2019-11-14T00:38:00Z", "end": "2019-11-14T00:39:00Z"}
    found = document(account((), time_window=window))
    assert found["KinesisBatchInfo"] == {"shardId": SHARD, "streamArn": STREAM}
    assert list(found)[-1] == "timeWindowInfo"
    assert found["timeWindowInfo"] == window


def test_the_account_holds_the_event_that_the_function_was_sent():
    assert account().event == event_of(RECORDS)
    assert account((), event=b'{"Records":[],"isFinalInvokeForWindow":true}').event.endswith(b"true}")


def test_the_name_has_the_mapping_the_shard_the_day_and_the_second():
    assert account().name == (f"{UUID}/{SHARD}/2019/11/14/2019-11-14T00.38.09-7f1b0f4c-0000-4000-8000-000000000000")


def test_the_same_arguments_tell_the_same():
    assert account() == account()
