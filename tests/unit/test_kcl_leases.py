"""The rows of lease tables, as each version of the Kinesis Client Library writes them."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.mapping.kcl.leases import BadRow, Lease, Mark, named_there, read_table, selected, stream_id

SHARD = "shardId-000000000001"
STREAM = "111122223333:orders:1700000000"

V1_0 = {
    "leaseKey": {"S": SHARD},
    "leaseOwner": {"S": "host:1"},
    "leaseCounter": {"N": "12"},
    "checkpoint": {"S": "49590338271490256608559692538361571095921575989136588898"},
    "ownerSwitchesSinceCheckpoint": {"N": "1"},
    "parentShardId": {"SS": ["shardId-000000000000"]},
}
V1_14 = V1_0 | {
    "checkpointSubSequenceNumber": {"N": "3"},
    "pendingCheckpoint": {"S": "49590338271490256608559692538361571095921575989136588899"},
    "pendingCheckpointSubSequenceNumber": {"N": "0"},
    "childShardIds": {"SS": ["shardId-000000000002", "shardId-000000000003"]},
    "startingHashKey": {"S": "0"},
    "endingHashKey": {"S": "340282366920938463463374607431768211455"},
}
V2_3 = V1_14 | {"pendingCheckpointState": {"B": "c3RhdGU="}}
V2_3_MULTI = V2_3 | {"leaseKey": {"S": f"{STREAM}:{SHARD}"}, "streamName": {"S": STREAM}, "shardId": {"S": SHARD}}
V3_0 = V2_3 | {
    "pendingCheckpointState": {"N": "3"},  # as its create path writes it
    "throughputKBps": {"N": "0.158533"},
    "leaseOwner": {"S": "next"},
    "checkpointOwner": {"S": "still processing"},
}
V3_5 = V3_0 | {"entityType": {"S": "LEASE"}}
WORKER = {"leaseKey": {"S": "worker-1"}, "entityType": {"S": "WORKER_METRIC_STATS"}, "lut": {"N": "1795239591"}}
LEADER = {"leaseKey": {"S": "Leader"}, "entityType": {"S": "LEADER"}, "ownerName": {"S": "worker-1"}}

_1_0 = Lease(
    key=SHARD,
    shard=SHARD,
    counter=12,
    mark=Mark("49590338271490256608559692538361571095921575989136588898"),
    owner="host:1",
    parents=frozenset({"shardId-000000000000"}),
)


def lease(item: dict[str, Any]) -> Lease:
    (found,) = read_table([item]).leases
    return found


def test_a_row_of_1_0_has_no_place_inside_of_an_aggregate():
    assert lease(V1_0) == _1_0


@pytest.mark.parametrize("item", [V1_14, V2_3, V2_3_MULTI, V3_0, V3_5], ids=["1.14", "2.3", "2.3 multi", "3.0", "3.5"])
def test_rows_of_later_versions_say_the_same_and_more(item: dict[str, Any]):
    found = lease(item)
    assert (found.shard, found.counter, found.parents) == (SHARD, 12, _1_0.parents)
    assert found.mark == Mark(_1_0.mark.checkpoint, 3)
    assert found.pending.endswith("899")
    assert found.children == {"shardId-000000000002", "shardId-000000000003"}


def test_a_row_of_an_application_of_many_streams_names_its_own():
    assert lease(V2_3_MULTI).stream == STREAM
    bare = {name: value for name, value in V2_3_MULTI.items() if name not in {"streamName", "shardId"}}
    assert (lease(bare).stream, lease(bare).shard) == (STREAM, SHARD), "the key says it, too"
    foreign = lease(V2_3_MULTI | {"streamName": {"S": "111122223333:other:1700000000"}})
    single = lease(V1_0)
    assert selected([lease(V2_3_MULTI), foreign, single], STREAM) == (lease(V2_3_MULTI), single)


@pytest.mark.parametrize(
    ("streams", "force", "named"),
    [
        ([], False, ""),
        (["", ""], True, ""),
        ([STREAM, "111122223333:other:1"], False, STREAM),
        (["111122223333:orders:1"], False, STREAM),
        (["111122223333:orders:1"], True, "111122223333:orders:1"),
        (["111122223333:orders:1", STREAM], True, STREAM),
        (["111122223333:orders:1", "111122223333:orders:2"], True, STREAM),
        (["999922223333:orders:1"], True, STREAM),
    ],
    ids=[
        "an empty table",
        "one stream alone",
        "among others",
        "made at another moment",
        "by force whatever the moment",
        "the right moment before all",
        "no guess between two",
        "never of another account",
    ],
)
def test_a_stream_is_named_as_the_table_names_it(streams: list[str], force: bool, named: str):
    leases = [Lease(key=str(at), shard="s", stream=each, counter=0, mark=Mark("1")) for at, each in enumerate(streams)]
    assert named_there(leases, STREAM, force=force) == named


def test_an_unowned_row_without_anything_that_may_be_missing_is_a_lease():
    assert lease({"leaseKey": {"S": SHARD}, "checkpoint": {"S": "LATEST"}}) == Lease(
        key=SHARD, shard=SHARD, counter=0, mark=Mark("LATEST")
    )


def test_what_3_5_keeps_beside_the_leases_is_no_lease():
    table = read_table([WORKER, V3_5, LEADER])
    assert [each.key for each in table.leases] == [SHARD]
    assert table.others == (("Leader", "LEADER"), ("worker-1", "WORKER_METRIC_STATS"))
    assert table.typed


@pytest.mark.parametrize(
    ("item", "line"),
    [
        ({"id": {"S": "1"}}, "a row without leaseKey (it has id): no lease table"),
        (
            {"leaseKey": {"S": "a"}},
            "a: checkpoint is missing, allowed: a sequence number, AT_TIMESTAMP, TRIM_HORIZON, LATEST, SHARD_END",
        ),
        (
            {"leaseKey": {"S": "a"}, "checkpoint": {"S": "here"}},
            "a: checkpoint is 'here', allowed: a sequence number, AT_TIMESTAMP, TRIM_HORIZON, LATEST, SHARD_END",
        ),
        (
            {"leaseKey": {"S": "a"}, "checkpoint": {"S": "1"}, "leaseCounter": {"S": "x"}},
            "a: leaseCounter is {'S': 'x'}, allowed: a whole number",
        ),
    ],
    ids=["another table", "no checkpoint", "a word", "a counter that is none"],
)
def test_a_row_that_is_no_lease_is_refused_with_its_key(item: dict[str, Any], line: str):
    with pytest.raises(BadRow) as refused:
        read_table([item])
    assert str(refused.value) == line


def test_checkpoints_have_the_order_of_the_library():
    ordered = [
        Mark("AT_TIMESTAMP"),
        Mark("TRIM_HORIZON"),
        Mark("LATEST"),
        Mark("9", -1),
        Mark("9"),
        Mark("9", 1),
        Mark("10"),
        Mark("SHARD_END"),
    ]
    assert all(before.rank < after.rank for before, after in pairwise(ordered))


@given(st.integers(0, 10**56), st.integers(0, 10**56))
def test_numbers_are_compared_as_numbers_whatever_their_length(left: int, right: int):
    assert (Mark(str(left)).rank < Mark(str(right)).rank) == (left < right)


@pytest.mark.parametrize(
    ("resource", "identity", "named"),
    [
        ("stream/orders", "1700000000.123", "111122223333:orders:1700000000"),
        (
            "table/orders/stream/2026-01-01T00:00:00.000",
            "2026-01-01T00:00:00.000",
            "111122223333:eu-west-1$111122223333$orders$2026-01-01T00_00_00.000:1",
        ),
    ],
    ids=["kinesis", "dynamodb"],
)
def test_a_stream_is_named_as_the_library_and_its_adapter_name_it(resource: str, identity: str, named: str):
    assert stream_id(resource, account="111122223333", region="eu-west-1", identity=identity) == named
