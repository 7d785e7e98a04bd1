"""One call of the function, told before and after. The function's failure is a value; nothing is raised."""

from __future__ import annotations

import msgspec

from poller.mapping.batch import Batch
from poller.mapping.reply import understood
from poller.mapping.tools import Tools
from poller.mapping.trace import trace_of, traces_of
from poller.model.facts import BatchInvoked, BatchSent
from poller.model.outcome import Outcome, Replied
from poller.model.ports import Sending, Span, Tracing


class Attempts(msgspec.Struct):
    """The calls made with one batch."""

    request_id: str
    made: int = 0
    failures: int = 0
    """In a row, whatever the reason."""


class Call(msgspec.Struct, frozen=True):
    """One call, ended."""

    outcome: Outcome
    """As the mapping's rules understand it."""
    body: bytes
    """What the function returned."""
    seconds: float
    span: Span | None = None
    """Open until it is told how the call ended."""


async def call(tools: Tools, shard: str, batch: Batch, event: bytes, attempts: Attempts) -> Call:
    """Invoke once. The batch is empty where a window closes."""
    age = tools.clock() - batch[-1].arrived if batch else 0.0
    tools.observe(BatchSent(mapping=tools.mapping, shard=shard, records=len(batch), age=age))
    began = tools.now()
    span = _begun(tools.tracing, tools, shard, batch, attempts) if tools.tracing else None
    brought = trace_of(batch) if span is None and tools.source.redelivers else None  # a stream's records carry none
    try:
        outcome = await tools.target.invoke(event, attempts.request_id, span.trace if span else brought)
    except BaseException:  # cancelled
        if span:
            span.end(None)
        raise
    body = outcome.body if isinstance(outcome, Replied) else b""
    if tools.policy.partial:
        outcome = understood(outcome, batch, redelivers=tools.source.redelivers)
    attempts.made += 1
    attempts.failures = 0 if isinstance(outcome, Replied) else attempts.failures + 1
    return Call(outcome, body, tools.now() - began, span)


def _begun(tracing: Tracing, tools: Tools, shard: str, batch: Batch, attempts: Attempts) -> Span:
    """The span of a call that somebody follows."""
    return tracing.begin(
        Sending(
            mapping=tools.mapping,
            source=tools.source_name,
            shard=shard,
            function=tools.function_name,
            records=len(batch),
            request_id=attempts.request_id,
            attempt=attempts.made + 1,
            traces=traces_of(batch),
        )
    )


def tell(tools: Tools, shard: str, batch: Batch, ended: Call, attempts: Attempts, *, retry_in: float | None) -> None:
    """Say how a call ended and what follows."""
    if ended.span:
        ended.span.end(ended.outcome)
    first, last = (batch[0].id, batch[-1].id) if batch else ("", "")
    tools.observe(
        BatchInvoked(
            mapping=tools.mapping,
            shard=shard,
            records=len(batch),
            outcome=ended.outcome,
            seconds=ended.seconds,
            request_id=attempts.request_id,
            attempt=attempts.made,
            retry_in=retry_in,
            first=first,
            last=last,
        )
    )
