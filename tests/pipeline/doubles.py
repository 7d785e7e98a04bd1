"""Doubles of the world around a mapping, on virtual time: a stream, a queue, a function. Each records what it saw."""

from __future__ import annotations

import functools
import heapq
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import anyio
import msgspec
import trio
from trio.testing import MockClock

from poller.fleet.fleet import Fleet, Identity, Time
from poller.mapping.budget import Budget
from poller.mapping.run import run_mapping
from poller.mapping.stop import Stop
from poller.mapping.tools import Tools
from poller.model.account import Account
from poller.model.errors import PollerError, ShardGone, Trimmed
from poller.model.facts import Fact
from poller.model.outcome import Outcome, Replied
from poller.model.policy import Policy
from poller.model.ports import Admit, Row, Source, Store, Unsettled
from poller.model.record import After, At, Cursor, From, Page, Partition, Position, Record, Topology, TrimHorizon
from poller.model.trace import Trace
from poller.stores.memory import MemoryStore

EPOCH = 1_700_000_000.0
"""Unix seconds at virtual second 0."""
HOUR = 3600.0
T = TypeVar("T")
F = TypeVar("F", bound=Fact)


def virtual(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test on trio's virtual clock: sleeping costs nothing, a stray asyncio call fails."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        trio.run(
            functools.partial(test, *args, **kwargs),
            clock=MockClock(autojump_threshold=0),
            strict_exception_groups=True,
        )

    return run


def now() -> float:
    return EPOCH + anyio.current_time()


def record(sequence: int, *, arrived: float, key: str = "", data: str = "") -> Record:
    body = json.dumps({"sequence": sequence, "data": data}).encode()
    return Record(id=str(sequence), body=body, arrived=arrived, key=key, receipt=f"r{sequence}")


class StoreAround:
    """A store around another: what a double changes, it defines anew."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.shared = store.shared
        self.pace = store.pace

    async def get(self, key: str) -> Row | None:
        return await self.store.get(key)

    async def put(self, key: str, value: bytes, expected: int) -> int:
        return await self.store.put(key, value, expected)

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, Row]]:
        async for row in self.store.scan(prefix):
            yield row

    async def delete(self, key: str, expected: int) -> None:
        await self.store.delete(key, expected)

    async def wake(self) -> None:
        await self.store.wake()

    async def wait(self, seconds: float) -> None:
        await self.store.wait(seconds)


@dataclass
class Shard:
    """Records in order; `closed` once no more come."""

    records: list[Record] = field(default_factory=list)
    parents: tuple[str, ...] = ()
    closed: bool = False
    listed: bool = True
    """False: it has left the stream."""
    forgotten: bool = False
    """The listing does not name it, though it is there."""


class FakeStream:
    """A stream whose shards the test fills, splits and trims."""

    redelivers = False
    ordered = True

    def __init__(self, *, retention: float = 24 * HOUR, page: int = 1000) -> None:
        self.shards: dict[str, Shard] = {"shard-0": Shard()}
        self.retention = retention
        self.identity = "created-1"
        self.page = page
        self.reads: list[tuple[str, float]] = []
        self.failures: list[PollerError] = []
        self.listing_failures: list[PollerError] = []
        self._next = 0

    @property
    def written(self) -> int:
        """Records put so far."""
        return self._next

    def put(self, shard: str, count: int = 1, **more: Any) -> list[Record]:
        made = [record(self._next + index + 1, arrived=now(), **more) for index in range(count)]
        self._next += count
        self.shards[shard].records.extend(made)
        return made

    def split(self, parent: str, *children: str) -> None:
        self.shards[parent].closed = True
        for child in children:
            self.shards[child] = Shard(parents=(parent,))

    async def topology(self) -> Topology:
        await anyio.sleep(0.01)
        if self.listing_failures:
            raise self.listing_failures.pop(0)
        listed = [Partition(i, s.parents, s.closed) for i, s in self.shards.items() if s.listed and not s.forgotten]
        return Topology(tuple(listed), self.retention, self.identity)

    async def latest(self, partition: str) -> Cursor:
        await anyio.sleep(0.01)
        if not self.shards[partition].listed:
            raise ShardGone(f"there is no {partition}")
        records = self.shards[partition].records
        return Cursor(At(math.floor(now())), token=str(len(records)))

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        self.reads.append((partition, now()))
        await anyio.sleep(0.01)
        if self.failures:
            raise self.failures.pop(0)
        shard = self.shards[partition]
        if not shard.listed:
            raise ShardGone(f"there is no {partition}")
        begin = int(cursor.token) if cursor.token else self._find(shard, cursor.position)
        records = shard.records[begin : begin + min(limit, self.page)]
        await admit(sum(len(each.body) for each in records))
        end = begin + len(records)
        position = After(records[-1].id) if records else cursor.position
        more = end < len(shard.records)
        behind = max(0.0, now() - shard.records[end].arrived) + 0.001 if more else 0.0
        following = None if shard.closed and not more else Cursor(position, token=str(end))
        return Page(tuple(records), following, behind=behind, full=more)

    def _find(self, shard: Shard, position: Position) -> int:
        match position:
            case TrimHorizon():
                return 0
            case At(time=time):
                return next((i for i, each in enumerate(shard.records) if each.arrived >= time), len(shard.records))
            case From(sequence=sequence):
                return self._find(shard, After(str(int(sequence) - 1)))
            case After(sequence=sequence):
                ids = [int(each.id) for each in shard.records]
                if ids and int(sequence) < ids[0] - 1:
                    raise Trimmed(f"{sequence} is older than the oldest record")
                return sum(1 for each in ids if each <= int(sequence))

    async def delete(self, records: Sequence[Record]) -> Sequence[Unsettled]:
        return ()

    async def release(self, records: Sequence[Record]) -> None:
        pass

    async def extend(self, records: Sequence[Record], seconds: int) -> Sequence[Unsettled]:
        raise AssertionError("a stream has no leases")

    async def check(self) -> None:
        pass


@dataclass(kw_only=True)
class Message:
    """A message of a queue, wherever it is."""

    number: int
    record: Record
    """As it was sent; each receive makes one with a new receipt."""
    receives: int = 0
    hidden_until: float = -math.inf
    """On anyio's clock."""


class FakeQueue:
    """A queue with a visibility timeout, standard or FIFO (message group = record key), and a dead-letter queue.

    A receipt is good until the message is received again or, on a FIFO queue, until its visibility ends.
    """

    redelivers = True

    def __init__(
        self, *, visibility: float = 30.0, wait: float = 1.0, fifo: bool = False, max_receives: float = math.inf
    ) -> None:
        self.ordered = fifo
        self.retention = 4 * 24 * HOUR
        self.visibility = visibility
        self.wait = wait
        self.max_receives = max_receives
        self.messages: dict[str, Message] = {}
        self.deleted: list[str] = []
        self.released: list[str] = []
        self.extended: list[tuple[str, int]] = []
        self.dead: list[str] = []
        self.receives = 0
        self.receiving = 0
        self.most_receiving = 0
        self.refuse_delete: set[str] = set()
        self.failures: list[PollerError] = []
        self._next = 0
        self._news = anyio.Event()
        self._groups: dict[str, dict[int, Message]] = {}
        self._ready: dict[str, None] = {}  # groups with messages, none of them hidden, in the order they became so
        self._timers: list[tuple[float, int, Message]] = []

    @property
    def hidden(self) -> list[str]:
        """The ids of the messages that are received and not visible again."""
        return [i for i, each in self.messages.items() if each.hidden_until > anyio.current_time()]

    def put(self, count: int = 1, **more: Any) -> None:
        for _ in range(count):
            self._next += 1
            self._add(record(self._next, arrived=now(), **more))

    def put_body(self, body: bytes) -> None:
        """A message whose element of the event is given."""
        self._next += 1
        self._add(Record(id=str(self._next), body=body, arrived=now(), receipt=f"r{self._next}", traced=True))

    def _add(self, made: Record) -> None:
        message = Message(number=self._next, record=made)
        self.messages[message.record.id] = message
        self._groups.setdefault(self._group(message), {})[message.number] = message
        self._settle(message)
        self._news.set()

    async def topology(self) -> Topology:
        return Topology((Partition("queue"),), self.retention, lease=self.visibility)

    async def latest(self, partition: str) -> Cursor:
        raise AssertionError("a queue has no latest")

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        assert 1 <= limit <= 10
        self.receives += 1
        self.receiving += 1
        self.most_receiving = max(self.most_receiving, self.receiving)
        try:
            await anyio.sleep(0.01)
            if self.failures:
                raise self.failures.pop(0)
            taken: list[Record] = []
            with anyio.move_on_after(self.wait):
                while not (taken := self._hand_out(limit)):
                    self._news = anyio.Event() if self._news.is_set() else self._news
                    soonest = self._timers[0][0] if self._timers else math.inf
                    with anyio.move_on_after(soonest - anyio.current_time()):
                        await self._news.wait()
        finally:
            self.receiving -= 1
        await admit(sum(len(each.body) for each in taken))
        return Page(tuple(taken), cursor, full=len(taken) == limit)

    def _group(self, message: Message) -> str:
        """What is locked while one of its messages is hidden."""
        return message.record.key if self.ordered else message.record.id

    def _settle(self, message: Message) -> None:
        """A message is there, visible again, or gone: its group may be ready."""
        name = self._group(message)
        group = self._groups.get(name)
        if not group:
            self._groups.pop(name, None)
            self._ready.pop(name, None)
        elif all(each.hidden_until <= anyio.current_time() for each in group.values()):
            self._ready.setdefault(name)

    def _hand_out(self, limit: int) -> list[Record]:
        moment, taken = anyio.current_time(), list[Record]()
        while self._timers and self._timers[0][0] <= moment:
            self._settle(heapq.heappop(self._timers)[2])
        while self._ready and len(taken) < limit:
            name = next(iter(self._ready))
            for message in list(self._groups[name].values())[: limit - len(taken)]:
                if message.receives >= self.max_receives:
                    self.dead.append(message.record.id)
                    self._remove(message)
                else:
                    taken.append(self._receive(message))
            if name in self._groups and any(each.hidden_until > moment for each in self._groups[name].values()):
                del self._ready[name]
        return taken

    def _receive(self, message: Message) -> Record:
        message.receives += 1
        message.record = msgspec.structs.replace(message.record, receipt=f"{message.record.id}/{message.receives}")
        self._hide(message, self.visibility)
        return message.record

    def _hide(self, message: Message, seconds: float) -> None:
        message.hidden_until = anyio.current_time() + seconds
        heapq.heappush(self._timers, (message.hidden_until, message.number, message))

    def _remove(self, message: Message) -> None:
        del self.messages[message.record.id]
        del self._groups[self._group(message)][message.number]
        message.hidden_until = -math.inf
        self._settle(message)

    def _fault(self, each: Record) -> str:
        """Why a receipt is good for nothing; "" when it is good."""
        message = self.messages.get(each.id)
        if message is None or message.record.receipt != each.receipt:
            return "ReceiptHandleIsInvalid"
        ended = message.hidden_until <= anyio.current_time()
        return "InvalidParameterValue The receipt handle has expired" if self.ordered and ended else ""

    async def delete(self, records: Sequence[Record]) -> Sequence[Unsettled]:
        await anyio.sleep(0.01)
        failed = []
        for each in records:
            fault = "InternalError" if each.id in self.refuse_delete else self._fault(each)
            if fault and (each.id in self.messages or each.id in self.dead):
                failed.append(Unsettled(each, fault))
            elif each.id in self.messages:
                self._remove(self.messages[each.id])
                self.deleted.append(each.id)
        self._news.set()
        return failed

    async def release(self, records: Sequence[Record]) -> None:
        await anyio.sleep(0.01)
        for each in records:
            if not self._fault(each):
                self.released.append(each.id)
                self.messages[each.id].hidden_until = anyio.current_time()
                self._settle(self.messages[each.id])
        self._news.set()

    async def extend(self, records: Sequence[Record], seconds: int) -> Sequence[Unsettled]:
        await anyio.sleep(0.01)
        failed = []
        for each in records:
            message = self.messages.get(each.id)
            if message is None or self._fault(each) or message.hidden_until <= anyio.current_time():
                failed.append(Unsettled(each, "MessageNotInflight"))
            else:
                self._hide(message, seconds)
                self.extended.append((each.id, seconds))
        return failed

    async def check(self) -> None:
        pass


@dataclass
class Call:
    """One invocation as the function saw it."""

    at: float
    request_id: str
    sequences: list[int]


class FakeFunction:
    """A function whose behaviour is a callable from the call to an outcome."""

    def __init__(self, behave: Callable[[Call], Outcome] | None = None, *, seconds: float = 0.02) -> None:
        self.behave = behave or (lambda call: Replied(body=b"null"))
        self.seconds = seconds
        self.calls: list[Call] = []
        self.succeeded: list[int] = []
        self.running = 0
        self.most_running = 0

    async def invoke(self, event: bytes, request_id: str, trace: Trace | None = None) -> Outcome:
        sequences = [each["sequence"] for each in json.loads(event)["Records"]]
        call = Call(now(), request_id, sequences)
        self.calls.append(call)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await anyio.sleep(self.seconds)
        finally:
            self.running -= 1
        outcome = self.behave(call)
        if isinstance(outcome, Replied):
            self.succeeded += sequences
        return outcome

    async def check(self) -> None:
        pass


class FakeDestination:
    """Keeps the accounts that it is sent, or refuses them."""

    def __init__(self) -> None:
        self.accounts: list[Account] = []
        self.refusals: list[PollerError] = []

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(account.document) for account in self.accounts]

    async def send(self, account: Account) -> None:
        await anyio.sleep(0.01)
        if self.refusals:
            raise self.refusals.pop(0)
        self.accounts.append(account)

    async def check(self) -> None:
        pass


def alone(store: Store) -> Fleet:
    """The only replica there is."""
    time = Time(clock=now, elapsed=anyio.current_time, chance=lambda: 0.5)
    return Fleet(store, Identity(name="alone", boot="boot"), time, lambda fact: None)


class World:
    """A mapping between its doubles, and every fact that it told."""

    def __init__(
        self,
        source: Source,
        function: FakeFunction,
        store: Store,
        destination: FakeDestination | None = None,
        **policy: Any,
    ) -> None:
        self.facts: list[Fact] = []
        self.stop = Stop()
        self._ids = 0
        self.tools = Tools(
            mapping="m",
            uuid="0f0e0d0c-0000-5000-8000-000000000000",
            function_name="f",
            source_name="arn:aws:kinesis:eu-west-1:123456789012:stream/s",
            policy=replace(Policy(batch_size=100, start=TrimHorizon()), **policy),
            source=source,
            target=function,
            destination=destination,
            store=store,
            fleet=alone(store),
            budget=Budget(256 * 1024 * 1024),
            observe=self.facts.append,
            clock=now,
            chance=lambda: 0.5,
            new_id=self._new_id,
            stop=self.stop,
        )

    def _new_id(self) -> str:
        self._ids += 1
        return f"request-{self._ids}"

    def told(self, kind: type[F]) -> list[F]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[World]:
        """Run the mapping; at the end stop it and wait until it has."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_mapping, self.tools)
            yield self
            self.stop.set()


@asynccontextmanager
async def world(
    source: Source, function: FakeFunction, store: Store | None = None, **policy: Any
) -> AsyncIterator[World]:
    """A running mapping with a store of its own."""
    async with MemoryStore().open() as fresh, World(source, function, store or fresh, **policy).running() as running:
        yield running


async def until(condition: Callable[[], bool], *, within: float = 60.0) -> None:
    """Let virtual time pass until something is so."""
    with anyio.fail_after(within):
        while not condition():
            await anyio.sleep(0.01)
