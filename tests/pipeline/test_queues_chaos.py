"""Whatever fails and whenever we are killed: nothing is lost, nothing is sent that is not ours, groups keep their order."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import anyio
import hypothesis
import pytest
from hypothesis import Phase
from hypothesis import strategies as st

from poller.mapping.run import run_mapping
from poller.model.errors import Denied, Throttled, Transient
from poller.model.outcome import Failed, Outcome, Refused, Replied, Unavailable
from poller.model.policy import Scaling
from poller.model.ports import Admit, Unsettled
from poller.model.record import Cursor, Page, Record
from poller.model.trace import Trace
from poller.stores.memory import MemoryStore
from tests.pipeline.doubles import FakeFunction, FakeQueue, World, virtual

_POISON = 17
"""Every so many messages, one that the function never takes."""
_PATIENCE = 25
"""Receives until the dead-letter queue: more than one life of the test can spend on a healthy message."""


class Moody(FakeQueue):
    """A queue whose calls fail now and then, before or after the deed."""

    def __init__(self, dice: random.Random, *, fifo: bool, visibility: float) -> None:
        super().__init__(visibility=visibility, fifo=fifo, max_receives=_PATIENCE, wait=dice.choice([0.5, 1, 20]))
        self.dice = dice
        self.calm = False

    def _maybe(self, chance: float) -> None:
        if not self.calm and self.dice.random() < chance:
            raise self.dice.choice([Transient("connection reset"), Throttled("slow down"), Denied("not allowed")])

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        self._maybe(0.03)
        return await super().read(partition, cursor, limit, admit)

    async def delete(self, records: Sequence[Record]) -> Sequence[Unsettled]:
        self._maybe(0.02)
        failed = await super().delete([each for each in records if self.calm or self.dice.random() > 0.02])
        self._maybe(0.01)
        done = {each.id for each in records if each.id not in self.messages} - {each.record.id for each in failed}
        return [Unsettled(each, "InternalError") for each in records if each.id not in done]

    async def release(self, records: Sequence[Record]) -> None:
        self._maybe(0.1)
        await super().release(records)

    async def extend(self, records: Sequence[Record], seconds: int) -> Sequence[Unsettled]:
        self._maybe(0.1)
        return await super().extend(records, seconds)


class Judge(FakeFunction):
    """A function with moods that looks at each event whether it may be sent at all."""

    def __init__(self, queue: Moody, dice: random.Random, *, reports: bool) -> None:
        super().__init__(seconds=dice.choice([0.0, 0.3, 4.0]))
        self.queue = queue
        self.dice = dice
        self.reports = reports
        self.poison = _POISON
        self.first: dict[str, list[int]] = {}
        self.running_groups: set[str] = set()
        self.wrong: list[str] = []

    async def invoke(self, event: bytes, request_id: str, trace: Trace | None = None) -> Outcome:
        messages = [each["sequence"] for each in json.loads(event)["Records"]]
        groups = {self._group(message) for message in messages} if self.queue.ordered else set()
        self._look(messages, groups)
        self.running_groups |= groups
        try:
            await anyio.sleep(self.seconds if self.queue.calm else self.seconds * self.dice.choice([1, 1, 1, 12]))
        finally:
            self.running_groups -= groups
        outcome = self._outcome(messages)
        good = isinstance(outcome, Replied)
        failed = self._failed(outcome)
        self.succeeded += [each for each in messages if good and str(each) not in failed]
        return outcome

    def _group(self, message: int) -> str:
        return f"g{message % 5}"

    def _look(self, messages: list[int], groups: set[str]) -> None:
        for each in messages:
            held = self.queue.messages.get(str(each))
            if held is not None and held.hidden_until <= anyio.current_time():
                self.wrong.append(f"{each} was sent though its lease had ended")
        if self.running_groups & groups:
            self.wrong.append(f"two batches of {self.running_groups & groups} at once")
        for each in messages if self.queue.ordered else ():
            seen = self.first.setdefault(self._group(each), [])
            if each not in seen:
                behind = [str(n) for n in range(each % 5, each, 5) if n and n not in seen]
                if [n for n in behind if n in self.queue.messages]:
                    self.wrong.append(f"{each} overtook {behind}")
                seen.append(each)

    def _outcome(self, messages: list[int]) -> Outcome:
        if not self.queue.calm and (roll := self.dice.random()) < 0.15:
            return (Refused(reason="429"), Unavailable(reason="503"), Failed(reason="Boom"))[int(roll * 20)]
        poison = [each for each in messages if each % self.poison == 0]
        if not self.reports:
            return Failed(reason="Poison") if poison else Replied()
        return Replied(body=json.dumps({"batchItemFailures": [{"itemIdentifier": str(n)} for n in poison]}).encode())

    def _failed(self, outcome: Outcome) -> set[str]:
        if not isinstance(outcome, Replied) or not outcome.body:
            return set()
        return {each["itemIdentifier"] for each in json.loads(outcome.body)["batchItemFailures"]}


async def produce(queue: Moody, count: int) -> None:
    for _ in range(count):
        await anyio.sleep(queue.dice.random() * 0.5)
        queue.put(1, key=f"g{(queue._next + 1) % 5}", data="x" * queue.dice.choice([1, 1, 500]))


async def live(world: World) -> None:
    """As the supervisor does: again after a failure that passes."""
    while not world.stop.is_set():
        try:
            await run_mapping(world.tools)
        except* (Transient, Denied):
            await anyio.sleep(1)


async def go_through(seed: int, *, fifo: bool, reports: bool, extend: bool, count: int = 150) -> tuple[Moody, Judge]:
    """Lives of all kinds: killed, stopped, throttled, too slow; at the end all is calm."""
    dice = random.Random(seed)
    queue = Moody(dice, fifo=fifo, visibility=dice.choice([10, 30, 60]))
    function = Judge(queue, dice, reports=reports)
    limit = dice.choice([700, 6_000_000])
    if (
        fifo and limit == 700
    ):  # what follows a poisoned message of its group in another batch is received as often as it
        function.poison = count + 1
    window = 0.0 if fifo else dice.choice([0.0, 0.0, 3.0])
    policy: dict[str, Any] = {
        "batch_size": 1 if not reports else dice.choice([1, 3, 10]),
        "window": window,
        "partial": reports,
        "extend_visibility": extend,
        "event_limit_bytes": limit,
        "scaling": Scaling(most=dice.choice([2, 5, 1250])),
    }
    async with MemoryStore().open() as store, anyio.create_task_group() as tasks:
        tasks.start_soon(produce, queue, count)
        for _ in range(4):
            world = World(queue, function, store, **policy)
            with anyio.move_on_after(dice.choice([3, 30, 200])):  # killed, unless it has stopped before
                async with anyio.create_task_group() as lives:
                    lives.start_soon(live, world)
                    await anyio.sleep(dice.random() * 60)
                    world.stop.set()
        queue.calm = True
        function.seconds = 0.1
        world = World(queue, function, store, **policy)
        async with anyio.create_task_group() as lives:
            lives.start_soon(live, world)
            await anyio.sleep(_PATIENCE * queue.visibility * (2 if fifo else 1) * 5)
            world.stop.set()
        assert world.tools.budget.used_bytes == 0
    return queue, function


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fifo", [False, True], ids=["standard", "FIFO"])
@hypothesis.settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.generate))  # a seed cannot be shrunk
@hypothesis.given(seed=st.integers(0, 10**6), reports=st.booleans(), extend=st.booleans())
def test_whatever_fails_every_healthy_message_is_processed_and_nothing_is_deleted_or_sent_that_must_not_be(
    fifo: bool, seed: int, reports: bool, extend: bool
):
    @virtual
    async def run() -> None:
        queue, function = await go_through(seed, fifo=fifo, reports=reports, extend=extend, count=150)
        whole = set(range(1, 151))
        healthy = {each for each in whole if each % function.poison}
        assert function.wrong == []
        assert {int(each) for each in queue.deleted} <= set(function.succeeded), "deleted without success"
        assert not {int(each) for each in queue.dead} & healthy, "a healthy message in the dead-letter queue"
        assert {int(each) for each in queue.deleted} == healthy
        assert {int(each) for each in queue.dead} == whole - healthy

    run()
