"""The trace of a queue's messages on its way to the function, in virtual time."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import anyio.lowlevel

from poller.model.outcome import Outcome, Replied
from poller.model.ports import Sending, Span
from poller.model.trace import Trace
from poller.stores.memory import MemoryStore
from tests.pipeline.doubles import FakeFunction, FakeQueue, World, until, virtual, world

XRAY = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


class Traced(FakeFunction):
    """Keeps the traces that it is handed."""

    def __init__(self) -> None:
        super().__init__()
        self.traces: list[Trace | None] = []

    async def invoke(self, event: bytes, request_id: str, trace: Trace | None = None) -> Outcome:
        self.traces.append(trace)
        return await super().invoke(event, request_id, trace)


@virtual
async def test_the_function_is_handed_the_trace_of_the_first_message_that_has_one():
    queue, function = FakeQueue(), Traced()
    for number, attributes in enumerate(({}, {"AWSTraceHeader": XRAY}, {"AWSTraceHeader": "Root=1-other"}), 1):
        queue.put_body(json.dumps({"sequence": number, "attributes": attributes}).encode())
    async with world(queue, function, batch_size=10):
        await until(lambda: len(queue.deleted) == 3)
    assert function.traces == [Trace(xray=XRAY)]


@virtual
async def test_a_batch_without_a_trace_is_sent_without_one():
    queue, function = FakeQueue(), Traced()
    queue.put(3)
    async with world(queue, function, batch_size=10):
        await until(lambda: len(queue.deleted) == 3)
    assert function.traces == [None]


class Followed:
    """Keeps the spans that were begun, and how they ended."""

    def __init__(self) -> None:
        self.sent: list[Sending] = []
        self.ended: list[Outcome | None] = []

    def begin(self, sending: Sending) -> Span:
        self.sent.append(sending)
        return FollowedSpan(Trace(parent=f"span-{len(self.sent)}"), self.ended)


class FollowedSpan:
    def __init__(self, trace: Trace, ended: list[Outcome | None]) -> None:
        self.trace = trace
        self._ended = ended

    def end(self, outcome: Outcome | None) -> None:
        self._ended.append(outcome)


@asynccontextmanager
async def followed(queue: FakeQueue, function: FakeFunction) -> AsyncIterator[Followed]:
    tracing = Followed()
    async with MemoryStore().open() as store:
        around = World(queue, function, store, batch_size=10)
        around.tools = replace(around.tools, tracing=tracing)
        async with around.running():
            yield tracing


@virtual
async def test_under_tracing_the_function_is_handed_the_span_and_the_span_every_trace_of_the_batch():
    queue, function = FakeQueue(), Traced()
    for number, header in enumerate((XRAY, "Root=1-other", XRAY), 1):
        queue.put_body(json.dumps({"sequence": number, "attributes": {"AWSTraceHeader": header}}).encode())
    async with followed(queue, function) as tracing:
        await until(lambda: len(queue.deleted) == 3)
    (sent,) = tracing.sent
    assert sent.traces == (Trace(xray=XRAY), Trace(xray="Root=1-other"))
    assert (sent.records, sent.attempt, sent.request_id) == (3, 1, function.calls[0].request_id)
    assert function.traces == [Trace(parent="span-1")]
    assert tracing.ended == [Replied(body=b"null")]


@virtual
async def test_the_span_of_an_invocation_that_is_cut_short_ends():
    queue, function = FakeQueue(), FakeFunction(seconds=600)
    queue.put(1)
    async with anyio.create_task_group() as tasks, followed(queue, function) as tracing:
        await until(lambda: function.running == 1)
        tasks.cancel_scope.cancel()
        await anyio.lowlevel.checkpoint()
    assert tracing.ended == [None]
