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
    MemberMoved,
    MessagesDeleted,
    MessagesReleased,
    ReadOutcome,
    RecordsDiverted,
    RecordsDropped,
    RosterSeen,
    SelfFenced,
    ShardMoved,
    ShardPassed,
    ShardStands,
    SourceListed,
    SourceRead,
    Stopping,
    StoreFailed,
    WishesSeen,
)
from poller.model.outcome import Failed, Outcome, Refused, Replied, Unavailable
from poller.service.board import Board, MappingView
from poller.service.standing import Standings, iterator_age
from poller.service.takers import joined

STREAM = "arn:aws:kinesis:eu-west-1:111122223333:stream/orders"
TABLE = "arn:aws:dynamodb:eu-west-1:111122223333:table/orders/stream/2026-01-01T00:00:00.000"
QUEUE = "arn:aws:sqs:eu-west-1:111122223333:orders"


@dataclass
class Seen:
    """A board with a clock turned by hand."""

    now: float = 1000.0
    board: Board = field(init=False)

    def __post_init__(self) -> None:
        standings = Standings(lambda: self.now)
        self.board = Board(lambda: self.now, standings)
        self._observe = joined(standings.takers, self.board.takers)

    def observe(self, *facts: Fact) -> None:
        for fact in facts:
            self._observe(fact)

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


def invoked(
    outcome: Outcome, *, attempt: int = 1, retry_in: float | None = None, request_id: str = "r", first: str = "50"
) -> BatchInvoked:
    return BatchInvoked(
        mapping="m",
        shard="s1",
        records=10,
        outcome=outcome,
        seconds=0.3,
        request_id=request_id,
        attempt=attempt,
        retry_in=retry_in,
        first=first,
        last="59",
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
        "retention_seconds": None,
        "configuration": {"EventSourceArn": arn},
        "shards": [],
        "problems": [],
    }


def test_a_queue_has_a_last_processing_result_as_a_stream_has():
    seen = Seen()
    seen.board.configured([view(arn=QUEUE)])
    assert seen.mapping()["LastProcessingResult"] == "No records processed"
    seen.observe(invoked(Replied()))
    assert seen.mapping()["LastProcessingResult"] == "OK"
    seen.observe(invoked(BOOM))
    assert seen.mapping()["LastProcessingResult"] == "PROBLEM: Function call failed"
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
        "first_failed": None,
        "first_record": "50",
        "last_record": "59",
        "records": 10,
        "request_id": "r",
    }
    seen.observe(invoked(Replied()))
    assert seen.shard()["retry"] is None


def test_tries_counted_before_this_process_began_are_shown(seen: Seen):
    seen.observe(owned(), stands(oldest=900.0, held=5, attempt=7))
    retry = seen.shard()["retry"]
    assert retry["attempt"] == 7
    assert (retry["outcome"], retry["reason"], retry["next_try"], retry["first_record"]) == ("", "", None, None)
    seen.observe(stands(oldest=None, held=0, attempt=0))
    assert seen.shard()["retry"] is None


@pytest.mark.parametrize(
    "end",
    [
        RecordsDropped(mapping="m", shard="s1", condition="Expired", records=3, first="50", last="52"),
        RecordsDiverted(mapping="m", shard="s1", condition="RecordAgeExceeded", records=3, first="50", last="52"),
        invoked(BOOM, attempt=4, retry_in=None),
        ShardMoved(mapping="m", shard="s1", to="owned"),
    ],
    ids=["dropped", "diverted", "no further try", "opened anew"],
)
def test_retry_ends_with_its_batch(seen: Seen, end: Fact):
    seen.observe(owned(), invoked(BOOM, attempt=3, retry_in=4.0), end)
    assert seen.shard()["retry"] is None


def test_the_time_of_the_first_failure_stays_while_its_batch_is_tried_again(seen: Seen):
    seen.observe(owned(), invoked(BOOM, attempt=1, retry_in=1.0))
    seen.now += 60
    seen.observe(invoked(BOOM, attempt=2, retry_in=1.0))
    assert seen.shard()["retry"]["first_failed"] == "1970-01-01T00:16:40.000Z"


def test_of_several_lanes_the_batch_that_blocked_first_is_shown_and_the_others_successes_do_not_hide_it(seen: Seen):
    seen.observe(owned(), invoked(BOOM, retry_in=1.0, request_id="a", first="50"))
    seen.observe(invoked(BOOM, retry_in=1.0, request_id="b", first="60"), invoked(Replied(), request_id="c"))
    assert seen.shard()["retry"]["first_record"] == "50"
    seen.observe(invoked(Replied(), request_id="a"))
    assert seen.shard()["retry"]["first_record"] == "60"
    seen.observe(invoked(Replied(), request_id="b", first="60"))
    assert seen.shard()["retry"] is None


def test_a_queue_is_not_blocked_once_anything_of_it_succeeds():
    seen = Seen()
    seen.board.configured([view(arn=QUEUE)])
    seen.observe(owned(), invoked(Unavailable(reason="x"), retry_in=1.0, request_id="given back meanwhile"))
    assert seen.shard()["retry"] is not None
    seen.observe(invoked(Replied(), request_id="another"))
    assert seen.shard()["retry"] is None


def test_a_queues_batch_that_was_given_back_blocks_nothing_any_more():
    seen = Seen()
    seen.board.configured([view(arn=QUEUE)])
    refused = Refused(reason="429")
    seen.observe(
        owned(), invoked(refused, retry_in=2.0, request_id="1"), invoked(refused, retry_in=2.0, request_id="2")
    )
    seen.observe(MessagesReleased(mapping="m", released=10, failed=0, request_id="1"))
    assert seen.shard()["retry"]["request_id"] == "2"
    seen.observe(MessagesReleased(mapping="m", released=10, failed=0, request_id="2"))
    assert seen.shard()["retry"] is None


def test_retention_is_told_once_the_source_was_asked(seen: Seen):
    seen.observe(SourceListed(mapping="m", retention=86_400.0))
    assert seen.mapping()["retention_seconds"] == 86_400.0


def test_the_fleet_is_this_replica_alone_before_others_were_seen(seen: Seen):
    assert seen.board.fleet() == {
        "name": "this replica",
        "members": [
            {"name": "this replica", "state": "up", "beat_age_seconds": 0.0, "address": None, "moves": 0, "fences": 0}
        ],
        "fenced_since": None,
        "store_problem": None,
        "moves": [],
    }


def test_replicas_are_told_with_the_age_of_their_beat_and_what_moved_between_them(seen: Seen):
    seen.board.named("b")
    seen.observe(RosterSeen(members={"b": ("up", 0.5, "http://b/"), "a": ("leaving", 2.0, ""), "c": ("gone", 9.0, "")}))
    seen.observe(ShardPassed(mapping="m", shard="s1", how="handed_over", member="b"))
    seen.observe(ShardPassed(mapping="not ours", shard="s1", how="lost", member="b"))
    seen.observe(MemberMoved(member="c", state="gone", fenced=True))
    seen.now += 1
    told = seen.board.fleet()
    assert told["members"] == [
        {"name": "a", "state": "leaving", "beat_age_seconds": 3.0, "address": None, "moves": None, "fences": None},
        {"name": "b", "state": "up", "beat_age_seconds": 1.5, "address": "http://b/", "moves": 1, "fences": 1},
    ]
    assert told["moves"] == [
        {"time": "1970-01-01T00:16:40.000Z", "what": "fenced", "member": "c"},
        {"time": "1970-01-01T00:16:40.000Z", "what": "handed_over", "member": "b", "mapping": "m", "shard": "s1"},
    ]


def test_a_store_that_is_away_and_a_replica_that_stands_still_are_told_until_it_is_over(seen: Seen):
    seen.observe(StoreFailed(reason="refused"))
    seen.now += 6
    seen.observe(StoreFailed(reason="timed out"), SelfFenced(seconds=5.0))
    told = seen.board.fleet()
    assert told["store_problem"] == {"since": "1970-01-01T00:16:40.000Z", "reason": "timed out"}
    assert told["fenced_since"] == "1970-01-01T00:16:41.000Z"
    seen.observe(RosterSeen(members={}), SelfFenced(seconds=0.0))
    assert (seen.board.fleet()["store_problem"], seen.board.fleet()["fenced_since"]) == (None, None)


def test_the_ages_that_were_looked_at_are_told_of_mappings_and_of_the_shards_asked_for(seen: Seen):
    seen.observe(owned("s1"), read(shard="s1"), owned("s2"), read(shard="s2"), owned("unread"))
    seen.observe(stands(oldest=990.0, held=1), ShardMoved(mapping="m", shard="s3", to="elsewhere", owner="b"))
    seen.board.look(0.0)
    assert seen.board.history() == {"step_seconds": 15.0, "ages": {"m": [*[None] * 59, 10.0]}}
    asked = seen.board.history("m", ["s1", "s3", "unread", "nobody's"])
    assert asked["ages"] == {"s1": [*[None] * 59, 10.0]}
    seen.observe(ShardMoved(mapping="m", shard="s1", to="released"))
    seen.board.look(5.0)
    assert seen.board.history("m", ["s1", "s2"])["ages"] == {"s2": [*[None] * 59, 0.0]}


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


def test_a_mapping_that_is_paused_has_said_why_it_does_not_read(seen: Seen):
    nothing = WishesSeen(mapping="m", paused=None, shards={"s2": ("ann", 900.0)}, seeks={})
    seen.observe(MappingMoved(mapping="m", state="Enabled", reason=""), nothing, owned())
    assert seen.board.readiness()[0] is False
    seen.observe(WishesSeen(mapping="m", paused=("ann", 900.0), shards={}, seeks={}), owned())
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
    if by == "configuration":
        seen.board.configured([])
        seen.observe(read(), owned(), invoked(BOOM))
        assert seen.board.document() == []
    seen.observe(MappingRemoved(mapping="m"))
    seen.observe(read(), owned(), invoked(BOOM))
    assert seen.board.document() == []
    seen.board.configured([view()])
    assert seen.mapping()["shards"] == []
    assert seen.mapping()["LastProcessingResult"] == "No records processed"


def test_a_mapping_that_is_put_back_while_its_last_batches_are_under_way_shows_them(seen: Seen):
    seen.observe(owned(), BatchSent(mapping="m", shard="s1", records=10, age=60.0))
    seen.board.configured([])
    assert seen.board.document() == []
    seen.board.configured([view()])
    assert (seen.shard()["records_in_flight"], seen.shard()["invocations_in_flight"]) == (10, 1)
