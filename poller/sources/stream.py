"""What streams have in common: reading on when an iterator has expired, and when LATEST was. Thin shells, no clock."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from poller.model.errors import IteratorExpired, Transient
from poller.model.record import At, Cursor, Position


async def read_on(
    cursor: Cursor, iterator: Callable[[Position], Awaitable[str]], get: Callable[[str], Awaitable[bytes]]
) -> bytes:
    """Read with the cursor's token, or with a new iterator when there is none or it expired.

    Raises:
        Transient: the new iterator was refused, too.
    """
    if cursor.token:
        try:
            return await get(cursor.token)
        except IteratorExpired:
            pass  # its successor starts behind the last record read, so nothing is lost or read twice
    token = await iterator(cursor.position)
    try:
        return await get(token)
    except IteratorExpired as error:
        raise Transient(f"a new iterator was refused: {error}") from error


def behind_newest(answer: Mapping[str, Any], now: float) -> Cursor:
    """The cursor of a LATEST iterator, from the answer of GetShardIterator.

    Its position is the second before the service's Date: the answer is stamped after the iterator was made, and a
    record is stamped by another host; a position that is early delivers twice, one that is late loses.

    Args:
        answer: as botocore parsed it.
        now: unix seconds, for a server that says no Date.
    """
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    moment = parsedate_to_datetime(date).timestamp() if date else now
    return Cursor(position=At(float(math.floor(moment) - 1)), token=listed(answer, "ShardIterator", "GetShardIterator"))


def listed(answer: Mapping[str, Any], key: str, operation: str) -> Any:
    """A part that a whole answer has.

    Raises:
        Transient: it is not there, so the answer is torn: botocore reads half a JSON body as an empty one.
    """
    try:
        return answer[key]
    except KeyError:
        raise Transient(f"{operation}: the answer has no {key}") from None
