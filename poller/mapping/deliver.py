"""Sending one batch until something is decided about it. The function's failure is a value; nothing is raised."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import anyio

from poller.mapping.batch import Batch
from poller.mapping.retry import Advance, Again, Leave, expired, next_step
from poller.mapping.standing import Standing
from poller.mapping.tools import Tools
from poller.model.facts import BatchInvoked, BatchSent, RecordsDropped
from poller.model.outcome import Outcome, Replied
from poller.model.record import event_of


@dataclass(frozen=True, slots=True)
class Settled:
    """These records are done with: processed, or given up and told about."""

    records: Batch
    rest: Batch = ()
    """What is still to be delivered, a new batch."""


@dataclass(frozen=True, slots=True)
class Left:
    """The queue gives the batch to somebody again when its visibility ends."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The process is stopping; the batch was not processed."""


Delivered: TypeAlias = Settled | Left | Stopped


async def deliver(
    tools: Tools,
    shard: str,
    batch: Batch,
    standing: Standing,
    *,
    retention: Callable[[], float],
    lease_end: float = math.inf,
) -> Delivered:
    """Invoke with a batch until it succeeds, its source drops its records, its lease ends, or the process stops.

    Args:
        retention: seconds a stream keeps a record, as last heard (it may be raised while a batch is stuck); what is
            older and failed at least once is given up under the condition Expired.
        lease_end: when a queue's messages become visible again, on `anyio.current_time`.
    """
    request_id = tools.new_id()
    attempt = failures = 0
    while not tools.stop.is_set():
        # What the source handed out is tried once, whatever our clock and the last listing say of its age.
        tried = attempt > 0 and not tools.source.redelivers
        gone = expired(batch, now=tools.clock(), retention=retention()) if tried else 0
        if gone:
            _tell_expired(tools, shard, batch[:gone])
            return Settled(batch[:gone], batch[gone:])
        if anyio.current_time() >= lease_end:
            return Left()
        attempt += 1
        outcome, seconds = await _invoke(tools, shard, batch, request_id)
        failures = 0 if isinstance(outcome, Replied) else failures + 1
        step = next_step(outcome, failures=failures, redelivers=tools.source.redelivers, chance=tools.chance())
        tools.observe(
            BatchInvoked(
                mapping=tools.mapping,
                shard=shard,
                records=len(batch),
                outcome=outcome,
                seconds=seconds,
                request_id=request_id,
                attempt=attempt,
                retry_in=step.after if isinstance(step, Again) else None,
            )
        )
        match step:
            case Advance():
                return Settled(batch)
            case Leave():
                return Left()
            case Again(after=after):
                standing.failed(failures)
                await tools.pause(min(after, max(0.0, lease_end - anyio.current_time())))
    return Stopped()


async def _invoke(tools: Tools, shard: str, batch: Batch, request_id: str) -> tuple[Outcome, float]:
    """One call of the function, and the seconds it took. The event lives only as long as the call."""
    age = tools.clock() - batch[-1].arrived
    tools.observe(BatchSent(mapping=tools.mapping, shard=shard, records=len(batch), age=age))
    began = anyio.current_time()
    outcome = await tools.target.invoke(event_of(batch), request_id)
    return outcome, anyio.current_time() - began


def _tell_expired(tools: Tools, shard: str, records: Batch) -> None:
    tools.observe(
        RecordsDropped(
            mapping=tools.mapping,
            shard=shard,
            condition="Expired",
            records=len(records),
            first=records[0].id,
            last=records[-1].id,
        )
    )
