"""One call of the function, told before and after. The function's failure is a value; nothing is raised."""

from __future__ import annotations

from dataclasses import dataclass

from poller.mapping.batch import Batch
from poller.mapping.reply import understood
from poller.mapping.tools import Tools
from poller.mapping.trace import trace_of
from poller.model.facts import BatchInvoked, BatchSent
from poller.model.outcome import Outcome, Replied


@dataclass(slots=True)
class Attempts:
    """The calls made with one batch."""

    request_id: str
    made: int = 0
    failures: int = 0
    """In a row, whatever the reason."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call, ended."""

    outcome: Outcome
    """As the mapping's rules understand it."""
    body: bytes
    """What the function returned."""
    seconds: float


async def call(tools: Tools, shard: str, batch: Batch, event: bytes, attempts: Attempts) -> Call:
    """Invoke once. The batch is empty where a window closes."""
    age = tools.clock() - batch[-1].arrived if batch else 0.0
    tools.observe(BatchSent(mapping=tools.mapping, shard=shard, records=len(batch), age=age))
    began = tools.now()
    outcome = await tools.target.invoke(event, attempts.request_id, trace_of(batch))
    body = outcome.body if isinstance(outcome, Replied) else b""
    if tools.policy.partial:
        outcome = understood(outcome, batch, redelivers=tools.source.redelivers)
    attempts.made += 1
    attempts.failures = 0 if isinstance(outcome, Replied) else attempts.failures + 1
    return Call(outcome, body, tools.now() - began)


def tell(tools: Tools, shard: str, batch: Batch, ended: Call, attempts: Attempts, *, retry_in: float | None) -> None:
    """Say how a call ended and what follows."""
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
        )
    )
