"""The surroundings of a mapping as a story wants them, each telling the witness; and the one that plays a story."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import anyio

from poller.mapping.tools import Tools
from poller.model.account import Account
from poller.model.errors import Denied, IteratorExpired, PollerError, ShardGone, Throttled, Transient, Trimmed
from poller.model.outcome import Failed, Outcome, Refused, Replied, Unavailable
from poller.model.ports import Admit, Row, Store, Unsettled
from poller.model.record import After, At, Cursor, From, Page, Partition, Record, Topology, TrimHorizon
from poller.model.trace import Trace
from tests.pipeline.algorithm import Flaw, Meaning, meaning
from tests.pipeline.doubles import StoreAround, now
from tests.pipeline.stories import Mood, ReadError, Story
from tests.pipeline.witness import Put, Witness

_ASKED = "asked"
ERRORS: dict[ReadError, PollerError] = {
    "transient": Transient("connection reset"),
    "throttled": Throttled("slow down"),
    "denied": Denied("not authorized"),
    "expired": IteratorExpired("too old"),
    "gone": ShardGone("no such shard"),
}
OUTCOMES: dict[Mood, Outcome] = {
    "throttled": Refused(reason="429"),
    "unavailable": Unavailable(reason="502"),
    "raises": Failed(reason="Boom"),
    "times out": Failed(reason="timed out", timeout=True),
}
FOREIGN = b'{"batchItemFailures":[{"itemIdentifier":"77777777"}]}'
Run = Callable[[Tools], Awaitable[None]]


@dataclass
class Shard:
    records: list[Record] = field(default_factory=list)
    parents: tuple[str, ...] = ()
    closed: bool = False
    vanished: bool = False
    trimmed: int = 0
    """The sequence number up to which records were dropped."""


class StoryStream:
    """A stream whose iterators are sequence numbers of a generation that may expire."""

    redelivers = False
    ordered = True

    def __init__(self, story: Story, witness: Witness) -> None:
        self.story = story
        self.witness = witness
        self.shards = {"shard-0": Shard()}
        self.generation = 0
        self.failures: deque[PollerError] = deque()
        self.listing_failures = 0
        self.tear: str | None = None
        self._torn: str | None = None
        self._next = 1

    @property
    def open(self) -> list[str]:
        return [name for name, shard in self.shards.items() if not shard.closed]

    @property
    def oldest(self) -> list[str]:
        """Closed shards whose parents have left the stream before them."""
        return [
            name
            for name, shard in self.shards.items()
            if shard.closed and not shard.vanished and all(self.shards[each].vanished for each in shard.parents)
        ]

    def put(self, shard: str, records: Sequence[tuple[int, Flaw]], size_bytes: int) -> None:
        for key, flaw in records:
            body = json.dumps({"sequence": self._next, "data": "x" * size_bytes}).encode()
            record = Record(id=str(self._next), body=body, arrived=now(), key=f"key-{key}")
            self.shards[shard].records.append(record)
            self.witness.has_put(Put(id=self._next, shard=shard, key=record.key, arrived=record.arrived, flaw=flaw))
            self._next += 1

    def reshard(self, parents: Sequence[str], children: int) -> None:
        for parent in parents:
            self.shards[parent].closed = True
            self.witness.closed.add(parent)
        for _ in range(children):
            child = f"shard-{len(self.shards)}"
            self.shards[child] = Shard(parents=tuple(parents))
            self.witness.parents[child] = tuple(parents)

    def trim(self, name: str, count: int) -> None:
        shard = self.shards[name]
        gone, shard.records = shard.records[:count], shard.records[count:]
        if gone:
            shard.trimmed = int(gone[-1].id)
            self.witness.trimmed.update(int(each.id) for each in gone)

    def vanish(self, name: str) -> None:
        self.trim(name, len(self.shards[name].records))
        self.shards[name].vanished = True
        if name not in self.witness.stored:  # nobody has ever seen it
            self.witness.excuse(self.witness.of_shard[name])

    async def topology(self) -> Topology:
        await anyio.sleep(0.01)
        if self.listing_failures:
            self.listing_failures -= 1
            raise Transient("listing is torn")
        self._torn, self.tear = (self.tear if self.tear != self._torn else None), None
        listed = [
            Partition(name, shard.parents, shard.closed)
            for name, shard in self.shards.items()
            if not shard.vanished and name != self._torn
        ]
        if not self.witness.started and self.story.latest:  # what is closed at the first sight is not wanted
            for name, shard in self.shards.items():
                if shard.closed or name == self._torn:
                    self.witness.excuse(self.witness.of_shard[name])
        return Topology(tuple(listed), self.story.retention, "created-1")

    async def latest(self, partition: str) -> Cursor:
        await anyio.sleep(0.01)
        if self.shards[partition].vanished:
            raise ShardGone(f"no shard {partition}")
        if self.witness.started:  # it is only asked whether the shard is there
            return Cursor(At(math.floor(now())), _ASKED)
        self.witness.excuse(self.witness.of_shard[partition])
        last = self.shards[partition].records[-1:]
        return Cursor(At(math.floor(now())), f"{self.generation}:{last[0].id if last else 0}")

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        await anyio.sleep(0.01)
        if self.failures:
            raise self.failures.popleft()
        shard = self.shards[partition]
        if cursor.token == _ASKED:
            self.witness.complain(f"{partition} is opened at LATEST though the mapping has begun")
        if shard.vanished:
            raise ShardGone(f"no shard {partition}")
        ahead = [each for each in shard.records if self._is_ahead(each, cursor)]
        self._pass_over_trimmed(partition, cursor)
        records = ahead[: min(limit, self.story.page)]
        await admit(sum(len(each.body) for each in records))
        more = len(ahead) > len(records)
        position = After(records[-1].id) if records else cursor.position
        token = f"{self.generation}:{records[-1].id}" if records else cursor.token
        following = None if shard.closed and not more else Cursor(position, token)
        return Page(tuple(records), following, behind=1.0 if more else 0.0, full=more)

    def _is_ahead(self, record: Record, cursor: Cursor) -> bool:
        generation, _, sequence = cursor.token.partition(":")
        if sequence and int(generation) == self.generation:
            return int(record.id) > int(sequence)
        match cursor.position:
            case TrimHorizon():
                return True
            case At(time=time):
                return record.arrived >= time
            case From(sequence=sequence):
                return int(record.id) >= int(sequence)
            case After(sequence=sequence):
                return int(record.id) > int(sequence)

    def _pass_over_trimmed(self, name: str, cursor: Cursor) -> None:
        trimmed = self.shards[name].trimmed
        if not isinstance(cursor.position, After):  # begins at the oldest there is: nothing to tell
            self.witness.excuse(each for each in self.witness.of_shard[name] if each <= trimmed)
        elif int(cursor.position.sequence) < trimmed:
            raise Trimmed(f"{cursor.position.sequence} is older than the oldest record")

    async def delete(self, records: Sequence[Record]) -> Sequence[Unsettled]:
        raise AssertionError("a stream is never asked to delete")

    async def extend(self, records: Sequence[Record], seconds: int) -> Sequence[Unsettled]:
        raise AssertionError("a stream is never asked to extend")

    async def release(self, records: Sequence[Record]) -> None:
        raise AssertionError("a stream is never asked to release")

    async def check(self) -> None:
        raise AssertionError("a running mapping checks nothing")


class StoryFunction:
    """Does with a batch what the flaws of its records say, or what its mood says."""

    def __init__(self, story: Story, witness: Witness) -> None:
        self.story = story
        self.witness = witness
        self.moods: deque[Mood] = deque()
        self.healed = 0
        """Records up to this sequence number have no flaw any more."""

    async def invoke(self, event: bytes, request_id: str, trace: Trace | None = None) -> Outcome:
        ids = [each["sequence"] for each in json.loads(event)["Records"]]
        self.witness.begins(now(), request_id, ids)
        await anyio.sleep(self.story.call)
        outcome, meant = self._answer(ids)
        self.witness.ends(now(), ids, meant)
        return outcome

    async def check(self) -> None:
        raise AssertionError("a running mapping checks nothing")

    def _answer(self, ids: list[int]) -> tuple[Outcome, Meaning]:
        if self.moods:
            mood = self.moods.popleft()
            return OUTCOMES[mood], Meaning("failure" if mood in ("raises", "times out") else "not reached")
        flaws: list[Flaw] = ["none" if each <= self.healed else self.witness.put[each].flaw for each in ids]
        return self._outcome(ids, flaws), meaning(flaws, partial=self.story.partial)

    def _outcome(self, ids: list[int], flaws: list[Flaw]) -> Outcome:
        if "too large" in flaws:
            return Failed(reason="413", ran=False, error=None)
        if "raises" in flaws:
            return Failed(reason="Boom")
        if "foreign" in flaws:
            return Replied(body=FOREIGN)
        if "no key" in flaws:
            return Replied(body=b'{"foo":null}')
        named = [str(each) for each, flaw in zip(ids, flaws, strict=True) if flaw == "named"]
        failures = [{"itemIdentifier": each} for each in sorted(named)]  # as text: "10" before "9"
        return Replied(body=json.dumps({"batchItemFailures": failures}).encode())


class StoryStore(StoreAround):
    """Shows every row to the witness before it is stored; fails when the story wants it, before or after the deed."""

    def __init__(self, store: Store, witness: Witness) -> None:
        super().__init__(store)
        self.witness = witness
        self.failures: deque[bool] = deque()

    async def _before(self) -> bool:
        await anyio.sleep(0.001)
        after = self.failures.popleft() if self.failures else None
        if after is False:
            raise Transient("store: database is locked")
        return bool(after)

    def _after(self, failing: bool) -> None:
        if failing:
            raise Transient("store: disk I/O error")

    async def get(self, key: str) -> Row | None:
        self._after(await self._before())
        return await self.store.get(key)

    async def put(self, key: str, value: bytes, expected: int) -> int:
        failing = await self._before()
        version = await self.store.put(key, value, expected)
        _, _, shard = key.partition("/shard-")
        if shard:
            self.witness.writes(f"shard-{shard}", value)
        else:
            self.witness.started = True
        self._after(failing)
        return version

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, Row]]:
        self._after(await self._before())
        async for row in self.store.scan(prefix):
            yield row

    async def delete(self, key: str, expected: int) -> None:
        failing = await self._before()
        await self.store.delete(key, expected)
        self.witness.forgets(f"shard-{key.partition('/shard-')[2]}")
        self._after(failing)


class StoryDestination:
    def __init__(self) -> None:
        self.refusals = 0

    async def send(self, account: Account) -> None:
        await anyio.sleep(0.01)
        if self.refusals:
            self.refusals -= 1
            raise Denied("not authorized to sqs:SendMessage")

    async def check(self) -> None:
        raise AssertionError("a running mapping checks nothing")
