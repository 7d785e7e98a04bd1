"""The document of a batch that was given up, read again to deliver it once more. No I/O, no clock, no chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from poller.mapping.lanes import divide
from poller.mapping.progress import behind
from poller.mapping.row import LaneRow
from poller.model.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """What a document says of its batch."""

    stream: str
    """ARN."""
    function: str
    shard: str
    first: str
    last: str
    """Sequence numbers of its first and last record."""
    size: int
    """Records."""
    condition: str
    payload: bytes = b""
    """The event itself, where the destination keeps it."""

    @property
    def place(self) -> tuple[str, int]:
        """By which documents are delivered again in order."""
        return self.shard, int(self.first)


def read(document: bytes) -> GivenUp:
    """Read a document. Raises `ValueError`, whose text says why it is none."""
    try:
        told: Any = orjson.loads(document)
        info = told.get("KinesisBatchInfo") or told["DDBStreamBatchInfo"]
        context, payload = told["requestContext"], told.get("payload", "")
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        raise ValueError("it is no document of an on-failure destination of a stream") from None
    try:
        return GivenUp(
            stream=str(info["streamArn"]),
            function=str(context["functionArn"]),
            shard=str(info["shardId"]),
            first=_sequence(info["startSequenceNumber"]),
            last=_sequence(info["endSequenceNumber"]),
            size=int(info["batchSize"]),
            condition=str(context["condition"]),
            payload=str(payload).encode(),
        )
    except (KeyError, TypeError, ValueError):
        raise ValueError("it names no records: the last invocation of a tumbling window has none") from None


def batch_of(given_up: GivenUp, records: Sequence[Record], lanes: int) -> tuple[Record, ...]:
    """Those records that were in the batch: of its first record's lane, from the first to the last.

    Args:
        records: what the mapping delivers of the shard, from the batch's first record on or earlier.
        lanes: ParallelizationFactor.
    """
    inside = [each for each in records if not behind(each.id, given_up.first) and not behind(given_up.last, each.id)]
    parts = divide(inside, (LaneRow(),) * lanes, "").parts
    return next((tuple(part) for part in parts if part and part[0].id == given_up.first), ())


def kept_in(payload: bytes) -> tuple[Record, ...]:
    """The records of the event that a bucket kept, without bodies, to read an answer by; none where they have no ids."""
    try:
        inner = [each.get("kinesis") or each["dynamodb"] for each in orjson.loads(payload)["Records"]]
        ids = [each.get("sequenceNumber") or each["SequenceNumber"] for each in inner]
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        return ()
    return tuple([Record(id=str(each), body=b"", arrived=0.0) for each in ids])


def _sequence(value: object) -> str:
    """A sequence number as it was spelled: zeros in front of it belong to it. Raises `ValueError`."""
    text = str(value)
    int(text)
    return text
