"""The trace of a queue's messages on its way to the function, in virtual time."""

import json

from poller.model.outcome import Outcome
from poller.model.trace import Trace
from tests.pipeline.doubles import FakeFunction, FakeQueue, until, virtual, world

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
