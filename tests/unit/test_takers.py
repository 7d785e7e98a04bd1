"""Each fact reaches those whom it concerns, and only in the way that is meant for its kind."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest

from poller.model.facts import (
    CheckpointWritten,
    Fact,
    MappingMoved,
    MappingRemoved,
    ShardStands,
    SourceListed,
    SourceRead,
    WishesSeen,
)
from poller.service.board import Board, MappingView
from poller.service.logs import LogFacts
from poller.service.metrics import Metrics
from poller.service.observers import Observers
from poller.service.standing import Standings
from poller.service.takers import Takers, joined
from tests.unit.test_log_table import FACTS

LAST_WORDS: tuple[Fact, ...] = (
    *(fact for fact in FACTS if hasattr(fact, "mapping") and not isinstance(fact, MappingMoved)),
    ShardStands(mapping="m", shard="s", checkpoint="1", oldest=1.0, behind=2.0, held=3, attempt=4),
    SourceListed(mapping="m", retention=60.0),
    WishesSeen(mapping="m", paused=("ann", 1.0), shards={}, seeks={}),
)
"""Every fact of a mapping, in every way that it may be, but for the one that says that it is there."""


def now() -> float:
    return 1000.0


def view() -> MappingView:
    return MappingView(name="m", uuid="u", configuration={}, enabled=True)


def takers() -> dict[str, Takers]:
    standings = Standings(now)
    return {
        "standings": standings.takers,
        "metrics": Metrics(now, standings).takers,
        "board": Board(now, standings).takers,
        "log": LogFacts(now).takers,
    }


@pytest.mark.parametrize("name", ["standings", "metrics", "board", "log"])
def test_what_stands_under_a_kind_takes_that_kind(name: str):
    for kind, take in takers()[name].items():
        taken = get_type_hints(take)["fact"]
        assert kind in (get_args(taken) or (taken,))


def test_a_fact_goes_to_all_that_take_its_kind_in_their_order_and_to_no_others():
    heard: list[tuple[str, Fact]] = []

    def hears(name: str, *kinds: type) -> Takers:
        return {kind: lambda fact: heard.append((name, fact)) for kind in kinds}

    observe = joined(hears("a", SourceRead, MappingRemoved), hears("b", MappingRemoved), hears("c", SourceRead))
    read = SourceRead(mapping="m", shard="s", outcome="empty", seconds=0.1)
    removed, written = (
        MappingRemoved(mapping="m"),
        CheckpointWritten(mapping="m", shard="s", outcome="written", position=""),
    )
    for fact in (read, removed, written):
        observe(fact)
    assert heard == [("a", read), ("c", read), ("a", removed), ("b", removed)]


def test_every_fact_may_be_told_to_all():
    assert {type(fact) for fact in (*FACTS, *LAST_WORDS)} | {MappingMoved} <= set(get_args(Fact))
    observers = Observers(now)
    for fact in (*FACTS, *LAST_WORDS):
        observers.observe(fact)


@pytest.mark.parametrize("fact", LAST_WORDS, ids=lambda fact: type(fact).__name__)
def test_last_words_of_a_removed_mapping_are_neither_exported_nor_shown(fact: Fact):
    observers = Observers(now)
    metrics, board, observe = observers.metrics, observers.board, observers.observe
    board.configured([view()])
    observe(MappingMoved(mapping="m", state="Enabled", reason=""))
    observe(MappingRemoved(mapping="m"))
    before = ours(metrics), board.document()
    observe(fact)
    assert (ours(metrics), board.document()) == before
    board.configured([view()])
    assert board.document()[0]["shards"] == board.document()[0]["problems"] == []


@pytest.mark.parametrize("fact", LAST_WORDS, ids=lambda fact: type(fact).__name__)
def test_what_comes_of_a_mapping_that_is_not_configured_is_not_shown_and_only_where_its_shards_stand_is_kept(
    fact: Fact,
):
    told, untold = Observers(now), Observers(now)
    told.observe(fact)
    assert told.board.document() == []
    for board in (told.board, untold.board):
        board.configured([view()])
    kept = {"shards": told.board.document()[0]["shards"]}
    assert told.board.document() == [untold.board.document()[0] | kept]
    assert told.board.readiness() == untold.board.readiness()


def ours(metrics: Metrics) -> list[str]:
    return [line for line in metrics.scrape()[0].decode().splitlines() if line.startswith("poller_")]
