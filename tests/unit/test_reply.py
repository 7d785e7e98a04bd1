"""What an answer means under ReportBatchItemFailures, as real mappings were seen to take it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.mapping.reply import first_failed, understood
from poller.model.outcome import Failed, Outcome, Partial, Refused, Replied, Unavailable
from poller.model.record import Record

BATCH = tuple(Record(id=each, body=b"", arrived=0.0) for each in ("9", "10", "11"))
SUCCESS = ["", "null", '""', "[]", "{}", '{"batchItemFailures":null}', '{"batchItemFailures":[]}', " null ",
           '{"batchItemFailures":[],"more":1}']  # fmt: skip
FAILURE = [
    '{"foo":[]}', '{"foo":null}', '{"batchItemFailures":"x"}', '{"batchItemFailures":{}}', '{"batchItemFailures":7}',
    '{"batchItemFailures":[{"itemIdentifier":""}]}', '{"batchItemFailures":[{"itemIdentifier":null}]}',
    '{"batchItemFailures":[{"itemIdentifier":10}]}', '{"batchItemFailures":[{"itemIdentifier":"12"}]}',
    '{"batchItemFailures":[{"foo":"10"}]}', '{"batchItemFailures":["10"]}', '{"batchItemFailures":[null]}',
    '{"batchItemFailures":[{"itemIdentifier":"10"},{"itemIdentifier":"12"}]}',
    '{"batchItemFailures":[{"itemIdentifier":"010"}]}',
    "true", "false", "0", "1", '"text"', "[1]", "no json", '{"batchItemFailures":',
]  # fmt: skip


@pytest.mark.parametrize("redelivers", [False, True], ids=["stream", "queue"])
@pytest.mark.parametrize("body", SUCCESS)
def test_the_whole_batch_succeeds_with(body: str, redelivers: bool):
    replied = Replied(body=body.encode())
    assert understood(replied, BATCH, redelivers=redelivers) is replied


@pytest.mark.parametrize("redelivers", [False, True], ids=["stream", "queue"])
@pytest.mark.parametrize("body", FAILURE)
def test_the_whole_batch_fails_with(body: str, redelivers: bool):
    outcome = understood(Replied(body=body.encode()), BATCH, redelivers=redelivers)
    assert isinstance(outcome, Failed)
    assert (outcome.error, outcome.ran, outcome.timeout) == (None, True, False)


@pytest.mark.parametrize(
    ("failed", "first"), [(["11"], 2), (["11", "10"], 1), (["10", "10"], 1), (["9"], 0), (["11", "9", "10"], 0)]
)
def test_the_lowest_record_named_is_where_a_stream_goes_on(failed: list[str], first: int):
    items = ",".join(f'{{"itemIdentifier":"{each}"}}' for each in failed)
    outcome = understood(Replied(body=f'{{"batchItemFailures":[{items}]}}'.encode()), BATCH, redelivers=False)
    assert outcome == Partial(failed=tuple(failed))
    assert first_failed(outcome, BATCH) == first


def test_an_empty_item_is_success_on_a_queue_and_failure_on_a_stream():
    replied = Replied(body=b'{"batchItemFailures":[{}]}')
    assert understood(replied, BATCH, redelivers=True) is replied
    assert isinstance(understood(replied, BATCH, redelivers=False), Failed)


@pytest.mark.parametrize(
    "outcome",
    [Failed(reason="x"), Refused(reason="x"), Unavailable(reason="x")],
    ids=["failed", "refused", "unavailable"],
)
def test_what_is_no_answer_stays_what_it_is(outcome: Outcome):
    assert understood(outcome, BATCH, redelivers=False) is outcome


@given(body=st.binary() | st.text().map(str.encode))
def test_no_answer_raises_and_only_records_of_the_batch_are_named(body: bytes):
    outcome = understood(Replied(body=body), BATCH, redelivers=False)
    assert isinstance(outcome, Replied | Failed) or set(outcome.failed) <= {"9", "10", "11"}  # type: ignore[union-attr]
