"""From our rows to the library's leases, so that it reads on where we stopped."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.mapping.kcl.back import Looked, Rules, Shard, give_back, moment_of, record_of
from poller.mapping.kcl.carry import Known, carry
from poller.mapping.kcl.leases import Lease, Mark
from poller.mapping.row import LaneRow, ShardRow, WindowRow
from poller.model.record import After, At, From, Partition, TrimHorizon

ENDED = ShardRow(position=TrimHorizon(), ended=True)
RULES = Rules()
WINDOW = WindowRow(start=60.0, state=msgspec.Raw(b"{}"))


def lease(shard: str, checkpoint: str, sub: int = 0, counter: int = 5) -> Lease:
    return Lease(key=shard, shard=shard, counter=counter, mark=Mark(checkpoint, sub), owner="w")


CASES: dict[str, tuple[ShardRow, Looked, Mark, str]] = {
    "behind a plain record": (ShardRow(position=After("9")), Looked(counts={"a": 1}), Mark("9"), ""),
    "behind the last of an aggregate": (ShardRow(position=After("9")), Looked(counts={"a": 3}), Mark("9", 2), ""),
    "behind a record that could not be looked at": (
        ShardRow(position=After("9")),
        Looked(),
        Mark("9"),
        "it could not be looked at: if it is an aggregate, most of it is delivered again",
    ),
    "at a record that is not finished": (ShardRow(position=From("9")), Looked(), Mark("9", -1), ""),
    "at the first record since a moment": (
        ShardRow(position=At(5.0)),
        Looked(firsts={"a": "9"}),
        Mark("9", -1),
        "",
    ),
    "at its end": (ENDED, Looked(), Mark("SHARD_END"), ""),
    "at the low watermark of its lanes": (
        ShardRow(position=After("9"), lanes=(LaneRow(done="12"), LaneRow())),
        Looked(counts={"a": 1}),
        Mark("9"),
        "lanes stand ahead of it, and what they finished is delivered again",
    ),
    "at the first record of an open window": (
        ShardRow(position=After("9"), window=WINDOW),
        Looked(firsts={"a": "8"}),
        Mark("8", -1),
        "its open tumbling window is given up, and its records are delivered again",
    ),
}


@pytest.mark.parametrize(("row", "looked", "mark", "remark"), CASES.values(), ids=CASES.keys())
def test_a_lease_is_moved(row: ShardRow, looked: Looked, mark: Mark, remark: str):
    returned = give_back([lease("a", "2")], {"a": row}, {"a": Shard()}, looked, RULES)
    (write,) = returned.writes
    assert (write.key, write.counter, write.mark) == ("a", 5, mark)
    assert str(returned.fates[0]) == "; ".join([f"a: 2 -> {mark}", *([remark] if remark else [])])


def test_the_write_is_one_of_the_librarys_own():
    (write,) = give_back(
        [lease("a", "2")], {"a": ENDED}, {"a": Shard(), "b": Shard(parents=("a",))}, Looked(), RULES
    ).writes[1:]
    assert write.update == {
        "Key": {"leaseKey": {"S": "a"}},
        "UpdateExpression": "SET checkpoint = :c, checkpointSubSequenceNumber = :s, leaseCounter = :after,"
        " ownerSwitchesSinceCheckpoint = :zero, childShardIds = :children REMOVE leaseOwner, checkpointOwner,"
        " pendingCheckpoint, pendingCheckpointSubSequenceNumber, pendingCheckpointState",
        "ConditionExpression": "leaseCounter = :before",
        "ExpressionAttributeValues": {
            ":c": {"S": "SHARD_END"},
            ":s": {"N": "0"},
            ":before": {"N": "5"},
            ":after": {"N": "6"},
            ":zero": {"N": "0"},
            ":children": {"SS": ["b"]},
        },
    }


@pytest.mark.parametrize(
    ("there", "row", "told"),
    [
        (lease("a", "10"), ShardRow(position=After("9")), "it stands further there, --force takes it back to 9"),
        (lease("a", "SHARD_END"), ShardRow(position=After("9")), "it stands further there, --force takes it back to 9"),
        (lease("a", "9", 1), ShardRow(position=From("9")), "it stands further there, --force takes it back to 9 (-1)"),
        (
            lease("a", "LATEST"),
            ShardRow(position=At(1.0)),
            (
                "it stands further there, --force takes it back to TRIM_HORIZON;"
                " nothing has arrived since the moment it stands at, which cannot be said there"
            ),
        ),
    ],
    ids=["a later number", "an end", "half of an aggregate", "LATEST"],
)
def test_a_checkpoint_never_goes_backwards_but_by_force(there: Lease, row: ShardRow, told: str):
    looked = Looked(counts={"a": 1})
    returned = give_back([there], {"a": row}, {"a": Shard()}, looked, RULES)
    assert not returned.writes
    assert returned.fates[0].becomes == f"left as it is: {told}"
    assert len(give_back([there], {"a": row}, {"a": Shard()}, looked, Rules(force=True)).writes) == 1


def test_what_stands_there_already_is_not_written():
    returned = give_back(
        [lease("a", "9")], {"a": ShardRow(position=After("9"))}, {"a": Shard()}, Looked(counts={"a": 1}), RULES
    )
    assert not returned.writes
    assert returned.fates[0].becomes == "left as it is: it stands there already"


def test_a_shard_that_the_library_does_not_know_gets_a_row_in_its_shape():
    shards = {"p": Shard(), "c": Shard(parents=("p",), hash_range=("0", "170141183460469231731687303715884105727"))}
    rows = {"p": ENDED, "c": ShardRow(position=After("9"))}
    stream = "111122223333:orders:1700000000"
    known = Lease(key=f"{stream}:p", shard="p", stream=stream, counter=3, mark=Mark("4"))
    created, ended = give_back([known], rows, shards, Looked(counts={"c": 1}), Rules(stream=stream, typed=True)).writes
    assert created.counter is None
    assert created.item == {
        "leaseKey": {"S": f"{stream}:c"},
        "leaseCounter": {"N": "0"},
        "ownerSwitchesSinceCheckpoint": {"N": "0"},
        "checkpoint": {"S": "9"},
        "checkpointSubSequenceNumber": {"N": "0"},
        "parentShardId": {"SS": ["p"]},
        "startingHashKey": {"S": "0"},
        "endingHashKey": {"S": "170141183460469231731687303715884105727"},
        "streamName": {"S": stream},
        "shardId": {"S": "c"},
        "entityType": {"S": "LEASE"},
    }
    assert (ended.key, ended.mark, ended.children) == (f"{stream}:p", Mark("SHARD_END"), ("c",))


def test_generations_that_came_and_went_here_are_told_from_the_youngest_to_the_oldest():
    shards = {"a": Shard(), "b": Shard(parents=("a",)), "c": Shard(parents=("b",)), "d": Shard(parents=("c",))}
    returned = give_back([lease("a", "2")], {"a": ENDED, "b": ENDED, "c": ENDED}, shards, Looked(), RULES)
    assert [(write.key, str(write.mark)) for write in returned.writes] == [
        ("d", "TRIM_HORIZON"),
        ("c", "SHARD_END"),
        ("b", "SHARD_END"),
        ("a", "SHARD_END"),
    ]


def test_an_ended_shard_of_which_the_library_has_removed_all_that_is_above_is_not_made_again():
    shards = {"a": Shard(), "b": Shard(parents=("a",))}
    rows = {"a": ENDED, "b": ShardRow(position=After("9")), "left": ShardRow(position=After("3")), "old": ENDED}
    returned = give_back([lease("b", "5")], rows, shards, Looked(counts={"b": 1}), RULES)
    assert [write.key for write in returned.writes] == ["b"]
    assert {fate.name: fate.becomes for fate in returned.fates} == {
        "a": "left out: it has ended, and the library knows nothing above it",
        "b": "9",
        "left": "left out: the stream does not list it any more",
        "old": "left out: the stream does not list it any more",
    }


def test_the_ended_parent_of_a_merge_is_made_when_the_library_still_has_to_end_the_other():
    shards = {"a": Shard(), "b": Shard(), "c": Shard(parents=("a", "b"))}
    rows = {"a": ENDED, "b": ShardRow(position=After("9"))}
    returned = give_back([lease("b", "5")], rows, shards, Looked(counts={"b": 1}), RULES)
    assert [(write.key, str(write.mark)) for write in returned.writes] == [
        ("b", "9"),
        ("c", "TRIM_HORIZON"),
        ("a", "SHARD_END"),
    ]


def test_a_child_of_a_shard_that_has_not_ended_is_left_to_the_library():
    shards = {"a": Shard(), "b": Shard(parents=("a",))}
    returned = give_back(
        [lease("a", "2")], {"a": ShardRow(position=After("9"))}, shards, Looked(counts={"a": 1}), RULES
    )
    assert [write.key for write in returned.writes] == ["a"]
    assert str(returned.fates[1]) == "b: no row -> nothing is written: nothing of it was read here"


def test_what_has_to_be_looked_up_is_asked_for():
    assert record_of(ShardRow(position=After("9"))) == "9"
    assert record_of(ShardRow(position=After("9"), window=WINDOW)) is None
    assert record_of(ShardRow(position=After("9"), ended=True)) is None
    assert record_of(ShardRow(position=From("9"))) is None
    assert moment_of(ShardRow(position=At(5.0))) == 5.0
    assert moment_of(ShardRow(position=After("9"), window=WINDOW)) == 60.0
    assert moment_of(ShardRow(position=At(5.0), ended=True)) is None
    assert moment_of(ShardRow(position=TrimHorizon())) is None


@given(st.data())
def test_children_have_rows_before_their_parent_ends_and_there_and_back_changes_nothing(data: st.DataObject):
    names = [str(number) for number in range(data.draw(st.integers(1, 10)))]
    shards = {
        name: Shard(
            parents=tuple(data.draw(st.lists(st.sampled_from(names[:at]), max_size=2, unique=True))) if at else ()
        )
        for at, name in enumerate(names)
    }
    rows: dict[str, ShardRow] = {}
    for name in names:  # as a poller has them: a row once all parents have ended
        if all(parent in rows and rows[parent].ended for parent in shards[name].parents):
            rows[name] = ENDED if data.draw(st.booleans()) else ShardRow(position=After("9"))
    leases = [
        lease(name, data.draw(st.sampled_from(["2", "TRIM_HORIZON"]))) for name in names if data.draw(st.booleans())
    ]
    looked = Looked(counts=dict.fromkeys(names, 1))
    there = {each.shard: each.mark for each in leases}
    for write in give_back(leases, rows, shards, looked, RULES).writes:
        if write.mark.checkpoint == "SHARD_END":
            assert set(write.children) <= there.keys(), "the library could not start them"
        assert (write.counter is None) == (write.key not in there)
        there[write.key] = write.mark
    back = [lease(name, mark.checkpoint, mark.sub) for name, mark in there.items()]
    assert not give_back(back, rows, shards, looked, RULES).writes, "a second time there is nothing to do"
    listed = [Partition(name, shard.parents) for name, shard in shards.items()]
    again = carry(back, listed, Known(counts=looked.counts)).rows
    for name in there.keys() & rows.keys():
        assert (again[name].ended, again[name].position) == (rows[name].ended, rows[name].position)
