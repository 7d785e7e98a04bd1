"""Thousands of drawn stories in virtual time: whatever happens, nothing is lost, overtaken or tried too often.

The same stories every time; others with POLLER_STORIES_SEED=n, more of them with POLLER_STORIES=n.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, find, given, note, seed, settings
from hypothesis.errors import NoSuchExample

from poller.mapping.row import decode_shard, encode
from poller.mapping.run import run_mapping
from poller.mapping.tools import Tools
from poller.model.outcome import Failed, Outcome, Refused, Replied
from poller.model.ports import Admit, Row, Source, Target, Unsettled
from poller.model.record import Cursor, Page, Record, Topology, TrimHorizon
from poller.model.trace import Trace
from tests.pipeline.doubles import StoreAround
from tests.pipeline.play import Run, play
from tests.pipeline.stories import Story, stories

SEED = int(os.environ.get("POLLER_STORIES_SEED", "0"))
STORIES = int(os.environ.get("POLLER_STORIES", "400"))
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


@pytest.mark.timeout(300)
def test_whatever_happens_the_promises_of_a_stream_are_kept():
    steps, exact = 0, 0

    @seed(SEED)
    @settings(max_examples=STORIES, deadline=None, database=None, suppress_health_check=QUIET)
    @given(story=stories())
    def tell(story: Story) -> None:
        nonlocal steps, exact
        note(f"again: POLLER_STORIES_SEED={SEED} POLLER_STORIES={STORIES}")
        assert play(story) == []
        steps += len(story.actions)
        exact += story.exact

    tell()
    assert steps > 25 * STORIES, "each story is long enough to say something"
    assert exact > STORIES / 4, "enough of them are followed call by call"


class Around:
    """A stream that hands everything on."""

    redelivers = False
    ordered = True

    def __init__(self, source: Source) -> None:
        self.source = source

    async def topology(self) -> Topology:
        return await self.source.topology()

    async def latest(self, partition: str) -> Cursor:
        return await self.source.latest(partition)

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        return await self.source.read(partition, cursor, limit, admit)

    async def delete(self, records: Sequence[Record]) -> Sequence[Unsettled]:
        return await self.source.delete(records)

    async def extend(self, records: Sequence[Record], seconds: int) -> Sequence[Unsettled]:
        return await self.source.extend(records, seconds)

    async def release(self, records: Sequence[Record]) -> None:
        await self.source.release(records)

    async def check(self) -> None:
        await self.source.check()


class Orphaned(Around):
    """Shards have no parents, so a child does not wait."""

    async def topology(self) -> Topology:
        whole = await super().topology()
        orphans = tuple(msgspec.structs.replace(each, parents=()) for each in whole.partitions)
        return msgspec.structs.replace(whole, partitions=orphans)


class FromTheStart(Around):
    """An iterator that expired is replaced by one at the beginning of the shard."""

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        page = await super().read(partition, cursor, limit, admit)
        if page.cursor is None:
            return page
        return msgspec.structs.replace(page, cursor=Cursor(TrimHorizon(), page.cursor.token))


class OnReceipt:
    """A function that is called behind our back: it counts as processed when it has only been sent."""

    def __init__(self, target: Target, tasks: anyio.abc.TaskGroup) -> None:
        self.target = target
        self.tasks = tasks

    async def invoke(self, event: bytes, request_id: str, trace: Trace | None = None) -> Outcome:
        self.tasks.start_soon(self.target.invoke, event, request_id)
        await anyio.sleep(0.01)
        return Replied()

    async def check(self) -> None:
        await self.target.check()


class ThrottlesCount:
    """A throttle is taken for a failure of the function."""

    def __init__(self, target: Target) -> None:
        self.target = target

    async def invoke(self, event: bytes, request_id: str, trace: Trace | None = None) -> Outcome:
        outcome = await self.target.invoke(event, request_id, trace)
        return Failed(reason="429") if isinstance(outcome, Refused) else outcome

    async def check(self) -> None:
        await self.target.check()


class OneBudget:
    """A batch that was shortened goes on under the request id, and so with the budget, of the whole."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.last = ""

    async def invoke(self, event: bytes, request_id: str, trace: Trace | None = None) -> Outcome:
        self.last = self.last or request_id
        outcome = await self.target.invoke(event, self.last)
        if isinstance(outcome, Replied) and outcome.body == b'{"batchItemFailures":[]}':
            self.last = ""
        return outcome

    async def check(self) -> None:
        await self.target.check()


class Forgetful(StoreAround):
    """A store that keeps positions and forgets what lanes have in hand."""

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, Row]]:
        async for key, row in self.store.scan(prefix):
            yield key, Row(encode(msgspec.structs.replace(decode_shard(row.value), lanes=())), row.version)


async def committed_on_receipt(tools: Tools) -> None:
    async with anyio.create_task_group() as tasks:
        await run_mapping(replace(tools, target=OnReceipt(tools.target, tasks)))


async def children_do_not_wait(tools: Tools) -> None:
    await run_mapping(replace(tools, source=Orphaned(tools.source)))


async def expired_iterators_begin_again(tools: Tools) -> None:
    await run_mapping(replace(tools, source=FromTheStart(tools.source)))


async def throttles_spend_attempts(tools: Tools) -> None:
    await run_mapping(replace(tools, target=ThrottlesCount(tools.target)))


async def progress_renews_nothing(tools: Tools) -> None:
    await run_mapping(replace(tools, target=OneBudget(tools.target)))


async def restarts_forget_the_retries(tools: Tools) -> None:
    await run_mapping(replace(tools, store=Forgetful(tools.store)))


MUTANTS: dict[str, tuple[Run, str]] = {
    "the checkpoint is written before the function succeeded": (committed_on_receipt, "which nobody settled"),
    "a child does not wait for its parents": (children_do_not_wait, "of its parent"),
    "an expired iterator begins again": (expired_iterators_begin_again, "though a checkpoint covers it"),
    "a throttle spends an attempt": (throttles_spend_attempts, "before its retries are spent"),
    "progress does not renew the batch": (progress_renews_nothing, "under an old request id"),
    "a restart forgets the attempts of a batch": (restarts_forget_the_retries, "under another request id"),
}


@pytest.mark.parametrize(("mutant", "complaint"), MUTANTS.values(), ids=MUTANTS.keys())
def test_a_mapping_that_is_broken_is_seen_to_be(mutant: Run, complaint: str):
    def is_seen(story: Story) -> bool:
        return any(complaint in each for each in play(story, mutant))

    generate = settings(
        max_examples=300, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=QUIET
    )
    found: Story | None = None
    with suppress(NoSuchExample):
        found = find(stories(), is_seen, settings=generate, random=Random(SEED))
    assert found is not None, "no story shows it"
