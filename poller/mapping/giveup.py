"""Giving records up: the destination, if there is one, is told; what it was not told of counts as dropped."""

from __future__ import annotations

from typing import Any

import anyio

from poller.mapping.batch import Batch
from poller.mapping.document import account_of
from poller.mapping.tools import Tools
from poller.model.account import Account
from poller.model.errors import Denied, Transient
from poller.model.facts import Condition, DestinationFailed, RecordsDiverted, RecordsDropped
from poller.model.outcome import Outcome
from poller.model.ports import Destination

_PATIENCE = 30.0
"""Seconds that a destination may hold up its shard."""


async def give_up(
    tools: Tools,
    shard: str,
    records: Batch,
    condition: Condition,
    *,
    outcome: Outcome | None,
    invoke_count: int,
    request_id: str,
    event: bytes | None = None,
    window: dict[str, Any] | None = None,
) -> None:
    """Tell the destination, or that there is none. What the source itself dropped has no account.

    A delivery that fails is told and does not hold up the shard, as on real mappings.

    Args:
        records: none where the final invocation of a window failed.
        outcome: of the last call; None when the function was never invoked with these records.
        invoke_count: attempts with exactly these records.
        event: what the function was sent, where that is more than the records.
        window: the `timeWindowInfo` of the tumbling window they belong to.
    """
    told = False
    if tools.destination is not None and condition in ("RetryAttemptsExhausted", "RecordAgeExceeded"):
        account = account_of(
            records,
            condition=condition,
            outcome=outcome,
            invoke_count=invoke_count,
            request_id=request_id,
            function=tools.function_name,
            source_arn=tools.source_name,
            uuid=tools.uuid,
            shard=shard,
            now=tools.clock(),
            random_id=tools.new_id(),
            family=tools.family,
            event=event,
            time_window=window,
        )
        failure = await _send(tools.destination, account)
        told = failure is None
        if failure is not None:
            tools.observe(DestinationFailed(mapping=tools.mapping, shard=shard, records=len(records), reason=failure))
    first, last = (records[0].id, records[-1].id) if records else ("", "")
    fact = RecordsDiverted if told else RecordsDropped
    tools.observe(
        fact(mapping=tools.mapping, shard=shard, condition=condition, records=len(records), first=first, last=last)
    )


async def _send(destination: Destination, account: Account) -> str | None:
    """Deliver the account. Answers why it was not, in one line."""
    try:
        with anyio.fail_after(_PATIENCE):
            await destination.send(account)
    except (Transient, Denied, TimeoutError) as error:
        return str(error) or f"no answer within {_PATIENCE:g} s"
    return None
