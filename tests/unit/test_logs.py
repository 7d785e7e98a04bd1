import io
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.model.errors import SettingsError
from poller.model.facts import (
    BatchInvoked,
    BatchSent,
    CheckpointWritten,
    Fact,
    FunctionPrinted,
    MappingMoved,
    MappingProblem,
    MappingRemoved,
    MessagesDeleted,
    ReadOutcome,
    RecordsDropped,
    Reloaded,
    ShardMoved,
    ShardStands,
    SourceRead,
    Stopping,
)
from poller.model.outcome import Failed, Outcome, Refused, Replied, Unavailable
from poller.service.log_lines import ConsoleFormatter, JsonFormatter, one_line
from poller.service.logs import Format, LogFacts, configure
from poller.service.takers import joined

HOSTILE = "Boom\n2026-01-01T00:00:00.000Z ERROR forged\r\x1b[2J\u2028\u202ered"


@dataclass
class Log:
    """Facts said to a stream, with a clock turned by hand."""

    level: str
    stream: io.StringIO = field(default_factory=io.StringIO)
    now: float = 1000.0

    def __post_init__(self) -> None:
        configure(self.level, "json", self.stream)
        self.observe = joined(LogFacts(lambda: self.now).takers)

    def say(self, *facts: Fact) -> list[dict[str, Any]]:
        """The lines that these facts make."""
        start = len(self.stream.getvalue())
        for fact in facts:
            self.observe(fact)
        return [json.loads(line) for line in self.stream.getvalue()[start:].splitlines()]

    def levels(self, *facts: Fact) -> list[tuple[str, str]]:
        return [(line["level"], line["message"]) for line in self.say(*facts)]


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("poller")
    handlers, levels = list(root.handlers), (root.level, ours.level)
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


@pytest.fixture
def log() -> Log:
    return Log("info")


@pytest.fixture
def debug() -> Log:
    return Log("debug")


def invoked(outcome: Outcome, *, attempt: int = 1, retry_in: float | None = 2.0, shard: str = "s1") -> BatchInvoked:
    return BatchInvoked(
        mapping="m",
        shard=shard,
        records=10,
        outcome=outcome,
        seconds=0.3,
        request_id="r-1",
        attempt=attempt,
        retry_in=retry_in,
    )


def read(outcome: ReadOutcome, reason: str = "", shard: str = "s1") -> SourceRead:
    return SourceRead(mapping="m", shard=shard, outcome=outcome, seconds=0.1, reason=reason)


BOOM = Failed(reason="ValueError: Boom")


def test_json_line_has_stable_fields_in_order(log: Log):
    log.say(invoked(BOOM, attempt=3))
    line = log.stream.getvalue()
    assert line.endswith("}\n")
    fields = json.loads(line)
    assert list(fields)[:4] == ["time", "level", "logger", "message"]
    assert fields.pop("time").endswith("Z")
    assert fields == {
        "level": "WARN",
        "logger": "poller.mapping",
        "message": "function failed",
        "mapping": "m",
        "shard": "s1",
        "reason": "ValueError: Boom",
        "outcome": "function_error",
        "retry_in": 2.0,
        "records": 10,
        "attempt": 3,
        "request_id": "r-1",
    }


def test_time_is_utc_with_milliseconds():
    record = logging.makeLogRecord({"name": "poller", "levelname": "INFO", "msg": "x", "created": 1700000000.25})
    record.msecs = 250.0
    assert json.loads(JsonFormatter().format(record))["time"] == "2023-11-14T22:13:20.250Z"
    assert ConsoleFormatter().format(record).startswith("2023-11-14T22:13:20.250Z INFO  x")


def test_console_line_reads_as_time_level_message_and_fields():
    stream = io.StringIO()
    configure("info", "console", stream)
    joined(LogFacts(lambda: 0.0).takers)(invoked(BOOM, attempt=3, retry_in=1.25))
    (line,) = stream.getvalue().splitlines()
    assert line[24:] == (
        " WARN  function failed  mapping=m shard=s1 "
        'reason="ValueError: Boom" outcome=function_error retry_in=1.25 records=10 attempt=3 request_id=r-1'
    )


@pytest.mark.parametrize("form", ["json", "console"])
def test_hostile_reason_cannot_forge_a_line_or_move_the_cursor(form: Format):
    stream = io.StringIO()
    configure("debug", form, stream)
    joined(LogFacts(lambda: 0.0).takers)(invoked(Failed(reason=HOSTILE)))
    joined(LogFacts(lambda: 0.0).takers)(FunctionPrinted(function="f", request_id=HOSTILE, line=HOSTILE))
    said = stream.getvalue()
    assert len(said.splitlines()) == 2
    assert all(c.isprintable() or c == "\n" for c in said)


@given(st.text(st.characters(), max_size=50))
def test_one_line_is_printable_whatever_comes_and_keeps_what_is(text: str):
    assert one_line(text).isprintable()
    if text.isprintable():
        assert one_line(text) == text


@given(st.text(st.characters()))
def test_json_line_parses_whatever_is_said(text: str):
    record = logging.makeLogRecord({"name": "poller", "msg": "%s", "args": (text,), "fields": {"reason": text}})
    json.loads(JsonFormatter().format(record))


def test_very_long_reason_is_cut_and_says_so(log: Log):
    (line,) = log.say(invoked(Failed(reason="x" * 10_000)))
    assert line["reason"] == "x" * 2000 + "… (8000 more characters)"


def test_fields_cannot_replace_the_level_or_the_message():
    record = logging.makeLogRecord({"name": "poller", "levelname": "INFO", "msg": "x", "fields": {"level": "FATAL"}})
    assert json.loads(JsonFormatter().format(record))["level"] == "INFO"


def test_exception_stays_one_line_in_json_and_is_indented_on_the_console():
    with pytest.raises(ValueError, match="second") as raised:
        raise ValueError("first\nsecond")
    record = logging.makeLogRecord({"name": "poller", "levelname": "ERROR", "msg": "failed"})
    record.exc_info = (ValueError, raised.value, raised.tb)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert "ValueError: first\nsecond" in json.loads(line)["exception"]
    head, *trace = ConsoleFormatter().format(record).splitlines()
    assert head.endswith("ERROR failed")
    assert trace
    assert all(part.startswith("    | ") for part in trace)


@pytest.mark.parametrize(
    ("level", "shown"),
    [("debug", "DIWE"), ("INFO", "IWE"), ("warn", "WE"), ("warning", "WE"), ("error", "E")],
)
def test_level_hides_what_is_below_it(level: str, shown: str):
    stream = io.StringIO()
    configure(level, "json", stream)
    logger = logging.getLogger("poller.any")
    logger.debug("D")
    logger.info("I")
    logger.warning("W")
    logger.error("E")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == list(shown)


def test_unknown_level_is_one_clear_line():
    with pytest.raises(SettingsError, match=r"^log level 'loud' is unknown, allowed: debug, info, warn, error$"):
        configure("loud", "json", io.StringIO())


def test_libraries_speak_from_warnings_on_and_in_our_form(debug: Log):
    logging.getLogger("botocore.endpoint").debug("payload and credentials")
    logging.getLogger("asyncio").warning("slow callback")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", UserWarning, stacklevel=1)
    lines = [json.loads(line) for line in debug.stream.getvalue().splitlines()]
    assert [line["logger"] for line in lines] == ["asyncio", "py.warnings"]
    assert [line["level"] for line in lines] == ["WARN", "WARN"]


@pytest.mark.parametrize(
    ("outcome", "level", "message"),
    [
        (Failed(reason="x"), "WARN", "function failed"),
        (Failed(reason="x", timeout=True), "WARN", "function ran out of time"),
        (Refused(reason="x"), "WARN", "function is throttled"),
        (Unavailable(reason="x"), "WARN", "function was not reached"),
        (Unavailable(reason="x", lasting=True), "ERROR", "function cannot be invoked"),
    ],
)
def test_failure_of_the_function_is_a_warning_unless_somebody_must_act(
    log: Log, outcome: Outcome, level: str, message: str
):
    assert log.levels(invoked(outcome)) == [(level, message)]


def test_repeated_failure_is_told_once_a_minute_with_the_number_left_out(log: Log):
    assert len(log.say(invoked(BOOM))) == 1
    assert log.say(*[invoked(BOOM, attempt=attempt) for attempt in range(2, 9)]) == []
    log.now += 59.9
    assert log.say(invoked(BOOM, attempt=9)) == []
    log.now += 0.2
    (line,) = log.say(invoked(BOOM, attempt=10))
    assert (line["attempt"], line["left_out"]) == (10, 8)
    log.now += 60
    (line,) = log.say(invoked(BOOM, attempt=11))
    assert "left_out" not in line


def test_another_kind_of_failure_and_another_shard_are_told_at_once(log: Log):
    facts = [invoked(BOOM), invoked(Failed(reason="slow", timeout=True)), invoked(BOOM, shard="s2")]
    assert len(log.say(*facts)) == 3
    assert log.say(*facts) == []


def test_recovery_is_told_once_and_flapping_does_not_flood(log: Log):
    assert log.levels(invoked(BOOM), invoked(BOOM), invoked(Replied())) == [
        ("WARN", "function failed"),
        ("INFO", "function succeeds again"),
    ]
    assert log.say(*[invoked(BOOM), invoked(Replied())] * 500) == []
    log.now += 61
    (line,) = log.say(invoked(BOOM))
    assert line["left_out"] == 500


def test_clock_that_was_set_back_does_not_silence_a_problem(log: Log):
    log.say(invoked(BOOM))
    log.now -= 3600
    assert len(log.say(invoked(BOOM))) == 1


def test_reads_and_successes_are_debug(debug: Log, log: Log):
    facts: list[Fact] = [
        read("records"),
        read("empty"),
        BatchSent(mapping="m", shard="s1", records=1, age=0.1),
        invoked(Replied()),
        MessagesDeleted(mapping="m", deleted=1, failed=0),
        CheckpointWritten(mapping="m", shard="s1", outcome="written", position="9"),
    ]
    assert log.say(*facts) == []
    configure("debug", "json", debug.stream)
    assert {line["level"] for line in debug.say(*facts)} == {"DEBUG"}


def test_failing_reads_are_warnings_and_their_end_is_told(log: Log):
    assert log.levels(read("throttled"), read("error", "EndpointConnectionError"), read("empty")) == [
        ("WARN", "source throttles the read"),
        ("WARN", "source could not be read"),
        ("INFO", "source is read again"),
    ]


def test_every_dropped_record_has_its_error_however_often(log: Log):
    lost = RecordsDropped(mapping="m", shard="s1", condition="Expired", records=3, first="1", last="9")
    lines = log.say(lost, lost, lost)
    assert [line["level"] for line in lines] == ["ERROR"] * 3
    assert lines[0]["message"] == "records dropped"
    assert (lines[0]["condition"], lines[0]["records"], lines[0]["first"], lines[0]["last"]) == ("Expired", 3, "1", "9")


def test_a_position_that_was_trimmed_is_an_error_with_both_ends(log: Log):
    (line,) = log.say(RecordsDropped(mapping="m", shard="s1", condition="Trimmed", records=0, first="5", last="80"))
    assert line["level"] == "ERROR"
    assert line["message"] == "records left the source before they were read"
    assert (line["first"], line["last"]) == ("5", "80")
    assert "records" not in line


def test_problem_of_a_mapping_is_an_error_told_once_a_minute_until_it_reads(log: Log):
    problem = MappingProblem(mapping="m", reason="stream orders does not exist in eu-west-1", retry_in=30.0)
    assert log.levels(problem, problem) == [("ERROR", "mapping cannot go on, but tries again")]
    assert log.levels(read("empty"), read("empty")) == [("INFO", "mapping goes on")]


def test_moves_of_mappings_and_shards_are_told(log: Log):
    moves: list[Fact] = [
        MappingMoved(mapping="m", state="Enabled", reason="User action"),
        ShardMoved(mapping="m", shard="s1", to="owned", position="TRIM_HORIZON"),
        ShardMoved(mapping="m", shard="s2", to="blocked_on_parent"),
        ShardMoved(mapping="m", shard="s1", to="ended"),
        ShardMoved(mapping="m", shard="s2", to="released"),
        MappingRemoved(mapping="m"),
        Stopping(reason="SIGTERM", grace=30.0),
        Reloaded(successful=True, at=1.0),
    ]
    assert log.levels(*moves) == [
        ("INFO", "mapping changed its state"),
        ("INFO", "shard opened"),
        ("INFO", "shard waits for its parents"),
        ("INFO", "shard ended"),
        ("INFO", "shard let go"),
        ("INFO", "mapping removed"),
        ("INFO", "stopping"),
        ("INFO", "configuration read"),
    ]


@pytest.mark.parametrize(
    "end", [ShardMoved(mapping="m", shard="s1", to="released"), MappingRemoved(mapping="m")], ids=["shard", "mapping"]
)
def test_what_was_let_go_starts_afresh_when_it_comes_back(log: Log, end: Fact):
    log.say(invoked(BOOM), end)
    assert len(log.say(invoked(BOOM))) == 1


def test_refused_configuration_says_every_mistake_on_its_own_line(log: Log):
    lines = log.say(Reloaded(successful=False, at=1.0, reason="a.yaml:3: BatchSize: wrong\na.yaml:9: Foo: unknown"))
    assert [(line["level"], line["reason"]) for line in lines] == [
        ("ERROR", "a.yaml:3: BatchSize: wrong"),
        ("ERROR", "a.yaml:9: Foo: unknown"),
    ]


def test_deletes_and_checkpoints_that_fail_are_warnings(log: Log):
    assert log.levels(
        MessagesDeleted(mapping="m", deleted=9, failed=1, reason="InternalError"),
        CheckpointWritten(mapping="m", shard="s1", outcome="error", position="9", reason="disk full"),
        CheckpointWritten(mapping="m", shard="s1", outcome="superseded", position="9"),
        CheckpointWritten(mapping="m", shard="s1", outcome="written", position="9"),
        MessagesDeleted(mapping="m", deleted=9, failed=0),
    ) == [
        ("WARN", "messages could not be deleted and will come back"),
        ("WARN", "checkpoint could not be written"),
        ("WARN", "another owner holds the shard, nothing was written"),
        ("INFO", "checkpoints are written again"),
        ("INFO", "messages are deleted again"),
    ]


def test_line_of_a_function_carries_its_name_and_request(log: Log):
    (line,) = log.say(FunctionPrinted(function="resize", request_id="r-9", line="hello"))
    assert (line["level"], line["logger"], line["message"]) == ("INFO", "poller.function", "hello")
    assert (line["function"], line["request_id"]) == ("resize", "r-9")


def test_payloads_and_function_logs_stay_out_of_our_lines(debug: Log):
    debug.say(
        invoked(Replied(body=b"SECRET")),
        invoked(Failed(reason="Boom", log_tail="SECRET")),
        ShardStands(mapping="m", shard="s1", checkpoint="1", oldest=1.0, behind=0.0, held=1, attempt=0),
    )
    assert len(debug.stream.getvalue().splitlines()) == 2
    assert "SECRET" not in debug.stream.getvalue()
