"""A load double in a process of its own: shards and an SQS queue full of records, a slow function, and counts of what arrived.

`python -m tests.servers.load --shards 200 --record-bytes 1048576` serves on loopback and prints its port. Answers are
made of pieces that all share one payload and are written no faster than they are taken, so the double stays small
whatever it serves. Nothing is parsed that need not be: it has to be faster than what it measures, and says what CPU it
took for that.

| request | answer |
|---|---|
| `POST`, `X-Amz-Target: Kinesis_20131202...` | ListShards, DescribeStream, DescribeStreamSummary, GetShardIterator, GetRecords |
| `POST`, `X-Amz-Target: DynamoDBStreams_20120810...` | DescribeStream, GetShardIterator, GetRecords |
| `POST`, `X-Amz-Target: AmazonSQS...` | GetQueueUrl, GetQueueAttributes, ReceiveMessage, DeleteMessageBatch |
| `POST` without a target | the function: counts the records of its shard, answers after `--latency` |
| `GET /totals` | what the function has seen, see `Totals` |
| `GET /fill?records=N` | every shard, and the queue, holds N records more from now on (0 at first), and the counting begins anew |
| `GET /trickle?records=N` | every shard is given N records a second from now on, and the counting begins anew |
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from poller.service.loop import run_on_loop
from tests.servers.load_http import Connection
from tests.servers.load_records import Kind, gathered, kinesis_record, message, payload, table_record

ANSWER_LIMIT_BYTES = 10_485_760
"""Of a GetRecords answer's payloads. Source: Kinesis quotas."""
TABLE_LIMIT_BYTES = 1_000_000
"""Of an answer of DynamoDB Streams."""
TABLE_LIMIT_RECORDS = 1000

_EVENT_ID = re.compile(rb'"eventID": ?"(shardId-\d+):(\d+)"')
_FIRST_SEQUENCE = 10**20
_LONG_POLL = 0.5
"""Seconds for which an empty queue says nothing, when nothing else is said."""
_KEYS = 100
"""Different partition keys, one after the other."""


@dataclass
class Totals:
    """What was asked for, and what the function has seen."""

    reads: int = 0
    """GetRecords and ReceiveMessage, also those that brought nothing."""
    waiting: int = 0
    """Calls whose answer is held back now."""
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
    cpu: float = 0.0
    """Seconds of CPU that the double itself has taken since it was started."""
    delays: list[float] = field(default_factory=list)
    """Of records that trickle: seconds from the answer that begins with one to the first packet of its event."""


class Load:
    """The shards and the function."""

    def __init__(
        self,
        *,
        shards: int,
        record_bytes: int,
        latency: float,
        spread: float = 0.0,
        long_poll: float = _LONG_POLL,
        groups: int = 0,
        now: float | None = None,
    ) -> None:
        self.shards = [f"shardId-{number:020d}" for number in range(shards)]
        self.latency = latency
        self._spread = spread
        self._long_poll = long_poll
        self.totals = Totals()
        self.waiting = 0
        self._at_once = 0
        self._held = 0
        self._received = 0
        self._rate, self._since = 0, 0.0
        self._answered: dict[tuple[str, int], float] = {}
        text = payload(record_bytes)
        now = time.time() if now is None else now
        self._kinds = {
            b"Kinesis_20131202": Kind(kinesis_record(text, now), max(1, ANSWER_LIMIT_BYTES // record_bytes)),
            b"DynamoDBStreams_20120810": Kind(table_record(text, now), TABLE_LIMIT_RECORDS, TABLE_LIMIT_BYTES),
        }
        self._groups = groups
        self._message = message(text, now, ordered=groups > 0)

    def fill(self, records: int) -> None:
        """Give every shard, and the queue, so many more."""
        before = max(map(self._held_of, self.shards)) + (self._rate > 0)  # what trickled in is there to stay
        self._rate, self._held = 0, before + records
        self._received = before
        self.totals = Totals(reached=dict.fromkeys(self.shards, before))

    def trickle(self, rate: int) -> None:
        """Give every shard so many a second."""
        self.fill(0)
        self._answered.clear()
        self._rate, self._since = rate, time.monotonic()

    def told(self) -> bytes:
        """The totals."""
        self.totals.cpu, self.totals.waiting = time.process_time(), self.waiting
        return json.dumps(asdict(self.totals)).encode()

    def call(self, service: bytes, operation: str, asked: Any) -> tuple[int, Iterator[bytes]]:
        """Answer an API call: the length of the body, and its pieces."""
        if operation == "GetRecords":
            self.totals.reads += 1
            shard, _, start = asked["ShardIterator"].partition("/")
            return self._page(self._kinds[service], shard, int(start), asked.get("Limit", 10_000))
        if operation == "ReceiveMessage":
            body = self._receive(asked.get("MaxNumberOfMessages", 1))
        else:
            body = json.dumps(self._small(service, operation, asked)).encode()
        return len(body), iter([body])

    def wait(self, operation: str, asked: Any) -> float:
        """Seconds to wait before an answer: an empty queue is polled long, and readers of shards begin one by one."""
        if operation == "ReceiveMessage" and self._received >= self._held:
            return min(self._long_poll, float(asked.get("WaitTimeSeconds", math.inf)))
        if operation == "GetShardIterator":
            return self._spread * _number(asked["ShardId"]) / len(self.shards)
        return 0.0

    def _receive(self, most: int) -> bytes:
        self.totals.reads += 1
        first = self._received
        self._received = min(self._held, first + most)
        messages = [self._message % self._named(number) for number in range(first, self._received)]
        return b'{"Messages":[%b]}' % b",".join(messages)

    def _named(self, number: int) -> tuple[bytes, ...]:
        """What of a message is its own."""
        id_ = b"%032x" % number
        return (id_, id_ * 5, b"%d" % (number % self._groups), b"%020d" % number) if self._groups else (id_, id_ * 5)

    def _queue(self, operation: str, asked: Any) -> dict[str, Any]:
        match operation:
            case "GetQueueUrl":
                return {"QueueUrl": "http://127.0.0.1/1/load"}
            case "GetQueueAttributes":
                return {"Attributes": {"VisibilityTimeout": "360", "MessageRetentionPeriod": "345600"}}
            case "DeleteMessageBatch":
                self.totals.deleted += len(asked["Entries"])
                return {"Successful": [{"Id": entry["Id"]} for entry in asked["Entries"]], "Failed": []}
            case _:
                raise ValueError(f"not part of the load double: {operation}")

    def _small(self, service: bytes, operation: str, asked: Any) -> dict[str, Any]:
        match operation:
            case "ListShards":
                return {"Shards": self._listed()}
            case "DescribeStream":
                table = service == b"DynamoDBStreams_20120810"
                told = {"StreamLabel": "load", "StreamStatus": "ENABLED"} if table else {"StreamStatus": "ACTIVE"}
                return {
                    "StreamDescription": told | {"StreamName": "load", "Shards": self._listed(), "HasMoreShards": False}
                }
            case "DescribeStreamSummary":
                summary = {"StreamName": "load", "StreamStatus": "ACTIVE", "OpenShardCount": len(self.shards)}
                return {
                    "StreamDescriptionSummary": summary | {"RetentionPeriodHours": 24, "StreamCreationTimestamp": 1}
                }
            case "GetShardIterator":
                last = asked.get("StartingSequenceNumber", asked.get("SequenceNumber", _FIRST_SEQUENCE - 1))
                return {"ShardIterator": f"{asked['ShardId']}/{int(last) + 1 - _FIRST_SEQUENCE}"}
            case _:
                return self._queue(operation, asked)

    def _listed(self) -> list[dict[str, Any]]:
        sequences = {"StartingSequenceNumber": str(_FIRST_SEQUENCE)}
        hashes = {"StartingHashKey": "0", "EndingHashKey": "1"}
        return [{"ShardId": each, "SequenceNumberRange": sequences, "HashKeyRange": hashes} for each in self.shards]

    def _held_of(self, shard: str) -> int:
        if not self._rate:
            return self._held
        spread = _number(shard) * 0.618 % 1  # they do not come all at once
        return self._held + int((time.monotonic() - self._since) * self._rate + spread)

    def _page(self, kind: Kind, shard: str, start: int, limit: int) -> tuple[int, Iterator[bytes]]:
        held = self._held_of(shard)
        end = max(start, min(held, start + min(limit, kind.most)))
        opening = b'{"Records":['
        behind = 60_000 if end < held else 0
        closing = f'],"NextShardIterator":"{shard}/{end}","MillisBehindLatest":{behind}}}'.encode()
        count = end - start
        length = len(opening) + count * kind.size_bytes + max(0, count - 1) + len(closing)
        head = kind.head.replace(b"SHARD", shard.encode())

        def pieces() -> Iterator[bytes]:
            yield opening
            for number in range(start, end):
                if number > start:
                    yield b","
                sequence = b"%d" % (_FIRST_SEQUENCE + number)
                yield head.replace(b"NUMBER", sequence).replace(b"KEY", b"%02d" % (number % _KEYS))
                yield kind.rest
            if self._rate and count:
                self._answered[shard, start] = time.monotonic()
            yield closing

        return length, gathered(pieces())

    async def invoke(self, event: bytes, arrived: float) -> None:
        """The function; its request began to arrive then, on the monotonic clock."""
        totals = self.totals
        totals.first_at = totals.first_at or time.time()
        first = _EVENT_ID.search(event)
        if first and self._rate:
            answered = self._answered.pop((first[1].decode(), int(first[2]) - _FIRST_SEQUENCE), None)
            totals.delays += [] if answered is None else [arrived - answered]
        self._at_once += 1
        totals.most_at_once = max(totals.most_at_once, self._at_once)
        await asyncio.sleep(self.latency)
        self._at_once -= 1
        totals.invocations += 1
        totals.last_at = time.time()
        if first is None:
            totals.records += _count(event, b"messageId") or _count(event, b"eventSource")
            return
        shard = first[1].decode()
        start, count = int(first[2]) - _FIRST_SEQUENCE, _count(event, b"eventID")
        reached = totals.reached.get(shard, 0)
        totals.gaps += start > reached
        totals.repeated += min(count, max(0, reached - start))
        totals.reached[shard] = max(reached, start + count)
        totals.records += count


def _number(shard: str) -> int:
    return int(shard.rpartition("-")[2])


def _count(event: bytes, name: bytes) -> int:
    """How many records have this field, with a space before its value or without."""
    return event.count(b'"%b":"' % name) or event.count(b'"%b": "' % name)


async def _serve(load: Load, certificate: str = "") -> int:
    tls = None
    if certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(load), "127.0.0.1", 0, backlog=1024, ssl=tls
    )
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 whoever started it reads its port
    await asyncio.to_thread(sys.stdin.read)  # it ends with whoever started it
    server.close()
    return 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--record-bytes", type=int, default=1024)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--spread", type=float, default=0.0, help="seconds over which the readers of shards begin")
    parser.add_argument("--long-poll", type=float, default=_LONG_POLL, help="most seconds for which a queue is silent")
    parser.add_argument("--groups", type=int, default=0, help="of the messages of a FIFO queue; 0: of another queue")
    parser.add_argument("--certificate", default="", help="file of a certificate and its key (PEM): serve TLS")
    asked = vars(parser.parse_args())
    certificate = asked.pop("certificate")
    sys.exit(run_on_loop(lambda: _serve(Load(**asked), certificate)))


if __name__ == "__main__":
    main()
