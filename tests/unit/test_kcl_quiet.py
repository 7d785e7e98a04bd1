"""Who is at work on a stream, seen in what moves."""

from collections.abc import Mapping
from typing import Any

import pytest

from poller.mapping.kcl.leases import Table, read_table
from poller.mapping.kcl.quiet import Look, at_work, restless
from poller.model.ports import Row
from tests.unit.test_kcl_leases import SHARD, V1_0, V3_0, V3_5, WORKER


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        ([V1_0], [V1_0], []),
        ([V1_0], [V1_0 | {"leaseCounter": {"N": "13"}}], [SHARD]),
        ([V3_0], [V3_0 | {"leaseOwner": {"S": "another"}}], [SHARD]),
        ([V1_0], [], [SHARD]),
        ([], [V1_0], [SHARD]),
        ([V3_5, WORKER], [V3_5, WORKER | {"lut": {"N": "1795239621"}}], ["worker-1"]),
        ([V3_0], [V3_0 | {"throughputKBps": {"N": "1"}}], []),
    ],
    ids=["still", "renewed", "handed over", "removed", "made", "a worker without leases", "nothing that says life"],
)
def test_life_is_seen_in_what_moves(before: list[dict[str, Any]], after: list[dict[str, Any]], moved: list[str]):
    assert restless(read_table(before), read_table(after)) == moved


STILL = Row(b'{"position":{"type":"after","sequence":"9"}}', 4)
OWNED = Row(b'{"position":{"type":"after","sequence":"9"},"owner":"replica-1","session":3}', 4)


@pytest.mark.parametrize(
    ("rows", "then", "members", "alive"),
    [
        ({}, {}, (1, 2), False),
        ({"a": STILL}, {"a": STILL}, (1, 2), False),
        ({"a": STILL}, {"a": STILL._replace(version=5)}, (1, 1), True),
        ({"a": STILL}, {}, (1, 1), True),
        ({"a": OWNED}, {"a": OWNED}, (1, 2), True),
        ({"a": OWNED}, {"a": OWNED}, (1, 1), False),
    ],
    ids=[
        "replicas of other mappings live",
        "nobody owns what does not move",
        "a checkpoint is written",
        "a row is removed",
        "an idle shard is owned, and its owner lives",
        "an owner was killed",
    ],
)
def test_a_poller_at_work_is_seen(
    rows: Mapping[str, Row], then: Mapping[str, Row], members: tuple[int, int], alive: bool
):
    before, after = (
        Look(table=Table(()), rows=each, members={"@members/replica-1": version})
        for each, version in zip((rows, then), members, strict=True)
    )
    assert at_work(before, after) == ("a poller is processing the mapping: stop it first" if alive else "")


def test_workers_of_the_library_are_told_with_the_rows_that_they_moved():
    def look(counter: int) -> Look:
        rows = [V1_0 | {"leaseKey": {"S": f"s{n}"}, "leaseCounter": {"N": str(counter)}} for n in range(5)]
        return Look(table=read_table(rows), rows={}, members={})

    assert at_work(look(1), look(2)) == (
        "workers of the application are alive: 5 of its rows changed (s0, s1, s2, ...); stop them first"
    )
