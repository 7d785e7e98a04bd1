"""What a function's answer means under ReportBatchItemFailures. No I/O, no clock.

Source: Lambda guide, "Configuring partial batch response", and what real mappings were seen to do with odd answers.
"""

from __future__ import annotations

from typing import Any

import orjson

from poller.mapping.batch import Batch
from poller.model.outcome import Failed, Outcome, Partial, Replied

_KEY, _ITEM = "batchItemFailures", "itemIdentifier"


def understood(outcome: Outcome, batch: Batch, *, redelivers: bool) -> Outcome:
    """Read the answer of a function that reports which records failed; any other outcome stays what it is.

    `null`, an empty text, list or object, and a null or empty `batchItemFailures` are full success. An identifier
    that is empty, no text, or not of this batch makes the whole batch fail, and so does any answer without the key.

    Args:
        redelivers: the source is a queue, where `[{}]` was seen to be taken for success and text that is no JSON for
            failure of the batch, as it is for streams.
    """
    if not isinstance(outcome, Replied):
        return outcome
    failures = _failures(outcome.body)
    if failures is None:
        return _unreadable("the answer names no batchItemFailures")
    if redelivers and failures == [{}]:
        return outcome
    known = {record.id for record in batch}
    failed: list[str] = []
    for each in failures:
        item = each.get(_ITEM) if isinstance(each, dict) else None
        if not isinstance(item, str) or item not in known:
            return _unreadable(f"the answer has {_shown(item)}, which names no record of the batch")
        failed.append(item)
    return Partial(failed=tuple(failed), version=outcome.version) if failed else outcome


def first_failed(partial: Partial, batch: Batch) -> int:
    """The place in a stream's batch of the lowest sequence number named: it and all behind it count as failed."""
    failed = set(partial.failed)
    return next(place for place, record in enumerate(batch) if record.id in failed)


def _failures(body: bytes) -> list[Any] | None:
    """The list of failures; None when the answer is none that the rules know."""
    if not body:
        return []
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not answer and answer is not False and not isinstance(answer, int | float):
        return []
    if not isinstance(answer, dict) or _KEY not in answer:
        return None
    failures = answer[_KEY]
    if failures is None:
        return []
    return failures if isinstance(failures, list) else None


def _unreadable(reason: str) -> Failed:
    return Failed(reason=reason, error=None)


def _shown(item: object) -> str:
    """What stands there, without saying it: by mistake it may be a part of a record, and this is logged."""
    match item:
        case None:
            return "no itemIdentifier"
        case str():
            return f"an itemIdentifier of {len(item)} characters"
        case _:
            return "an itemIdentifier that is no text"
