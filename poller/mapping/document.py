"""The account of given-up records, as Lambda writes it for an on-failure destination. No I/O, no clock, no chance.

Source: semantics 3.8; Lambda guide, "Retaining discarded batches"; documents that real mappings were seen to send.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import msgspec

from poller.model.account import Account
from poller.model.outcome import Failed, Outcome, Partial, Refused, Replied, Unavailable
from poller.model.record import Record, event_of

Family: TypeAlias = Literal["kinesis", "dynamodb"]
GivenUpFor: TypeAlias = Literal["RetryAttemptsExhausted", "RecordAgeExceeded"]

_INFO: Mapping[Family, str] = {"kinesis": "KinesisBatchInfo", "dynamodb": "DDBStreamBatchInfo"}
_PRECISION: Mapping[Family, Literal["milliseconds", "seconds"]] = {"kinesis": "milliseconds", "dynamodb": "seconds"}
"""Of arrival times. DynamoDB itself rounds them to seconds."""


def account_of(
    records: Sequence[Record],
    *,
    condition: GivenUpFor,
    outcome: Outcome | None,
    invoke_count: int,
    request_id: str,
    function: str,
    source_arn: str,
    uuid: str,
    shard: str,
    now: float,
    random_id: str,
    family: Family,
    event: bytes | None = None,
    time_window: Mapping[str, Any] | None = None,
) -> Account:
    """Tell a destination about one batch that was given up.

    Args:
        records: what was given up, in sequence order; none where the last invocation of a tumbling window failed.
        condition: why.
        outcome: of the last invocation with these records; None when there was none.
        invoke_count: invocations of this very batch.
        request_id: of this batch.
        function: the function's ARN, or its name as configured, with its qualifier if it has one.
        uuid: the mapping's.
        now: unix seconds.
        random_id: a new UUID.
        event: what the function was sent, where that is more than the records.
        time_window: the document's `timeWindowInfo`; None leaves it out.
    """
    document: dict[str, Any] = {
        "requestContext": {
            "requestId": request_id,
            "functionArn": function,
            "condition": condition,
            # AWS says 1 of records that were too old before they were sent at all.
            "approximateInvokeCount": max(1, invoke_count),
        }
    }
    response = None if condition == "RecordAgeExceeded" or outcome is None else _response_context(outcome)
    if response is not None:
        document["responseContext"] = response
    document |= {
        "version": "1.0",
        "timestamp": _utc(now, "milliseconds"),
        _INFO[family]: _batch_info(records, shard=shard, source_arn=source_arn, precision=_PRECISION[family]),
    }
    if time_window is not None:
        document["timeWindowInfo"] = time_window
    return Account(
        document=msgspec.json.encode(document),
        event=event_of(records) if event is None else event,
        name=_name(uuid, shard, now, random_id),
    )


def _response_context(outcome: Outcome) -> dict[str, Any] | None:
    """What the function answered; None when the batch did not reach it."""
    match outcome:
        case Failed(ran=False) | Refused() | Unavailable():
            return None
        case Failed(version=version, error=error):
            return _answered(version, error)
        case Partial(version=version) | Replied(version=version):
            return _answered(version, None)


def _answered(version: str, error: str | None) -> dict[str, Any]:
    return {"statusCode": 200, "executedVersion": version, "functionError": error}


def _batch_info(
    records: Sequence[Record], *, shard: str, source_arn: str, precision: Literal["milliseconds", "seconds"]
) -> dict[str, Any]:
    if not records:
        return {"shardId": shard, "streamArn": source_arn}
    first, last = records[0], records[-1]
    return {
        "shardId": shard,
        "startSequenceNumber": first.id,
        "endSequenceNumber": last.id,
        "approximateArrivalOfFirstRecord": _utc(first.arrived, precision),
        "approximateArrivalOfLastRecord": _utc(last.arrived, precision),
        "batchSize": len(records),
        "streamArn": source_arn,
    }


def _name(uuid: str, shard: str, now: float, random_id: str) -> str:
    moment = datetime.fromtimestamp(now, UTC)
    return f"{uuid}/{shard}/{moment:%Y/%m/%d}/{moment:%Y-%m-%dT%H.%M.%S}-{random_id}"


def _utc(time: float, precision: Literal["milliseconds", "seconds"]) -> str:
    """A moment as `2026-11-20T10:00:00.000Z`, or without the fraction."""
    return datetime.fromtimestamp(time, UTC).replace(tzinfo=None).isoformat(timespec=precision) + "Z"
