"""From the library's leases to our rows: where the poller goes on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.mapping.kcl.carry import Known, carry, contradicted, needs_timestamp, to_look_at, to_resolve
from poller.mapping.kcl.leases import Lease, Mark
from poller.mapping.row import ShardRow
from poller.mapping.shards import plan
from poller.model.record import After, At, From, Partition, TrimHorizon

ENDED = ShardRow(position=TrimHorizon(), ended=True)


def lease(shard: str, checkpoint: str, sub: int = 0, *parents: str, pending: str = "") -> Lease:
    return Lease(
        key=shard,
        shard=shard,
        counter=1,
        mark=Mark(checkpoint, sub),
        pending=pending,
        parents=frozenset(parents),
    )


CASES: dict[str, tuple[Lease, Known, ShardRow, str]] = {
    "behind a plain record": (lease("a", "7"), Known(counts={"a": 1}), ShardRow(position=After("7")), "behind it"),
    "behind an aggregate that is finished": (
        lease("a", "7", 2),
        Known(counts={"a": 3}),
        ShardRow(position=After("7")),
        "behind it",
    ),
    "an aggregate again of which the last is missing": (
        lease("a", "7", 1),
        Known(counts={"a": 3}),
        ShardRow(position=From("7")),
        "that record again: an aggregate with 2 of 3 user records done",
    ),
    "an aggregate again of which only the first is said to be done": (
        lease("a", "7", 0),
        Known(counts={"a": 2}),
        ShardRow(position=From("7")),
        "that record again: an aggregate with 1 of 2 user records done",
    ),
    "a record again that nothing of was done": (
        lease("a", "7", -1),
        Known(counts={"a": 1}),
        ShardRow(position=From("7")),
        "that record again: an aggregate with 0 of 1 user records done",
    ),
    "a record again that could not be looked at": (
        lease("a", "7"),
        Known(),
        ShardRow(position=From("7")),
        "that record again: it could not be looked at, so it may be an aggregate and half done",
    ),
    "from the beginning": (
        lease("a", "TRIM_HORIZON"),
        Known(),
        ShardRow(position=TrimHorizon()),
        "from TRIM_HORIZON",
    ),
    "from what LATEST is now": (
        lease("a", "LATEST"),
        Known(latest={"a": At(5.0)}),
        ShardRow(position=At(5.0)),
        "from AT_TIMESTAMP 5.000",
    ),
    "from the moment that the operator says": (
        lease("a", "AT_TIMESTAMP"),
        Known(timestamp=6.5),
        ShardRow(position=At(6.5)),
        "from AT_TIMESTAMP 6.500",
    ),
    "ended": (lease("a", "SHARD_END"), Known(), ENDED, "ended"),
    "behind the checkpoint, not behind the prepared one": (
        lease("a", "7", pending="9"),
        Known(counts={"a": 1}),
        ShardRow(position=After("7")),
        "behind it; the checkpoint prepared at 9 was never completed, and does not count",
    ),
}


@pytest.mark.parametrize(("found", "known", "row", "told"), CASES.values(), ids=CASES.keys())
def test_a_shard_goes_on(found: Lease, known: Known, row: ShardRow, told: str):
    carried = carry([found], [Partition("a")], known)
    assert carried.rows == {"a": row}
    assert [str(fate) for fate in carried.fates] == [f"a: {found.mark} -> {told}"]


def test_what_has_to_be_looked_up_is_asked_for():
    leases = [lease("a", "7"), lease("b", "LATEST"), lease("c", "SHARD_END"), lease("d", "TRIM_HORIZON")]
    assert to_look_at(leases) == {"a": "7"}
    assert to_resolve(leases) == ("b",)
    assert not needs_timestamp(leases)
    assert needs_timestamp([*leases, lease("e", "AT_TIMESTAMP")])


def test_a_table_whose_ended_shard_is_open_in_the_stream_is_of_another_stream():
    listed = [Partition("a", closed=True), Partition("b", ("a",))]
    assert not contradicted([lease("a", "SHARD_END"), lease("b", "7"), lease("gone", "SHARD_END")], listed)
    assert contradicted([lease("a", "SHARD_END"), lease("b", "SHARD_END")], listed) == ("b",)


def test_ancestors_whose_rows_the_library_removed_are_ended_and_children_start_by_themselves():
    listed = [
        Partition("grandparent", closed=True),
        Partition("parent", ("grandparent", "gone"), closed=True),
        Partition("child", ("parent",), closed=True),
        Partition("grandchild", ("child",)),
        Partition("apart"),
    ]
    carried = carry([lease("child", "7", 0, "parent")], listed, Known(counts={"child": 1}))
    assert carried.rows == {"grandparent": ENDED, "parent": ENDED, "child": ShardRow(position=After("7"))}
    assert {fate.name: fate.becomes for fate in carried.fates} == {
        "child": "behind it",
        "grandparent": "ended",
        "parent": "ended",
        "grandchild": "nothing is written, it starts at its own beginning, after its parents",
        "apart": "nothing is written, it starts where the mapping begins",
    }
    following = plan(listed, carried.rows, start=TrimHorizon(), missing=frozenset())
    assert following.open == {"child": After("7"), "apart": TrimHorizon()}
    assert following.blocked == {"grandchild": ("child",)}


def test_both_sides_of_a_split_that_the_library_is_reading_go_on_at_once():
    listed = [Partition("a", closed=True), Partition("b", ("a",)), Partition("c", ("a",))]
    leases = [lease("a", "SHARD_END"), lease("b", "7", 0, "a"), lease("c", "TRIM_HORIZON", 0, "a")]
    carried = carry(leases, listed, Known(counts={"b": 1}))
    following = plan(listed, carried.rows, start=At(9.0), missing=frozenset())
    assert following.open == {"b": After("7"), "c": TrimHorizon()}
    assert not following.blocked


def test_a_child_that_was_begun_too_early_waits_and_it_is_said():
    listed = [Partition("a", closed=True), Partition("b", ("a",))]
    carried = carry([lease("a", "5"), lease("b", "7", 0, "a")], listed, Known(counts={"a": 1, "b": 1}))
    assert carried.fates[1].becomes == "behind it; it was begun before a had ended, and waits for that now"
    assert plan(listed, carried.rows, start=TrimHorizon(), missing=frozenset()).blocked == {"b": ("a",)}


def test_a_shard_that_left_the_stream_before_its_end_is_said_to_be_lost():
    carried = carry([lease("a", "5"), lease("b", "SHARD_END")], [], Known(counts={}))
    assert carried.rows == {"a": ShardRow(position=From("5")), "b": ENDED}
    assert carried.fates[0].becomes.endswith(
        "the stream does not list this shard any more, what it held behind it is lost"
    )
    assert carried.fates[1].becomes == "ended"


CHECKPOINTS = st.sampled_from([("7", 0), ("7", 4), ("TRIM_HORIZON", 0), ("LATEST", 0), ("SHARD_END", 0)])


@given(st.lists(st.tuples(st.booleans(), CHECKPOINTS), min_size=1, max_size=12), st.data())
def test_nothing_that_the_library_has_begun_begins_anew_and_nothing_that_it_has_not_finished_is_ended(
    shards: list[tuple[bool, tuple[str, int]]], data: st.DataObject
):
    names = [str(number) for number in range(len(shards))]
    listed = [
        Partition(name, tuple(data.draw(st.lists(st.sampled_from(names[:at]), max_size=2, unique=True))) if at else ())
        for at, name in enumerate(names)
    ]
    leases = [lease(name, *mark) for name, (known, mark) in zip(names, shards, strict=True) if known]
    latest = dict.fromkeys(to_resolve(leases), At(1.0))
    carried = carry(leases, listed, Known(counts=dict.fromkeys(to_look_at(leases), 1), latest=latest))
    assert len(carried.fates) == len(names), "each has its line"
    opened = plan(listed, carried.rows, start=TrimHorizon(), missing=frozenset()).open
    for each in leases:
        row = carried.rows[each.shard]
        assert row.ended == (each.mark.checkpoint == "SHARD_END")
        assert opened.get(each.shard, row.position) == row.position
    with_lease = {each.shard for each in leases}
    for name in carried.rows.keys() - with_lease:
        assert carried.rows[name].ended
        assert any(name in partition.parents for partition in listed), "an ancestor"
