"""A load double in a process of its own: Kinesis shards and an SQS queue full of records, a slow function, and counts of what arrived.

`python -m tests.servers.load --shards 200 --record-bytes 1048576` serves on loopback and prints its port. Answers are
made of pieces that all share one payload and are written no faster than they are taken, so the double stays small
whatever it serves. Nothing is parsed that need not be: it has to be faster than what it measures.

| request | answer |
|---|---|
| `POST`, `X-Amz-Target: Kinesis_20131202...` | ListShards, DescribeStreamSummary, GetShardIterator, GetRecords |
| `POST`, `X-Amz-Target: AmazonSQS...` | GetQueueUrl, GetQueueAttributes, ReceiveMessage, DeleteMessageBatch |
| `POST` without a target | the function: counts the records of its shard, answers after `--latency` |
| `GET /totals` | what the function has seen, see `Totals` |
| `GET /fill?records=N` | every shard, and the queue, holds N records from now on (0 at first), and the counting begins anew |
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import re
import sys
import time
from collections.abc import Coroutine, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from poller.service.loop import run_on_loop

ANSWER_LIMIT_BYTES = 10_485_760
"""Of a GetRecords answer's payloads. Source: Kinesis quotas."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TARGET = re.compile(rb"\r\nx-amz-target: *\w+\.(\w+)", re.IGNORECASE)
_EVENT_ID = re.compile(rb'"eventID":"(shardId-\d+):(\d+)"')
_FIRST_SEQUENCE = 10**20
_PIECE = 65_536
_LONG_POLL = 0.5
"""Seconds for which an empty queue says nothing."""


@dataclass
class Totals:
    """What was asked for, and what the function has seen."""

    reads: int = 0
    """GetRecords and ReceiveMessage, also those that brought nothing."""
    records: int = 0
    invocations: int = 0
    most_at_once: int = 0
    reached: dict[str, int] = field(default_factory=dict)
    """How many of each shard's records have arrived without a gap."""
    gaps: int = 0
    """Events that began behind a record that never came."""
    repeated: int = 0
    deleted: int = 0
    """Messages of the queue."""
    first_at: float = 0.0
    last_at: float = 0.0
    """Unix seconds of the first and of the last event that was answered."""


class Load:
    """The shards and the function."""

    def __init__(self, *, shards: int, record_bytes: int, latency: float) -> None:
        self.shards = [f"shardId-{number:012d}" for number in range(shards)]
        self.latency = latency
        self.totals = Totals()
        self._at_once = 0
        self._held = 0
        self._received = 0
        self._most = max(1, ANSWER_LIMIT_BYTES // record_bytes)
        text = (b"All work and no play. " * (record_bytes // 22 + 1))[:record_bytes]
        payload = base64.b64encode(text)
        self._record = (
            b'","Data":"' + payload + b'","PartitionKey":"key","ApproximateArrivalTimestamp":%.3f}' % time.time()
        )

        self._message = {
            "MD5OfBody": hashlib.md5(text, usedforsecurity=False).hexdigest(),
            "Body": text.decode(),
            "Attributes": {
                "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                "SentTimestamp": str(int(time.time() * 1000)),
                "ApproximateReceiveCount": "1",
                "ApproximateFirstReceiveTimestamp": str(int(time.time() * 1000)),
            },
        }

    def fill(self, records: int) -> None:
        self._held, self._received = records, 0
        self.totals = Totals(reached=dict.fromkeys(self.shards, 0))

    def call(self, operation: str, asked: Any) -> tuple[int, Iterator[bytes]]:
        """Answer an API call: the length of the body, and its pieces."""
        if operation == "GetRecords":
            self.totals.reads += 1
            shard, _, start = asked["ShardIterator"].partition("/")
            return self._page(shard, int(start), asked.get("Limit", 10_000))
        body = json.dumps(self._small(operation, asked)).encode()
        return len(body), iter([body])

    def wait(self, operation: str) -> float:
        """Seconds to wait before an answer: an empty queue is polled long."""
        return _LONG_POLL if operation == "ReceiveMessage" and self._received >= self._held else 0.0

    def _queue(self, operation: str, asked: Any) -> dict[str, Any]:
        match operation:
            case "GetQueueUrl":
                return {"QueueUrl": "http://127.0.0.1/1/load"}
            case "GetQueueAttributes":
                return {"Attributes": {"VisibilityTimeout": "360", "MessageRetentionPeriod": "345600"}}
            case "ReceiveMessage":
                self.totals.reads += 1
                first = self._received
                self._received = min(self._held, first + asked.get("MaxNumberOfMessages", 1))
                ids = [f"{number:032x}" for number in range(first, self._received)]
                return {"Messages": [{"MessageId": id_, "ReceiptHandle": id_ * 5, **self._message} for id_ in ids]}
            case "DeleteMessageBatch":
                self.totals.deleted += len(asked["Entries"])
                return {"Successful": [{"Id": entry["Id"]} for entry in asked["Entries"]], "Failed": []}
            case _:
                raise ValueError(f"not part of the load double: {operation}")

    def _small(self, operation: str, asked: Any) -> dict[str, Any]:
        match operation:
            case "ListShards":
                sequences = {"StartingSequenceNumber": str(_FIRST_SEQUENCE)}
                hashes = {"StartingHashKey": "0", "EndingHashKey": "1"}
                return {
                    "Shards": [
                        {"ShardId": shard, "SequenceNumberRange": sequences, "HashKeyRange": hashes}
                        for shard in self.shards
                    ]
                }
            case "DescribeStreamSummary":
                summary = {"StreamName": "load", "StreamStatus": "ACTIVE", "OpenShardCount": len(self.shards)}
                return {
                    "StreamDescriptionSummary": summary | {"RetentionPeriodHours": 24, "StreamCreationTimestamp": 1}
                }
            case "GetShardIterator":
                behind = int(asked.get("StartingSequenceNumber", _FIRST_SEQUENCE - 1)) + 1 - _FIRST_SEQUENCE
                return {"ShardIterator": f"{asked['ShardId']}/{behind}"}
            case _:
                return self._queue(operation, asked)

    def _page(self, shard: str, start: int, limit: int) -> tuple[int, Iterator[bytes]]:
        end = max(start, min(self._held, start + min(limit, self._most)))
        opening = b'{"Records":['
        behind = 60_000 if end < self._held else 0
        closing = f'],"NextShardIterator":"{shard}/{end}","MillisBehindLatest":{behind}}}'.encode()
        record = len(b'{"SequenceNumber":"') + len(str(_FIRST_SEQUENCE)) + len(self._record)
        count = end - start
        length = len(opening) + count * record + max(0, count - 1) + len(closing)

        def pieces() -> Iterator[bytes]:
            yield opening
            for number in range(start, end):
                yield b'%s{"SequenceNumber":"%d' % (b"," if number > start else b"", _FIRST_SEQUENCE + number)
                yield self._record
            yield closing

        return length, _gathered(pieces())

    async def invoke(self, event: bytes) -> None:
        """The function."""
        totals = self.totals
        totals.first_at = totals.first_at or time.time()
        self._at_once += 1
        totals.most_at_once = max(totals.most_at_once, self._at_once)
        await asyncio.sleep(self.latency)
        self._at_once -= 1
        totals.invocations += 1
        totals.last_at = time.time()
        first = _EVENT_ID.search(event)
        if first is None:
            totals.records += event.count(b'"messageId":"')
            return
        shard = first[1].decode()
        start, count = int(first[2]) - _FIRST_SEQUENCE, event.count(b'"eventID":"')
        reached = totals.reached.get(shard, 0)
        totals.gaps += start > reached
        totals.repeated += min(count, max(0, reached - start))
        totals.reached[shard] = max(reached, start + count)
        totals.records += count


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Small pieces together, large ones as they are."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _PIECE:
            yield held[0] if len(held) == 1 else b"".join(held)
            held, size = [], 0
    yield b"".join(held)


class Connection(asyncio.Protocol):
    """One client; requests come one after the other."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = bytearray()
        self._wanted = 0
        """Bytes of the request under way, its head included; 0 while the head is not complete."""
        self._body_at = 0
        self._pieces: Iterator[bytes] = iter(())
        self._writable = True
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._wanted:
            head_end = self._received.find(b"\r\n\r\n")
            if head_end < 0:
                return
            length = _LENGTH.search(self._received, 0, head_end + 2)
            self._body_at = head_end + 4
            self._wanted = self._body_at + (int(length[1]) if length else 0)
        if len(self._received) >= self._wanted:
            received, self._received, self._wanted = self._received, bytearray(), 0
            self._request(bytes(received[: self._body_at]), bytes(memoryview(received)[self._body_at :]))

    def _request(self, head: bytes, body: bytes) -> None:
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        if method == "GET":
            name, _, value = path.partition("?records=")
            if name == "/fill":
                self._load.fill(int(value))
            answer = json.dumps(asdict(self._load.totals)).encode()
            self._send(len(answer), iter([answer]))
        elif target := _TARGET.search(head):
            operation = target[1].decode()
            if wait := self._load.wait(operation):
                self._later(self._call(operation, json.loads(body), wait))
            else:
                self._send(*self._load.call(operation, json.loads(body)))
        else:
            self._later(self._function(body))

    def _later(self, answer: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(answer)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call(self, operation: str, asked: Any, wait: float) -> None:
        await asyncio.sleep(wait)
        self._send(*self._load.call(operation, asked))

    async def _function(self, event: bytes) -> None:
        await self._load.invoke(event)
        self._send(4, iter([b"null"]))

    def _send(self, length: int, pieces: Iterator[bytes]) -> None:
        if self._transport.is_closing():
            return
        kind = b"application/x-amz-json-1.1"
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (kind, length))
        self._pieces = pieces
        self.resume_writing()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        for piece in self._pieces:
            self._transport.write(piece)
            if not self._writable:
                return


async def _serve(load: Load) -> int:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(load), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 whoever started it reads its port
    await asyncio.to_thread(sys.stdin.read)  # it ends with whoever started it
    server.close()
    return 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--record-bytes", type=int, default=1024)
    parser.add_argument("--latency", type=float, default=0.0)
    asked = parser.parse_args()
    sys.exit(
        run_on_loop(lambda: _serve(Load(shards=asked.shards, record_bytes=asked.record_bytes, latency=asked.latency)))
    )


if __name__ == "__main__":
    main()
