"""The floor: what moving the bytes takes when nothing is done with them. Blocking sockets, signed beforehand, one copy.

`python -m benchmarks.floor URL --source kinesis --batch-size 100 [--sha]`, a process of its own, killed
by whoever measures it. Each batch costs one read, one copy of an event that is ready, and one invocation; a queue's one
deletion more. With `--sha` the digest of each invocation is made, which Signature Version 4 asks of everybody.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

from benchmarks.baseline import STREAM, queue_event_of
from tests.servers.load import Load

_SERVICES = {"kinesis": "Kinesis_20131202", "dynamodb": "DynamoDBStreams_20120810", "sqs": "AmazonSQS"}
_HEADERS = (
    "Host: 127.0.0.1\r\nX-Amz-Date: 20261121T000000Z\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/"
    "20261121/eu-west-1/kinesis/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature="
    + "0" * 64
    + "\r\nContent-Type: application/x-amz-json-1.1\r\n"
)
_TOGETHER_BYTES = 16_384
_EMPTY_BYTES = 1000
"""An answer below this holds no records."""


class Line:
    """One connection."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._socket = socket.create_connection((place.hostname, place.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._space = bytearray(16_777_216)

    def ask(self, head: bytes, body: bytes | bytearray) -> memoryview:
        """Send a request; the body of its answer, until the next."""
        head = b"%bContent-Length: %d\r\n\r\n" % (head, len(body))
        if len(body) < _TOGETHER_BYTES:
            self._socket.sendall(head + body)
        else:
            self._socket.sendall(head)
            self._socket.sendall(body)
        space, view = self._space, memoryview(self._space)
        got = self._socket.recv_into(view)
        start = space.find(b"\r\n\r\n", 0, got) + 4
        length = int(space[space.rfind(b": ", 0, start) + 2 : start - 4])  # Content-Length is the double's last header
        while got < start + length:
            got += self._socket.recv_into(view[got:])
        return view[start : start + length]


def head(path: str, target: str = "") -> bytes:
    """A request's head but for its length."""
    named = f"X-Amz-Target: {target}\r\n" if target else ""
    return f"POST {path} HTTP/1.1\r\n{_HEADERS}{named}".encode()


def sample(source: str, batch_size: int, record_bytes: int) -> bytes:
    """The event of a full batch, as the naive loop makes it."""
    load = Load(shards=1, record_bytes=record_bytes, latency=0)
    load.fill(batch_size)
    shard = load.shards[0]
    asked: dict[str, Any] = {"ShardIterator": f"{shard}/0", "Limit": batch_size, "MaxNumberOfMessages": batch_size}
    operation = "ReceiveMessage" if source == "sqs" else "GetRecords"
    _, pieces = load.call(_SERVICES[source].encode(), operation, asked)
    answer = json.loads(b"".join(pieces))
    if source == "sqs":
        return queue_event_of(answer["Messages"])
    if source == "dynamodb":
        return json.dumps({"Records": answer["Records"]}, separators=(",", ":")).encode()
    wire = [
        f'{{"eventID":"{shard}:{record["SequenceNumber"]}","eventSourceARN":"{STREAM}",'
        '"eventName":"aws:kinesis:record","eventVersion":"1.0","eventSource":"aws:kinesis",'
        '"invokeIdentityArn":"arn:aws:iam::123456789012:role/poller","awsRegion":"eu-west-1","kinesis":'
        f'{{"kinesisSchemaVersion":"1.0","partitionKey":"{record["PartitionKey"]}","sequenceNumber":'
        f'"{record["SequenceNumber"]}","data":"{record["Data"]}","approximateArrivalTimestamp":1790000000.123}}}}'
        for record in answer["Records"]
    ]
    return ('{"Records":[' + ",".join(wire) + "]}").encode()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--source", choices=list(_SERVICES), default="kinesis")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--record-bytes", type=int, default=1024)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--sha", action="store_true")
    asked = parser.parse_args()
    line = Line(asked.url)
    event = sample(asked.source, asked.batch_size, asked.record_bytes)
    invoke = head("/2015-03-31/functions/function/invocations")
    service = _SERVICES[asked.source]
    read = head("/", f"{service}.{'ReceiveMessage' if asked.source == 'sqs' else 'GetRecords'}")
    delete = head("/", f"{service}.DeleteMessageBatch")
    entries = json.dumps({"Entries": [{"Id": str(n), "ReceiptHandle": "r" * 160} for n in range(10)]}).encode()
    reached = [0] * asked.shards
    shards = [f"shardId-{number:020d}" for number in range(asked.shards)]
    while True:
        began, found = time.monotonic(), False
        for index, shard in enumerate(shards):
            if asked.source == "sqs":
                body = b'{"MaxNumberOfMessages":%d}' % asked.batch_size
            else:
                body = b'{"ShardIterator":"%b/%d","Limit":%d}' % (shard.encode(), reached[index], asked.batch_size)
            answer = line.ask(read, body)
            if len(answer) < _EMPTY_BYTES:
                continue
            found = True
            reached[index] += asked.batch_size
            payload = bytearray(event)  # the one copy
            if asked.sha:
                hashlib.sha256(payload).hexdigest()
            line.ask(invoke, payload)
            if asked.source == "sqs":
                line.ask(delete, entries)
        if not found:
            time.sleep(max(0.0, 1.0 - (time.monotonic() - began)))


if __name__ == "__main__":
    main()
