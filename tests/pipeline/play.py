"""Plays a story: a mapping in its surroundings, what happens to it, and at last some quiet in which all must end well."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import anyio
import trio
from anyio.abc import TaskGroup
from trio.testing import MockClock

from poller.mapping.budget import Budget
from poller.mapping.run import run_mapping
from poller.mapping.stop import Stop
from poller.mapping.tools import Tools
from poller.model.errors import Denied, Transient
from poller.model.facts import Fact
from poller.model.policy import Latest, Policy
from poller.model.ports import Store
from poller.model.record import TrimHorizon
from poller.stores.memory import MemoryStore
from tests.pipeline import stories
from tests.pipeline.doubles import alone, now
from tests.pipeline.machine import ERRORS, StoryDestination, StoryFunction, StoryStore, StoryStream
from tests.pipeline.stories import Action, Story
from tests.pipeline.witness import Witness

Run = Callable[[Tools], Awaitable[None]]
_PATIENCE = 900.0
"""Virtual seconds of quiet after which everything must be settled and stored."""


def play(story: Story, run: Run = run_mapping) -> Sequence[str]:
    """Play a story on a virtual clock. Answers what the witness complains of.

    Args:
        run: runs the mapping; a broken one shows that the witness sees it.
    """
    return trio.run(partial(_play, story, run), clock=MockClock(autojump_threshold=0), strict_exception_groups=True)


async def _play(story: Story, run: Run) -> Sequence[str]:
    async with MemoryStore().open() as store, anyio.create_task_group() as tasks:
        await anyio.sleep(5)
        player = _Player(story, run, store, tasks)
        player.start()
        for action in story.actions:
            await player.act(action)
            await anyio.sleep(story.pace)
            if player.witness.complaints:
                break
        else:
            await player.end_well()
        tasks.cancel_scope.cancel()
    return player.witness.complaints


class _Player:
    def __init__(self, story: Story, run: Run, store: Store, tasks: TaskGroup) -> None:
        self.story = story
        self.witness = Witness(story.rules, story.lanes, exact=story.exact)
        self._run = run
        self._tasks = tasks
        self._stream = StoryStream(story, self.witness)
        self._function = StoryFunction(story, self.witness)
        self._store = StoryStore(store, self.witness)
        self._destination = StoryDestination()
        self._lanes = story.lanes
        self._ids = 0

    def start(self) -> None:
        self.witness.lives(self._lanes)
        self._stop, self._ended, self._scope = Stop(), anyio.Event(), anyio.CancelScope()
        self._tasks.start_soon(self._live, self._tools(), self._scope, self._ended)

    async def act(self, action: Action) -> None:
        stream = self._stream
        match action:
            case stories.Wait(seconds=seconds):
                await anyio.sleep(seconds)
            case stories.Records(shard=shard, records=records, size_bytes=size_bytes):
                stream.put(_nth(stream.open, shard), records, size_bytes)
            case stories.Split(shard=shard):
                stream.reshard([_nth(stream.open, shard)], 2)
            case stories.Merge(shard=shard) if len(stream.open) > 1:
                stream.reshard([_nth(stream.open, shard), _nth(stream.open, shard + 1)], 1)
            case stories.Trim(shard=shard, count=count):
                stream.trim(_nth(list(stream.shards), shard), count)
            case stories.Vanish(shard=shard):
                if stream.oldest:
                    stream.vanish(_nth(stream.oldest, shard))
            case stories.Restart():
                await self._restart(action)
            case _:
                self._trouble(action)

    def _trouble(self, action: Action) -> None:
        stream = self._stream
        match action:
            case stories.Heal():
                self._function.healed = max(self.witness.put, default=0)
            case stories.Moods(moods=moods):
                self._function.moods.extend(moods)
            case stories.FailingReads(errors=errors):
                stream.failures.extend(ERRORS[each] for each in errors)
            case stories.FailingListings(count=count):
                stream.listing_failures = count
            case stories.TornListing(shard=shard):
                stream.tear = _nth(list(stream.shards), shard)
            case stories.IteratorsExpire():
                stream.generation += 1
            case stories.FailingStore(after=after):
                self._store.failures.extend(after)
            case stories.Refusals(count=count):
                self._destination.refusals = count
            case _:
                pass

    async def _restart(self, action: stories.Restart) -> None:
        if action.kill:
            self._scope.cancel()
            await self._ended.wait()
        else:
            await self._end()
        self._lanes = action.lanes or self._lanes
        await anyio.sleep(action.after)
        self.start()

    async def _end(self) -> None:
        """A clean stop: it waits for the call in flight, the account being delivered and a store that fails, no more."""
        self._stop.set()
        with anyio.move_on_after(self.story.call + 30):
            await self._ended.wait()
        if not self._ended.is_set():
            self.witness.complain("a stop takes too long")
            self._scope.cancel()

    async def end_well(self) -> None:
        """All trouble ends: now everything must be settled and stored, and a stop must end it."""
        self._function.healed = max(self.witness.put, default=0)
        self._function.moods.clear()
        self._stream.failures.clear()
        self._store.failures.clear()
        self._stream.listing_failures, self._stream.tear, self._destination.refusals = 0, None, 0
        with anyio.move_on_after(_PATIENCE):
            while (self.witness.unsettled() or self.witness.not_stored()) and not self.witness.complaints:
                await anyio.sleep(1)
        if left := self.witness.unsettled():
            self.witness.complain(f"{sorted(left)} are never settled")
        if behind := self.witness.not_stored():
            self.witness.complain(f"{sorted(behind)} are settled and never stored")
        await self._end()

    async def _live(self, tools: Tools, scope: anyio.CancelScope, ended: anyio.Event) -> None:
        """As the supervisor does: again after a failure that passes."""
        with scope:
            while not tools.stop.is_set():
                try:
                    await self._run(tools)
                except* (Transient, Denied):
                    await tools.pause(1)
        ended.set()

    def _tools(self) -> Tools:
        story = self.story
        policy = Policy(
            batch_size=story.batch_size,
            window=story.window,
            event_limit_bytes=story.event_limit_bytes,
            start=Latest() if story.latest else TrimHorizon(),
            retry_attempts=story.retries,
            record_age=story.record_age,
            bisect=story.bisect,
            partial=story.partial,
            lanes=self._lanes,
        )
        return Tools(
            mapping="m",
            uuid="0f0e0d0c-0000-5000-8000-000000000000",
            function_name="f",
            source_name="arn:aws:kinesis:eu-west-1:123456789012:stream/s",
            policy=policy,
            source=self._stream,
            target=self._function,
            destination=self._destination if story.destination else None,
            store=self._store,
            fleet=alone(self._store),
            budget=Budget(256 * 1024 * 1024),
            observe=self._observe,
            clock=now,
            chance=lambda: 0.5,
            new_id=self._new_id,
            stop=self._stop,
        )

    def _observe(self, fact: Fact) -> None:
        self.witness.tells(now(), fact)

    def _new_id(self) -> str:
        self._ids += 1
        return f"request-{self._ids}"


def _nth(names: Sequence[str], number: int) -> str:
    return names[number % len(names)]
