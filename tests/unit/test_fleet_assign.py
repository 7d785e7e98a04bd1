"""Who shall have which shard: fair, sticky, with as few moves as can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from poller.fleet.assign import Seat, Shard, assign

BOTH = frozenset({"s", "t"})
S = frozenset({"s"})


def fleet(names: str, serves: frozenset[str] = S) -> dict[str, frozenset[str]]:
    return dict.fromkeys(names, serves)


def held(**counts: int) -> dict[Shard, Seat]:
    """So many shards of one stream in the hands of each."""
    owners = [name for name, count in counts.items() for _ in range(count)]
    return {Shard("s", f"{number:03}"): Seat(holder=owner) for number, owner in enumerate(owners)}


def loads(given_to: Mapping[Shard, str]) -> list[int]:
    return sorted(Counter(given_to.values()).values())


def moves(shards: Mapping[Shard, Seat], given_to: Mapping[Shard, str]) -> int:
    return sum(given_to.get(shard) != seat.holder for shard, seat in shards.items())


def test_shards_that_nobody_has_are_shared_to_within_one():
    free = {Shard("s", str(number)): Seat() for number in range(7)}
    assert loads(assign(fleet("abc"), free)) == [2, 2, 3]


def test_who_has_a_shard_keeps_it_though_another_has_one_less():
    shards = held(a=3, b=2)
    assert moves(shards, assign(fleet("ab"), shards)) == 0


def test_a_newcomer_is_given_its_share_and_nothing_else_moves():
    shards = held(a=5, b=5)
    given_to = assign(fleet("abc"), shards)
    assert loads(given_to) == [3, 3, 4]
    assert moves(shards, given_to) == 3
    assert {name for shard, name in given_to.items() if shards[shard].holder != name} == {"c"}


def test_the_shards_of_one_that_leaves_are_shared_among_the_others():
    shards = held(a=4, b=4, c=4)
    given_to = assign(fleet("ab"), shards)
    assert loads(given_to) == [6, 6]
    assert moves(shards, given_to) == 4


def test_a_shard_that_nobody_has_goes_to_who_is_near_it():
    assert assign(fleet("ab"), {Shard("s", "0"): Seat(near="b")}) == {Shard("s", "0"): "b"}


def test_who_is_near_and_does_not_serve_the_stream_any_more_is_not_given_it():
    members = {"a": S, "b": frozenset({"t"})}
    assert assign(members, {Shard("s", "0"): Seat(near="b")}) == {Shard("s", "0"): "a"}


def test_a_stream_that_nobody_serves_is_nobodys():
    assert assign(fleet("a"), {Shard("t", "0"): Seat()}) == {}


def test_streams_of_one_shard_each_are_shared_among_all():
    names = [f"s{number}" for number in range(6)]
    given_to = assign(fleet("abc", frozenset(names)), {Shard(name, "0"): Seat() for name in names})
    assert loads(given_to) == [2, 2, 2]


def test_a_member_that_serves_one_stream_only_takes_none_of_the_other():
    members = {"a": BOTH, "b": S}
    shards = {Shard(stream, str(number)): Seat(holder="a") for stream in "st" for number in range(4)}
    given_to = assign(members, shards)
    assert Counter((shard.stream, name) for shard, name in given_to.items()) == {("s", "b"): 4, ("t", "a"): 4}


@st.composite
def scenes(draw: st.DrawFn) -> tuple[dict[str, frozenset[str]], dict[Shard, Seat]]:
    streams = ("s", "t", "u")
    members = draw(st.dictionaries(st.sampled_from("abcde"), st.frozensets(st.sampled_from(streams)), max_size=5))
    name = st.sampled_from(["", "a", "b", "c", "d", "e", "gone"])
    keys = st.builds(Shard, st.sampled_from(streams), st.integers(0, 9).map(str))
    return members, draw(st.dictionaries(keys, st.builds(Seat, name, name), max_size=30))


@settings(deadline=None, database=None, derandomize=True, max_examples=300)
@given(scene=scenes())
def test_every_shard_has_a_member_that_serves_it_and_a_plan_that_was_followed_moves_nothing(
    scene: tuple[dict[str, frozenset[str]], dict[Shard, Seat]],
):
    members, shards = scene
    given_to = assign(members, shards)
    served = frozenset().union(*members.values())
    assert given_to.keys() == {shard for shard in shards if shard.stream in served}
    assert all(shard.stream in members[name] for shard, name in given_to.items())
    followed = {shard: Seat(holder=name) for shard, name in given_to.items()}
    assert assign(members, followed) == given_to


@settings(deadline=None, database=None, derandomize=True, max_examples=300)
@given(scene=scenes())
def test_no_member_has_two_more_than_another_that_serves_the_same(
    scene: tuple[dict[str, frozenset[str]], dict[Shard, Seat]],
):
    members, shards = scene
    count = Counter(assign(members, shards).values())
    for one, serves in members.items():
        assert all(count[one] - count[other] <= 1 for other in members if members[other] == serves)


@settings(deadline=None, database=None, derandomize=True, max_examples=300)
@given(scene=scenes())
def test_everybody_computes_the_same_in_whatever_order_it_reads(
    scene: tuple[dict[str, frozenset[str]], dict[Shard, Seat]],
):
    members, shards = scene
    backwards = dict(reversed(members.items())), dict(reversed(shards.items()))
    assert assign(*backwards) == assign(members, shards)


@settings(deadline=None, database=None, derandomize=True, max_examples=200)
@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=6))
def test_as_few_shards_move_as_can_be(counts: list[int]):
    shards = held(**{f"m{number}": count for number, count in enumerate(counts)})
    given_to = assign({f"m{number}": S for number in range(len(counts))}, shards)
    each, rest = divmod(sum(counts), len(counts))
    fullest = sorted(counts, reverse=True)
    least = sum(max(0, count - each - (place < rest)) for place, count in enumerate(fullest))
    assert moves(shards, given_to) == least
