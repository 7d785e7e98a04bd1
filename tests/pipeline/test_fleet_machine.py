"""Random stories of a fleet, played in virtual time: its promises hold; and a broken fleet is seen to be broken."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from random import Random

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, find, given, note, seed, settings
from hypothesis.errors import NoSuchExample

from poller.fleet.fleet import Fleet
from poller.fleet.member import Limits
from poller.mapping.row import decode_shard, encode
from poller.model.record import Topology
from tests.pipeline.fleet_machine import Replica, View, Way
from tests.pipeline.fleet_play import play
from tests.pipeline.fleet_stories import Action, Cut, Freeze, Outage, Story, stories

SEED = int(os.environ.get("POLLER_STORIES_SEED", "0"))
SOON = 13
"""With this seed each mutant is found within some fifty stories; with others it may take two hundred."""
STORIES = int(os.environ.get("POLLER_STORIES", "400")) // 3
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


@pytest.mark.timeout(300)
def test_whatever_happens_the_promises_of_a_fleet_are_kept():
    steps, calm = 0, 0

    @seed(SEED)
    @settings(max_examples=STORIES, deadline=None, database=None, suppress_health_check=QUIET)
    @given(story=stories())
    def tell(story: Story) -> None:
        nonlocal steps, calm
        note(f"again: POLLER_STORIES_SEED={SEED} POLLER_STORIES={STORIES * 3}")
        assert play(story) == []
        steps += len(story.actions)
        calm += story.calm

    tell()
    assert steps > 75 * STORIES, "10,000 steps by default"
    assert calm > STORIES / 5, "enough of them hold nothing but comings and goings"


class Unfenced(Replica):
    """The store takes any version for a shard's row."""

    class way_type(Way):  # noqa: N801
        async def put(self, key: str, value: bytes, expected: int) -> int:
            row = await self.store.get(key)
            if "/shard-" in key and row and expected:
                expected = row.version
            return await super().put(key, value, expected)


class Forgetful(Replica):
    """A hand-over says who has the shard next, and not what was settled."""

    class way_type(Way):  # noqa: N801
        async def put(self, key: str, value: bytes, expected: int) -> int:
            old = await self.store.get(key)
            if old and "/shard-" in key:
                before, after = decode_shard(old.value), decode_shard(value)
                if before.owner == self._replica.name != after.owner:
                    value = encode(msgspec.structs.replace(after, position=before.position, lanes=before.lanes))
            return await super().put(key, value, expected)


class Orphaned(Replica):
    """Shards have no parents, so a child does not wait."""

    class view_type(View):  # noqa: N801
        async def topology(self) -> Topology:
            whole = await super().topology()
            orphans = tuple(msgspec.structs.replace(each, parents=()) for each in whole.partitions)
            return msgspec.structs.replace(whole, partitions=orphans)


class Fearless(Replica):
    """A replica that cannot beat goes on as if nobody could have declared it dead."""

    class fleet_type(Fleet):  # noqa: N801
        @property
        def safe(self) -> bool:
            return True


class Greedy(Replica):
    """What another has counts as free."""

    class fleet_type(Fleet):  # noqa: N801
        def holds(self, owner: str, epoch: int, stream: str) -> bool:
            return owner == self.name and super().holds(owner, epoch, stream)


class Suspicious(Replica):
    """Silence counts though the observer has been away itself, or the store."""

    class limits_type(Limits):  # noqa: N801
        @property
        def blind(self) -> float:
            return math.inf

    limits = limits_type()


MUTANTS: dict[str, tuple[type[Replica], str, tuple[type[Action], ...]]] = {
    "no fence": (Unfenced, "which", (Cut, Freeze)),
    "a hand-over that does not store what was settled": (Forgetful, "twice though nothing failed", ()),
    "no parent test": (Orphaned, "though its parent", ()),
    "no self-fence": (Fearless, "s after its last beat", (Cut, Outage)),
    "a claim of what another has": (Greedy, "which", ()),
    "silence counts through an outage": (Suspicious, "which is well", (Outage,)),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("mutant", "complaint", "about"), MUTANTS.values(), ids=MUTANTS.keys())
def test_a_fleet_that_is_broken_is_seen_to_be(mutant: type[Replica], complaint: str, about: tuple[type[Action], ...]):
    def is_seen(story: Story) -> bool:
        return any(complaint in each for each in play(story, mutant))

    generate = settings(
        max_examples=300, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=QUIET
    )
    found: Story | None = None
    with suppress(NoSuchExample):
        found = find(stories(about=about), is_seen, settings=generate, random=Random(SEED or SOON))
    assert found is not None, "no story shows it"
