"""What the calls of a queue say, as bytes. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from orjson import dumps


class Body(NamedTuple):
    """One of the few that are sent again and again."""

    text: bytes
    digest: str
    """SHA-256 in hexadecimal."""


@lru_cache(maxsize=256)
def receive_body(queue_url: str, count: int, wait: int, visibility: int | None) -> Body:
    """Of ReceiveMessage, with all attributes."""
    asked: dict[str, object] = {
        "QueueUrl": queue_url,
        "MaxNumberOfMessages": count,
        "WaitTimeSeconds": wait,
        "MessageSystemAttributeNames": ["All"],
        "MessageAttributeNames": ["All"],
    }
    if visibility is not None:
        asked["VisibilityTimeout"] = visibility
    text = dumps(asked)
    return Body(text, sha256(text).hexdigest())


def batch_body(queue_url: str, receipts: Sequence[str], timeout: int | None = None) -> bytes:
    """Of a call about a batch of messages, each named by its place in it.

    Args:
        timeout: the VisibilityTimeout of each; None: the call has none.
    """
    texts = [queue_url, *receipts]
    together = "".join(texts)
    if len(dumps(together)) != len(together) + 2:  # JSON writes some of them otherwise than they are
        texts = [dumps(text)[1:-1].decode() for text in texts]
    pieces = [""] * (2 * len(texts) + 1)
    pieces[::2] = _between(len(receipts), timeout)
    pieces[1::2] = texts
    return "".join(pieces).encode()


@lru_cache(maxsize=64)
def _between(count: int, timeout: int | None) -> Sequence[str]:
    """What stands before, between and behind a queue's URL and the receipts."""
    end = '"}' if timeout is None else f'","VisibilityTimeout":{timeout}}}'
    openings = [f'{{"Id":"{place}","ReceiptHandle":"' for place in range(count)]
    return (
        '{"QueueUrl":"',
        f'","Entries":[{openings[0]}',
        *[f"{end},{opening}" for opening in openings[1:]],
        f"{end}]}}",
    )
