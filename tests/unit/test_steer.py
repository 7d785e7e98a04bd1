"""What operators wish, and what follows for each shard: tables of decisions."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.mapping import steer
from poller.mapping.row import ShardRow
from poller.mapping.steer import Pause, Seek, Wishes
from poller.model.record import After, At, From, Partition, Position, Topology, TrimHorizon
from poller.service.steering import Order, Refused, chosen, place

_NOW = 1_800_000_000.0
_SEQUENCE = "49590338271490256608559692538361571095921575989136588898"
_TOPOLOGY = Topology((Partition("p", closed=True), Partition("c", parents=("p",))), 86400.0)


def a_seek(*shards: str, stream: str = "s", serial: int = 0, **more: bool) -> Seek:
    return Seek(serial=serial, stream=stream, shards=shards, to=At(1.0), asked="1", who="ann", at=2.0, **more)


def a_row(*, ended: bool = False, steered: int = 0) -> ShardRow:
    return ShardRow(position=After("5"), ended=ended, steered=steered)


@pytest.mark.parametrize(
    ("text", "shard", "after", "position"),
    [
        ("TRIM_HORIZON", "", False, TrimHorizon()),
        ("trim_horizon", "p", False, TrimHorizon()),
        ("LATEST", "", False, None),
        ("2026-11-20T10:00:00Z", "", False, At(1_795_168_800.0)),
        ("2026-11-20T11:00:00+01:00", "", False, At(1_795_168_800.0)),
        ("1795168800.5", "", False, At(1_795_168_800.5)),
        (_SEQUENCE, "p", False, From(_SEQUENCE)),
        (_SEQUENCE, "p", True, After(_SEQUENCE)),
    ],
)
def test_a_place_is_a_keyword_a_time_or_a_sequence_number(
    text: str, shard: str, after: bool, position: Position | None
):
    assert place(Order(to=text, shard=shard, after=after), now=_NOW) == position


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (Order(to="yesterday"), "is no place in a stream"),
        (Order(to=""), "is no place in a stream"),
        (Order(to="nan"), "is no place in a stream"),
        (Order(to="1800000001"), "lies in the future"),
        (Order(to=_SEQUENCE), "name the shard"),
        (Order(to="LATEST", after=True), "after is for a sequence number"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.to,
)
def test_a_place_that_is_none_is_refused_with_what_would_be_right(order: Order, reason: str):
    with pytest.raises(Refused, match=reason) as refused:
        place(order, now=_NOW)
    assert refused.value.status == 422


def test_a_seek_of_a_mapping_is_about_all_its_shards_and_latest_about_those_that_have_not_ended():
    rows = {"p": a_row(ended=True)}
    assert chosen("", _TOPOLOGY, rows, latest=False) == ("c", "p")
    assert chosen("", _TOPOLOGY, rows, latest=True) == ("c",)


@pytest.mark.parametrize(("shard", "status"), [("p", 409), ("x", 404)])
def test_a_shard_that_has_ended_or_is_unknown_is_refused(shard: str, status: int):
    with pytest.raises(Refused) as refused:
        chosen(shard, _TOPOLOGY, {"p": a_row(ended=True)}, latest=False)
    assert refused.value.status == status


def test_a_seek_is_pending_until_the_row_of_its_shard_names_it():
    wishes = steer.sought(Wishes(), a_seek("p"), above=7)
    (seek,) = wishes.seeks
    assert seek.serial == 8
    assert steer.pending(wishes, "s", "p", a_row()) is seek
    assert steer.pending(wishes, "s", "p", None) is seek
    assert steer.pending(wishes, "s", "p", a_row(steered=8)) is None
    assert steer.pending(wishes, "another", "p", a_row()) is None
    assert steer.pending(wishes, "s", "c", a_row()) is None


def test_only_a_seek_of_the_whole_mapping_reads_ended_shards_again_and_their_children_wait():
    rows = {"p": a_row(ended=True), "c": a_row()}
    one = steer.sought(Wishes(), a_seek("p", "c"), above=0)
    assert steer.as_wished(rows, one, "s", _TOPOLOGY.partitions) == rows
    every = steer.sought(Wishes(), a_seek("p", "c", reopens=True), above=0)
    seen = steer.as_wished(rows, every, "s", _TOPOLOGY.partitions)
    assert not seen["p"].ended
    assert steer.reopened({"c": ("p",)}, seen) == {"c"}
    assert steer.reopened({"c": ("p",)}, rows) == frozenset()


def test_a_shard_that_left_the_stream_is_not_waited_for():
    wishes = steer.sought(Wishes(), a_seek("gone", "c", reopens=True), above=0)
    rows = {"gone": a_row(ended=True), "c": a_row()}
    assert steer.undone(wishes, "s", rows, _TOPOLOGY.partitions) is wishes
    done = rows | {"c": a_row(steered=1)}
    assert steer.undone(wishes, "s", done, _TOPOLOGY.partitions).seeks == ()


@given(st.lists(st.tuples(st.sets(st.sampled_from("abc"), min_size=1), st.booleans()), max_size=6))
def test_of_several_seeks_the_last_counts_and_serials_only_grow(orders: list[tuple[set[str], bool]]):
    wishes, last = Wishes(), dict[str, int]()
    for shards, tidied in orders:
        before = wishes.serial
        wishes = steer.sought(wishes, a_seek(*sorted(shards)), above=0)
        assert wishes.serial > before
        last |= dict.fromkeys(shards, wishes.serial)
        if tidied:
            rows = {shard: a_row(steered=serial) for shard, serial in last.items()}
            wishes = steer.undone(wishes, "s", rows, ())
            assert not wishes.seeks
            last.clear()
    assert {s: p.serial for s in "abc" if (p := steer.pending(wishes, "s", s, a_row()))} == last
    assert steer.decode(steer.encode(wishes)) == wishes


def test_who_paused_first_stays_named_and_resume_lifts_what_it_says():
    first, second = Pause("ann", 1.0), Pause("bob", 2.0)
    wishes = steer.pause(steer.pause(Wishes(), "", first), "", second)
    wishes = steer.pause(steer.pause(wishes, "p", first), "c", second)
    assert steer.paused(wishes, "x") == first
    one = steer.resume(msgspec.structs.replace(wishes, paused=None), "p")
    assert (steer.paused(one, "p"), steer.paused(one, "c")) == (None, second)
    assert steer.resume(wishes, "") == Wishes()
