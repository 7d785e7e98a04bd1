"""What a replica concludes from the rows of the others."""

from __future__ import annotations

import pytest

from poller.fleet.member import (
    DEFAULT,
    EVERYBODY,
    FAST,
    FORGOTTEN_AFTER,
    Limits,
    Member,
    MemberState,
    Roster,
    Sighting,
    bells,
    decode,
    encode,
    forgettable,
    holds,
    membership,
    sight,
    silent,
)


def a_member(epoch: int = 3, state: MemberState = "up", handed: str = "") -> Member:
    return Member(epoch=epoch, boot="b", state=state, serves=("s",), handed={handed: 1} if handed else {})


def seen(member: Member, version: int = 1, since: float = 0.0) -> Roster:
    return {"a": Sighting(member, version, since)}


def test_a_row_that_has_not_changed_was_first_seen_when_it_was_first_seen():
    before = seen(a_member(), version=4, since=10.0)
    assert sight(before, {"a": (a_member(), 4)}, 12.0)["a"].since == 10.0
    assert sight(before, {"a": (a_member(), 5)}, 12.0)["a"].since == 12.0


def test_after_a_look_that_was_long_ago_silence_counts_from_now():
    assert sight(seen(a_member(), version=4), {"a": (a_member(), 4)}, 60.0, blind=True)["a"].since == 60.0


def test_a_row_that_is_not_there_any_more_is_forgotten():
    assert sight(seen(a_member()), {}, 1.0) == {}


@pytest.mark.parametrize(
    ("me", "state", "age", "dead"),
    [
        ("b", "up", 6.4, False),
        ("b", "up", 6.5, True),
        ("b", "leaving", 6.5, True),
        ("b", "gone", 60.0, False),
        ("a", "up", 60.0, False),
    ],
    ids=["not yet", "silent", "leaving is alive", "gone is gone", "oneself"],
)
def test_a_member_is_declared_dead_when_its_row_stood_still(me: str, state: MemberState, age: float, dead: bool):
    assert silent(seen(a_member(state=state)), DEFAULT, me=me, now=age) == (("a",) if dead else ())


@pytest.mark.parametrize(
    ("owner", "epoch", "stream", "state", "has"),
    [
        ("a", 3, "s", "up", True),
        ("a", 4, "s", "up", True),
        ("a", 2, "s", "up", False),
        ("a", 3, "s", "leaving", True),
        ("a", 3, "s", "gone", False),
        ("a", 3, "t", "up", False),
        ("x", 3, "s", "up", False),
        ("", 0, "s", "up", False),
    ],
    ids=["its life", "a later life", "an older life", "leaving", "gone", "another stream", "a stranger", "nobody"],
)
def test_an_owner_has_a_shard_in_its_present_life_while_it_serves_the_stream(
    owner: str, epoch: int, stream: str, state: MemberState, has: bool
):
    assert holds(seen(a_member(state=state)), owner, epoch, stream) is has


def test_only_members_that_are_long_gone_are_forgotten():
    assert forgettable(seen(a_member(state="gone")), now=FORGOTTEN_AFTER) == ("a",)
    assert forgettable(seen(a_member(state="gone")), now=FORGOTTEN_AFTER - 1) == ()
    assert forgettable(seen(a_member()), now=2 * FORGOTTEN_AFTER) == ()


def test_a_beat_alone_changes_nothing_of_who_shall_have_what():
    assert membership(seen(a_member(), version=1)) == membership(seen(a_member(), version=2, since=9.0))
    assert membership(seen(a_member(epoch=3))) != membership(seen(a_member(epoch=4)))
    assert membership(seen(a_member(state="gone"))) == {}


def test_a_bell_is_heard_by_whom_it_was_rung_for():
    quiet, for_b, for_all = a_member(), a_member(handed="b"), a_member(handed=EVERYBODY)
    assert bells(seen(quiet), "c") == bells(seen(for_b), "c")
    assert bells(seen(quiet), "b") != bells(seen(for_b), "b")
    assert bells(seen(quiet), "c") != bells(seen(for_all), "c")


def test_a_row_is_read_as_it_was_written():
    member = a_member(handed="b")
    assert decode(encode(member)) == member


@pytest.mark.parametrize(
    ("self_fence", "expiry"), [(5.0, 5.9), (1.0, 4.0)], ids=["before it stops", "within three beats"]
)
def test_limits_by_which_a_member_could_be_dead_and_work_are_refused(self_fence: float, expiry: float):
    with pytest.raises(ValueError, match="expiry has to be at least"):
        Limits(self_fence=self_fence, expiry=expiry)


@pytest.mark.parametrize("limits", [DEFAULT, FAST], ids=["default", "fast"])
def test_clocks_that_differ_by_a_fifth_do_no_harm(limits: Limits):
    assert limits.self_fence / 0.91 < limits.expiry / 1.09
