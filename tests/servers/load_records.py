"""What the load double serves, as it stands on the wire: records and messages that all share one payload."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator

PIECE_BYTES = 65_536


class Kind:
    """Records of one kind on the wire."""

    def __init__(self, record: tuple[bytes, bytes], most: int, limit_bytes: int = 0) -> None:
        self.head, self.rest = record
        filled = self.head.replace(b"SHARD", b"-" * 28).replace(b"NUMBER", b"-" * 21).replace(b"KEY", b"--")
        self.size_bytes = len(filled) + len(self.rest)
        self.most = min(most, limit_bytes // self.size_bytes + 1) if limit_bytes else most


def payload(size_bytes: int) -> bytes:
    """JSON that filters can look into, of that size where it is not too small for that."""
    known = {"type": "order", "customer": {"id": 17, "tier": "gold"}, "total": 250.5, "text": ""}
    room = size_bytes - len(json.dumps(known))
    text = "All work and no play. " * (size_bytes // 22 + 1)
    return json.dumps(known | {"text": text[:room]}).encode() if room >= 0 else text[:size_bytes].encode()


def kinesis_record(text: bytes, now: float) -> tuple[bytes, bytes]:
    rest = b'","Data":"%b","ApproximateArrivalTimestamp":%.3f}' % (base64.b64encode(text), now)
    return b'{"SequenceNumber":"NUMBER","PartitionKey":"key-KEY', rest


def table_record(text: bytes, now: float) -> tuple[bytes, bytes]:
    """Two images of six attributes share the bytes."""
    image = {
        "name": {"S": "All work"},
        "total": {"N": "250.5"},
        "open": {"BOOL": True},
        "tags": {"SS": ["a", "b"]},
        "inner": {"M": {"tier": {"S": "gold"}}},
    }
    note = text[: max(0, (len(text) - 250) // 2)].decode("ascii", "replace")
    images = json.dumps({"NewImage": image | {"text": {"S": note}}, "OldImage": image | {"text": {"S": note}}}).encode()
    rest = b'"}},%b,"ApproximateCreationDateTime":%d,"SizeBytes":%d,"StreamViewType":"NEW_AND_OLD_IMAGES"}}' % (
        images[1:-1],
        now,
        len(text),
    )
    head = (
        b'{"eventID":"SHARD:NUMBER","eventName":"MODIFY","eventVersion":"1.1","eventSource":"aws:dynamodb",'
        b'"awsRegion":"eu-west-1","dynamodb":{"SequenceNumber":"NUMBER","Keys":{"pk":{"S":"key-KEY'
    )
    return head, rest


def message(text: bytes, now: float, *, ordered: bool) -> bytes:
    """A message, for its id and its receipt handle; on a FIFO queue for its group and its number as well."""
    moment = str(int(now * 1000))
    known = {
        "MD5OfBody": hashlib.md5(text, usedforsecurity=False).hexdigest(),
        "Body": text.decode(),
        "Attributes": {
            "SenderId": "AIDAIENQZJOLO23YVJ4VO",
            "SentTimestamp": moment,
            "ApproximateReceiveCount": "1",
            "ApproximateFirstReceiveTimestamp": moment,
            **({"MessageGroupId": "GROUP", "SequenceNumber": "NUMBER"} if ordered else {}),
        },
    }
    rest = json.dumps(known).encode()[1:].replace(b"%", b"%%").replace(b"GROUP", b"%b").replace(b"NUMBER", b"%b")
    return b'{"MessageId":"%b","ReceiptHandle":"%b",' + rest


def gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Small pieces together, large ones as they are."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= PIECE_BYTES:
            yield held[0] if len(held) == 1 else b"".join(held)
            held, size = [], 0
    yield b"".join(held)
