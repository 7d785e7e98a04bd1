"""A document of given-up records, read again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from poller.mapping.document import account_of
from poller.mapping.givenup import batch_of, kept_in, read
from poller.mapping.lanes import divide
from poller.mapping.row import LaneRow
from poller.model.record import Record


def a_record(number: int) -> Record:
    return Record(id=f"{number:021}", body=b"{}", arrived=1.0, key=f"key-{number % 7}")


def a_document(*records: Record, **more: Any) -> bytes:
    account = account_of(
        records,
        condition="RetryAttemptsExhausted",
        outcome=None,
        invoke_count=1,
        request_id="r",
        function="f",
        source_arn="arn:s",
        uuid="u",
        shard="shard-0",
        now=1.0,
        random_id="i",
        family="dynamodb",
    )
    return json.dumps(json.loads(account.document) | more).encode()


@pytest.mark.parametrize("lanes", [1, 4])
def test_the_batch_that_was_given_up_is_found_again_among_the_records_of_all_lanes(lanes: int):
    records = [a_record(number) for number in range(1, 100)]
    for part in divide(records, (LaneRow(),) * lanes, "").parts:
        batch = tuple(part[3:9])
        found = read(a_document(*batch))
        assert found.first == batch[0].id, "zeros in front belong to a sequence number"
        assert batch_of(found, records, lanes) == batch
        assert batch_of(found, [each for each in records if each != batch[0]], lanes) == ()


def test_a_bucket_keeps_the_event_too():
    assert read(a_document(a_record(1), payload='{"Records":[]}')).payload == b'{"Records":[]}'


@pytest.mark.parametrize(
    ("record", "ids"),
    [
        ('{"kinesis":{"sequenceNumber":"0012"}}', ["0012"]),
        ('{"dynamodb":{"SequenceNumber":"7"}}', ["7"]),
        ("{}", []),
        ("3", []),
        ('{"kinesis":3}', []),
        ("no json", []),
    ],
)
def test_the_records_of_a_kept_event_are_known_by_their_sequence_numbers(record: str, ids: list[str]):
    assert [each.id for each in kept_in(f'{{"Records":[{record}]}}'.encode())] == ids


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"no json", "is no document"),
        (b"[]", "is no document"),
        (b"{}", "is no document"),
        (a_document(), "names no records"),
        (a_document(DDBStreamBatchInfo={"shardId": "s", "startSequenceNumber": "x"}), "names no records"),
    ],
)
def test_what_is_no_such_document_says_why(document: bytes, reason: str):
    with pytest.raises(ValueError, match=reason):
        read(document)
