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
import base64
import hashlib
import json
import math
import re
import ssl
import sys
import time
from collections.abc import Coroutine, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from poller.service.loop import run_on_loop

ANSWER_LIMIT_BYTES = 10_485_760
"""Of a GetRecords answer's payloads. Source: Kinesis quotas."""
TABLE_LIMIT_BYTES = 1_000_000
"""Of an answer of DynamoDB Streams."""
TABLE_LIMIT_RECORDS = 1000

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TARGET = re.compile(rb"\r\nx-amz-target: *(\w+)\.(\w+)", re.IGNORECASE)
_EVENT_ID = re.compile(rb'"eventID": ?"(shardId-\d+):(\d+)"')
_FIRST_SEQUENCE = 10**20
_PIECE = 65_536
_LONG_POLL = 0.5
"""Seconds for which an empty queue says nothing, when nothing else is said."""
_KEYS = 100
"""Different partition keys, one after the other."""
_REPLY = b'{"batchItemFailures":[]}'
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: %d\r\n\r\n"


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
            b"Kinesis_20131202": _Kind(_kinesis_record(text, now), max(1, ANSWER_LIMIT_BYTES // record_bytes)),
            b"DynamoDBStreams_20120810": _Kind(_table_record(text, now), TABLE_LIMIT_RECORDS, TABLE_LIMIT_BYTES),
        }
        self._groups = groups
        self._message = _message(text, now, ordered=groups > 0)

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

    def _page(self, kind: _Kind, shard: str, start: int, limit: int) -> tuple[int, Iterator[bytes]]:
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

        return length, _gathered(pieces())

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


class _Kind:
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


def _kinesis_record(text: bytes, now: float) -> tuple[bytes, bytes]:
    rest = b'","Data":"%b","ApproximateArrivalTimestamp":%.3f}' % (base64.b64encode(text), now)
    return b'{"SequenceNumber":"NUMBER","PartitionKey":"key-KEY', rest


def _table_record(text: bytes, now: float) -> tuple[bytes, bytes]:
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


def _message(text: bytes, now: float, *, ordered: bool) -> bytes:
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
        self._arrived = 0.0
        """When the request under way began to arrive, on the monotonic clock."""
        self._pieces: Iterator[bytes] = iter(())
        self._writable = True
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        if not self._received:
            self._arrived = time.monotonic()
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
            elif name == "/trickle":
                self._load.trickle(int(value))
            answer = self._load.told()
            self._send(len(answer), iter([answer]))
        elif target := _TARGET.search(head):
            service, operation, asked = target[1], target[2].decode(), json.loads(body)
            if wait := self._load.wait(operation, asked):
                self._later(self._call(service, operation, asked, wait))
            else:
                self._send(*self._load.call(service, operation, asked))
        else:
            self._later(self._function(body, self._arrived))

    def _later(self, answer: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(answer)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call(self, service: bytes, operation: str, asked: Any, wait: float) -> None:
        self._load.waiting += 1
        await asyncio.sleep(wait)
        self._load.waiting -= 1
        self._send(*self._load.call(service, operation, asked))

    async def _function(self, event: bytes, arrived: float) -> None:
        await self._load.invoke(event, arrived)
        self._send(len(_REPLY), iter([_REPLY]))

    def _send(self, length: int, pieces: Iterator[bytes]) -> None:
        if self._transport.is_closing():
            return
        if length < _PIECE:
            self._transport.write(_ANSWER % length + b"".join(pieces))  # in one packet, as services answer
            return
        self._transport.write(_ANSWER % length)
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
