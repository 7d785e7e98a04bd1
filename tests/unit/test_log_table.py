"""The table of log lines beside what is logged: messages, levels and fields are the same, and no other is said."""

from __future__ import annotations

import ast
import io
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.model.facts import (
    BatchInvoked,
    BatchSent,
    CheckpointWritten,
    DestinationFailed,
    Fact,
    FunctionPrinted,
    LeaseEnded,
    MappingMoved,
    MappingProblem,
    MappingRemoved,
    MemberMoved,
    MessagesDeleted,
    MessagesReleased,
    OrderTaken,
    ReadOutcome,
    RecordsDiverted,
    RecordsDropped,
    RecordsFiltered,
    Reloaded,
    RosterSeen,
    SelfFenced,
    ShardMoved,
    ShardPassed,
    ShardSought,
    ShardStands,
    SourceListed,
    SourceRead,
    Stopping,
    StoreFailed,
    WishesSeen,
)
from poller.model.outcome import Failed, Outcome, Partial, Refused, Replied, Unavailable
from poller.service.log_table import LINES
from poller.service.logs import LogFacts, configure
from poller.service.takers import joined

ROOT = Path(__file__).parents[2]
TABLE = {line.message: line for line in LINES}
ALWAYS = {"time", "level", "logger", "message"}
_NAMES = {name for line in LINES for name in line.fields.split()}
SILENT = {ShardStands, RosterSeen, SourceListed, WishesSeen}
"""Facts that only the metrics and the status tell of."""
OUTCOMES: tuple[Outcome, ...] = (
    Failed(reason="Boom: no"),
    Failed(reason="slow", timeout=True),
    Refused(reason="429"),
    Unavailable(reason="refused"),
    Unavailable(reason="no such function", lasting=True),
    Partial(failed=("1",)),
    Replied(),
)


def read(outcome: ReadOutcome, reason: str = "") -> SourceRead:
    return SourceRead(mapping="m", shard="s", seconds=0.1, outcome=outcome, records=1, reason=reason)


def invoked(outcome: Outcome) -> BatchInvoked:
    return BatchInvoked(
        mapping="m",
        shard="s",
        records=3,
        outcome=outcome,
        seconds=0.1,
        request_id="r",
        attempt=1,
        retry_in=2.0,
    )


def given_up(condition: Any) -> RecordsDropped:
    records = 0 if condition == "Trimmed" else 1
    return RecordsDropped(mapping="m", shard="s", condition=condition, records=records, first="1", last="2")


def moves(kind: type, name: str) -> tuple[Any, ...]:
    """Every value of a field of a fact."""
    return get_args(get_type_hints(kind)[name])


FACTS: tuple[Fact, ...] = (
    read("throttled", reason="too often"),
    read("error", reason="away"),
    MappingProblem(mapping="m", reason="no such stream", retry_in=1.0),
    read("records"),
    BatchSent(mapping="m", shard="s", records=3, age=1.0),
    *(invoked(outcome) for outcome in OUTCOMES),
    *(given_up(condition) for condition in moves(RecordsDropped, "condition")),
    RecordsDiverted(mapping="m", shard="s", condition="Expired", records=1, first="1", last="2"),
    DestinationFailed(mapping="m", shard="s", records=1, reason="denied"),
    RecordsFiltered(mapping="m", shard="s", records=1),
    MessagesDeleted(mapping="m", deleted=1, failed=1, reason="InternalError"),
    MessagesDeleted(mapping="m", deleted=1, failed=0),
    MessagesReleased(mapping="m", released=0, failed=1, reason="denied"),
    MessagesReleased(mapping="m", released=1, failed=0, reason="the mapping stops"),
    LeaseEnded(mapping="m", messages=1, reason="slow"),
    CheckpointWritten(mapping="m", shard="s", outcome="superseded", position="1", reason="version"),
    CheckpointWritten(mapping="m", shard="s", outcome="error", position="1", reason="disk"),
    CheckpointWritten(mapping="m", shard="s", outcome="written", position="1"),
    *(
        ShardMoved(
            mapping="m",
            shard="s",
            to=to,
            position="1" if to in ("owned", "ended", "released") else "",
            owner="b" if to in ("elsewhere", "ended") else "",
        )
        for to in moves(ShardMoved, "to")
    ),
    *(ShardPassed(mapping="m", shard="s", how=how, member="b") for how in moves(ShardPassed, "how")),
    *(MemberMoved(member="b", state=state, fenced=False) for state in moves(MemberMoved, "state")),
    MemberMoved(member="b", state="gone", fenced=True),
    MemberMoved(member="b", state="up", fenced=True),
    SelfFenced(seconds=5.0),
    SelfFenced(seconds=0.0),
    StoreFailed(reason="away"),
    MappingMoved(mapping="m", state="Enabled", reason="User action"),
    MappingRemoved(mapping="m"),
    Reloaded(successful=False, at=1.0, reason="c.yaml:1: wrong"),
    Reloaded(successful=True, at=1.0),
    *(
        OrderTaken(mapping="m", shard="s", verb=verb, asked="LATEST" if verb == "seek" else "", who="ann")
        for verb in moves(OrderTaken, "verb")
    ),
    ShardSought(mapping="m", shard="s", asked="LATEST", who="ann", at=1.0, before="1", after="9"),
    ShardSought(mapping="m", shard="s", asked="LATEST", who="ann", at=1.0, before="9", after="9"),
    Stopping(reason="SIGTERM", grace=30.0),
    FunctionPrinted(function="f", request_id="r", line="hello"),
)
"""Every fact in every way that it may be."""


def logged(facts: Iterable[Fact], *pauses: float, level: str = "debug") -> list[dict[str, Any]]:
    """The lines of facts that are each told after these pauses, in seconds."""
    root, ours = logging.getLogger(), logging.getLogger("poller")
    before = list(root.handlers), root.level, ours.level
    stream, now = io.StringIO(), 1000.0
    configure(level, "json", stream)
    log = joined(LogFacts(lambda: now).takers)
    for fact in facts:
        for pause in pauses:
            now += pause
            log(fact)
    logging.captureWarnings(capture=False)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def spoken_elsewhere() -> dict[str, tuple[str, set[str]]]:
    """The lines that are no facts: message, level and fields, as the source says them."""
    found: dict[str, tuple[str, set[str]]] = {}
    for path in (ROOT / "poller").rglob("*.py"):
        tree = ast.parse(path.read_text())
        described = next((each for each in tree.body if getattr(each, "name", "") == "_described"), tree)
        for call in ast.walk(tree):
            match call:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="_log"), attr=level), args=[ast.Constant(value=str(text))]
                ):
                    source = ast.unparse(call)
                    if "_described(" in source:
                        source = ast.unparse(described)
                    fields = {name for name in _NAMES if f"'{name}'" in source}
                    fields |= {"reason"} if "'fields': fields" in source else set()
                    fields |= {"exception"} if "exc_info" in source else set()
                    found[text] = ({"warning": "WARN"}.get(level, level.upper()), fields)
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="_log"), attr="info" | "warning" | "error" | "debug")
                ):
                    raise AssertionError(f"{path}:{call.lineno}: a message that is no constant is no contract")
                case _:
                    pass
    return found


def test_every_fact_is_among_those_said():
    assert {type(fact) for fact in FACTS} == set(get_args(Fact)) - SILENT


def test_a_line_of_the_table_stands_once():
    assert len(TABLE) == len(LINES)


def test_what_is_logged_is_what_the_table_says():
    said = logged(FACTS, 0.0, 0.0, 61.0, 0.0)
    ours = [line for line in said if line["logger"] != "poller.function"]
    levels = {line["message"]: line["level"] for line in ours}
    elsewhere = spoken_elsewhere()
    levels |= {message: level for message, (level, _) in elsewhere.items()}
    assert levels == {line.message: line.level for line in LINES}
    fields = {message: found for message, (_, found) in elsewhere.items()}
    for line in ours:
        fields.setdefault(line["message"], set()).update(line.keys() - ALWAYS)
    assert fields == {line.message: set(line.fields.split()) for line in LINES}


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: type(fact).__name__)
def test_what_the_table_marks_and_nothing_else_is_told_once_a_minute(fact: Fact):
    lines = [line for line in logged([fact], 0.0, 59.0) if line["logger"] != "poller.function"]
    for message in {line["message"] for line in lines}:
        times = sum(line["message"] == message for line in lines)
        assert times == (1 if TABLE[message].again else 2)


@given(st.lists(st.sampled_from(FACTS), max_size=30), st.sampled_from([0.0, 25.0, 61.0]))
def test_who_does_not_debug_reads_the_same_lines_but_for_those_at_debug(facts: list[Fact], pause: float):
    told = [line for line in logged(facts, pause) if line["level"] != "DEBUG"]
    assert [strip(line) for line in logged(facts, pause, level="info")] == [strip(line) for line in told]


def strip(line: dict[str, Any]) -> dict[str, Any]:
    """A line without the moment at which it was written."""
    return {name: value for name, value in line.items() if name != "time"}
