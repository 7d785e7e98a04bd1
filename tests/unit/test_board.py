from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from poller.model.facts import (
    BatchInvoked,
    BatchSent,
    CheckpointWritten,
    Fact,
    MappingMoved,
    MappingProblem,
    MappingRemoved,
    MessagesDeleted,
    ReadOutcome,
    RecordsDropped,
    ShardMoved,
    ShardStands,
    SourceRead,
    Stopping,
)
from poller.model.outcome import Failed, Outcome, Refused, Replied, Unavailable
from poller.service.board import Board, MappingView
from poller.service.standing import iterator_age

STREAM = "arn:aws:kinesis:eu-west-1:111122223333:stream/orders"
TABLE = "arn:aws:dynamodb:eu-west-1:111122223333:table/orders/stream/2026-01-01T00:00:00.000"
QUEUE = "arn:aws:sqs:eu-west-1:111122223333:orders"


@dataclass
class Seen:
    """A board with a clock turned by hand."""

    now: float = 1000.0
    board: Board = field(init=False)

    def __post_init__(self) -> None:
        self.board = Board(lambda: self.now)

    def observe(self, *facts: Fact) -> None:
        for fact in facts:
            self.board.observe(fact)

    def mapping(self, name: str = "m") -> dict[str, Any]:
        (told,) = [told for told in self.board.document() if told["name"] == name]
        return told

    def shard(self) -> dict[str, Any]:
        (told,) = self.mapping()["shards"]
        shard: dict[str, Any] = told
        return shard


def view(name: str = "m", arn: str = STREAM, *, enabled: bool = True) -> MappingView:
    return MappingView(name=name, uuid=f"uuid-of-{name}", configuration={"EventSourceArn": arn}, enabled=enabled)


@pytest.fixture
def seen() -> Seen:
    made = Seen()
    made.board.configured([view()])
    return made


def owned(shard: str = "s1") -> ShardMoved:
    return ShardMoved(mapping="m", shard=shard, to="owned", position="TRIM_HORIZON")


def read(outcome: ReadOutcome = "empty", *, mapping: str = "m", shard: str = "s1", reason: str = "") -> SourceRead:
    return SourceRead(mapping=mapping, shard=shard, outcome=outcome, seconds=0.1, reason=reason, behind=0.0)


def invoked(outcome: Outcome, *, attempt: int = 1, retry_in: float | None = None) -> BatchInvoked:
    return BatchInvoked(
        mapping="m",
        shard="s1",
        records=10,
        outcome=outcome,
        seconds=0.3,
        request_id="r",
        attempt=attempt,
        retry_in=retry_in,
    )


def stands(*, oldest: float | None, held: int, attempt: int = 0) -> ShardStands:
    return ShardStands(mapping="m", shard="s1", checkpoint="49", oldest=oldest, behind=0.0, held=held, attempt=attempt)


BOOM = Failed(reason="ValueError: Boom")


@pytest.mark.parametrize(
    ("oldest", "behind", "read_at", "now", "age"),
    [
        pytest.param(90.0, 0.0, 100.0, 100.0, 10.0, id="a record held ages from its arrival"),
        pytest.param(90.0, 500.0, 100.0, 100.0, 10.0, id="a record held is older than what is unread"),
        pytest.param(None, 0.0, 100.0, 9999.0, 0.0, id="caught up is zero however long ago the read was"),
        pytest.param(None, 5.0, 100.0, 103.0, 8.0, id="what is unread ages from the read that saw it"),
        pytest.param(110.0, 0.0, 100.0, 100.0, 0.0, id="a record from the future has no age"),
        pytest.param(None, 5.0, 100.0, 40.0, 5.0, id="a clock set back takes nothing away"),
    ],
)
def test_iterator_age(oldest: float | None, behind: float, read_at: float, now: float, age: float):
    assert iterator_age(oldest=oldest, behind=behind, read_at=read_at, now=now) == age


@pytest.mark.parametrize(
    ("arn", "transition", "result"),
    [(STREAM, "User action", "No records processed"), (TABLE, "User action", "No records processed")],
)
def test_a_stream_begins_with_no_records_processed(arn: str, transition: str, result: str):
    seen = Seen()
    seen.board.configured([view(arn=arn)])
    assert seen.mapping() == {
        "name": "m",
        "UUID": "uuid-of-m",
        "State": "Creating",
        "StateTransitionReason": transition,
        "LastProcessingResult": result,
        "enabled": True,
        "paused": None,
        "configuration": {"EventSourceArn": arn},
        "shards": [],
        "problems": [],
    }


def test_a_queue_never_has_a_last_processing_result():
    seen = Seen()
    seen.board.configured([view(arn=QUEUE)])
    seen.observe(invoked(BOOM), invoked(Replied()))
    assert "LastProcessingResult" not in seen.mapping()
    assert seen.mapping()["StateTransitionReason"] == "USER_INITIATED"


def test_state_and_its_reason_are_the_last_that_were_told(seen: Seen):
    seen.observe(MappingMoved(mapping="m", state="Enabled", reason=""))
    assert (seen.mapping()["State"], seen.mapping()["StateTransitionReason"]) == ("Enabled", "User action")
    seen.observe(MappingMoved(mapping="m", state="Updating", reason="Because"))
    assert (seen.mapping()["State"], seen.mapping()["StateTransitionReason"]) == ("Updating", "Because")


def test_a_disabled_mapping_says_so():
    seen = Seen()
    seen.board.configured([view(enabled=False)])
    assert (seen.mapping()["State"], seen.mapping()["enabled"]) == ("Disabled", False)


@pytest.mark.parametrize(
    ("facts", "result"),
    [
        pytest.param([read("records")], "No records processed", id="reading alone processes nothing"),
        pytest.param([invoked(Replied())], "OK", id="a reply is OK"),
        pytest.param([invoked(Replied()), invoked(BOOM)], "PROBLEM: Function call failed", id="the last call counts"),
        pytest.param([invoked(Refused(reason="busy"))], "PROBLEM: Function call failed", id="throttled is a problem"),
        pytest.param([invoked(Unavailable(reason="x"))], "PROBLEM: Function call failed", id="unreached is one too"),
        pytest.param(
            [
                invoked(BOOM),
                RecordsDropped(mapping="m", shard="s1", condition="Expired", records=1, first="1", last="2"),
            ],
            "PROBLEM: Function call failed",
            id="giving records up does not overwrite it",
        ),
        pytest.param(
            [invoked(Replied()), MappingProblem(mapping="m", reason="no such stream", retry_in=30.0)],
            "PROBLEM: no such stream",
            id="a problem of the source hides the last batch",
        ),
        pytest.param(
            [invoked(Replied()), MappingProblem(mapping="m", reason="no such stream", retry_in=30.0), read()],
            "OK",
            id="until it can be read again",
        ),
        pytest.param(
            [read("error", reason="timed out"), read(shard="s2")],
            "PROBLEM: source could not be read: timed out",
            id="another shard's read does not help",
        ),
        pytest.param([read("throttled", reason="slow down")], "No records processed", id="a throttled read passes"),
    ],
)
def test_last_processing_result(seen: Seen, facts: list[Fact], result: str):
    seen.observe(*facts)
    assert seen.mapping()["LastProcessingResult"] == result


def test_a_shard_tells_position_age_and_what_is_held_and_in_flight(seen: Seen):
    seen.observe(owned(), read("records"), stands(oldest=940.0, held=12))
    seen.observe(BatchSent(mapping="m", shard="s1", records=10, age=60.0))
    assert seen.shard() == {
        "id": "s1",
        "state": "owned",
        "owner": "this replica",
        "since": "1970-01-01T00:16:40.000Z",
        "checkpoint": "49",
        "iterator_age_seconds": 60.0,
        "behind_latest_seconds": 0.0,
        "retry": None,
        "records_held": 12,
        "records_in_flight": 10,
        "invocations_in_flight": 1,
        "paused": None,
        "seek": None,
    }


def test_a_shard_that_was_never_read_tells_no_age(seen: Seen):
    seen.observe(owned())
    assert seen.shard()["iterator_age_seconds"] is None
    assert seen.shard()["checkpoint"] == "TRIM_HORIZON"


def test_a_failed_batch_shows_its_retry_until_it_succeeds(seen: Seen):
    seen.observe(owned(), read("records"), invoked(BOOM, attempt=3, retry_in=4.0))
    assert seen.shard()["retry"] == {
        "attempt": 3,
        "outcome": "function_error",
        "reason": "ValueError: Boom",
        "next_try": "1970-01-01T00:16:44.000Z",
    }
    seen.observe(invoked(Replied()))
    assert seen.shard()["retry"] is None


def test_tries_counted_before_this_process_began_are_shown(seen: Seen):
    seen.observe(owned(), stands(oldest=900.0, held=5, attempt=7))
    assert seen.shard()["retry"] == {"attempt": 7, "outcome": "", "reason": "", "next_try": None}
    seen.observe(stands(oldest=None, held=0, attempt=0))
    assert seen.shard()["retry"] is None


@pytest.mark.parametrize(
    "end",
    [
        RecordsDropped(mapping="m", shard="s1", condition="RetryAttemptsExhausted", records=1, first="1", last="1"),
        invoked(BOOM, attempt=4, retry_in=None),
        ShardMoved(mapping="m", shard="s1", to="owned"),
    ],
    ids=["given up", "no further try", "opened anew"],
)
def test_retry_ends_with_its_batch(seen: Seen, end: Fact):
    seen.observe(owned(), invoked(BOOM, attempt=3, retry_in=4.0), end)
    assert seen.shard()["retry"] is None


def test_shards_let_go_are_not_shown_and_waiting_ones_have_no_owner(seen: Seen):
    seen.observe(owned("s1"), owned("s2"), ShardMoved(mapping="m", shard="s3", to="blocked_on_parent"))
    seen.observe(ShardMoved(mapping="m", shard="s1", to="released"), ShardMoved(mapping="m", shard="s2", to="ended"))
    assert [(shard["id"], shard["state"], shard["owner"]) for shard in seen.mapping()["shards"]] == [
        ("s2", "ended", None),
        ("s3", "blocked_on_parent", None),
    ]


def test_problems_are_the_last_ten_newest_first_with_repeats_counted(seen: Seen):
    for number in range(15):
        seen.now += 1
        seen.observe(read("error", reason=f"number {number}"))
    seen.now += 1
    seen.observe(read("error", reason="number 10"))
    problems = seen.mapping()["problems"]
    assert len(problems) == 10
    assert problems[0] == {
        "time": "1970-01-01T00:16:56.000Z",
        "shard": "s1",
        "reason": "source could not be read: number 10",
        "times": 2,
    }
    assert problems[1]["reason"] == "source could not be read: number 14"


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        (MessagesDeleted(mapping="m", deleted=9, failed=1, reason="x"), "1 messages could not be deleted: x"),
        (
            CheckpointWritten(mapping="m", shard="s1", outcome="error", position="9", reason="disk full"),
            "checkpoint could not be written: disk full",
        ),
        (
            CheckpointWritten(mapping="m", shard="s1", outcome="superseded", position="9"),
            "another owner holds the shard",
        ),
        (
            RecordsDropped(mapping="m", shard="s1", condition="Trimmed", records=0, first="5", last="80"),
            "records dropped, Trimmed: 5 to 80",
        ),
        (
            RecordsDropped(mapping="m", shard="s1", condition="Expired", records=3, first="5", last="8"),
            "3 records dropped, Expired: 5 to 8",
        ),
        (read("throttled", reason="slow"), "source throttles the read: slow"),
        (invoked(Refused(reason="busy")), "throttled: busy"),
    ],
)
def test_what_goes_wrong_is_among_the_problems(seen: Seen, fact: Fact, reason: str):
    seen.observe(fact)
    assert [problem["reason"] for problem in seen.mapping()["problems"]] == [reason]


def test_hostile_reasons_are_one_printable_line_of_bounded_length(seen: Seen):
    seen.observe(read("error", reason="a\nb\x1b[2J\ud800" + "x" * 9999))
    (problem,) = seen.mapping()["problems"]
    assert problem["reason"].startswith("source could not be read: a\\nb\\x1b[2J\\ud800")
    assert len(problem["reason"]) < 2200
    orjson.dumps(seen.board.document())


def test_not_ready_before_the_configuration_is_known():
    assert Seen().board.readiness() == (False, {"ready": False, "reason": "starting"})


def test_ready_at_once_without_mappings():
    seen = Seen()
    seen.board.configured([])
    assert seen.board.readiness() == (True, {"ready": True})


@pytest.mark.parametrize(
    "report",
    [
        read("records"),
        read("empty"),
        read("error", reason="refused"),
        read("throttled", reason="slow"),
        MappingProblem(mapping="m", reason="no such stream", retry_in=30.0),
    ],
    ids=["records", "empty", "error", "throttled", "problem"],
)
def test_ready_once_every_enabled_mapping_has_read_or_said_why_not(report: Fact):
    seen = Seen()
    seen.board.configured([view("m"), view("other"), view("off", enabled=False)])
    seen.observe(read(mapping="other"))
    assert seen.board.readiness() == (
        False,
        {"ready": False, "reason": "waiting for the first read of m", "waiting": ["m"]},
    )
    seen.observe(report)
    assert seen.board.readiness() == (True, {"ready": True})


def test_opening_shards_is_not_reading(seen: Seen):
    seen.observe(MappingMoved(mapping="m", state="Enabled", reason=""), owned())
    assert seen.board.readiness()[0] is False


def test_not_ready_while_stopping(seen: Seen):
    seen.observe(read(), Stopping(reason="SIGTERM", grace=30.0))
    assert seen.board.readiness() == (False, {"ready": False, "reason": "stopping: SIGTERM"})


def test_a_mapping_that_stays_configured_keeps_what_is_known_of_it(seen: Seen):
    seen.observe(read(), owned(), invoked(Replied()))
    seen.board.configured([view("m"), view("new")])
    assert seen.mapping()["LastProcessingResult"] == "OK"
    assert len(seen.mapping()["shards"]) == 1
    assert seen.board.readiness()[1]["waiting"] == ["new"]


@pytest.mark.parametrize("by", ["fact", "configuration"])
def test_a_removed_mapping_is_gone_and_its_last_words_do_not_bring_it_back(seen: Seen, by: str):
    seen.observe(read(), owned())
    if by == "fact":
        seen.observe(MappingRemoved(mapping="m"))
    else:
        seen.board.configured([])
    seen.observe(read(), owned(), invoked(BOOM))
    assert seen.board.document() == []
    seen.board.configured([view()])
    assert seen.mapping()["shards"] == []
    assert seen.mapping()["LastProcessingResult"] == "No records processed"
