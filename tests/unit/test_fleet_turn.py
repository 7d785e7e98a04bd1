"""What a replica does with a shard that may be processed."""

from __future__ import annotations

import pytest

from poller.mapping.turn import ORPHANED_AFTER, STAYS, Turn, turn


@pytest.mark.parametrize(
    ("holder", "target", "near", "free_for", "what"),
    [
        ("", "me", "", 0.0, "open"),
        ("", "you", "me", 0.0, "open"),
        ("", "you", "you", 0.0, "leave"),
        ("", "you", "", ORPHANED_AFTER, "open"),
        ("", "", "", 0.0, "leave"),
        ("me", "you", "", 0.0, "open"),
        ("you", "me", "me", 2 * ORPHANED_AFTER, "leave"),
    ],
    ids=["mine to take", "had it last", "another's to take", "orphan", "nobody can", "named in my hands", "another's"],
)
def test_a_shard_that_is_not_in_our_hands(holder: str, target: str, near: str, free_for: float, what: Turn):
    said = turn(
        me="me", holder=holder, target=target, near=near, free_for=free_for, held_for=None, handed=False, settled=True
    )
    assert said == what


@pytest.mark.parametrize(
    ("target", "handed", "held_for", "settled", "what"),
    [
        ("me", False, 99.0, True, "keep"),
        ("", False, 99.0, True, "keep"),
        ("you", False, 0.0, True, "hand_over"),
        ("you", False, 99.0, False, "keep"),
        ("you", True, STAYS - 1, True, "keep"),
        ("you", True, STAYS, True, "hand_over"),
    ],
    ids=["mine", "nobody else can", "another's", "somebody just came", "it came just now", "it stayed long enough"],
)
def test_a_shard_in_our_hands(target: str, handed: bool, held_for: float, settled: bool, what: Turn):
    said = turn(
        me="me",
        holder="me",
        target=target,
        near="",
        free_for=0.0,
        held_for=held_for,
        handed=handed,
        settled=settled,
    )
    assert said == what
