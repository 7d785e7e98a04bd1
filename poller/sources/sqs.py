"""SQS queues, standard and FIFO."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from typing import Any, TypeAlias

import anyio
import msgspec

from poller.aws.calls import HotCalls
from poller.aws.errors import translated
from poller.aws.session import Aws
from poller.model.errors import Denied, PollerError, Transient
from poller.model.ports import Admit, Clock, Source, Unsettled
from poller.model.record import Cursor, Page, Partition, Record, Topology, TrimHorizon
from poller.sources.arn import parse_arn
from poller.sources.sqs_event import SqsFrame, cut_sqs, sqs_frame
from poller.sources.stream import listed

_TEN = 10
"""Messages a call to SQS carries at most."""
_TRIES = 4
"""Times a batch is sent whose entries fail by no fault of ours."""
_PAUSE = 0.1
"""Seconds behind the first call that failed as a whole; later pauses are longer."""
_AT_ONCE = 8
"""Batches of one settlement under way together."""
_SHORT_BYTES = 1024
"""Of an answer that is read once for all that are the same."""
_GONE = ("MessageNotInflight",)
"""What a release is told about a message that is visible already, or deleted."""

Call: TypeAlias = Callable[[Sequence[str]], Awaitable[bytes | bytearray]]
"""Settles messages, by their receipts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqsQueue:
    """The source part of a mapping of an SQS queue."""

    arn: str
    role_arn: str | None = None
    """Role to assume for reading."""
    wait: int = 1
    """Whole seconds a long poll waits, 1 to 20."""
    hold: int = 0
    """Seconds that a message is received for where the queue's own visibility timeout is shorter; 0: the queue's own."""
    windowed: bool = False
    """The mapping has a batching window: Lambda then writes `md5OfMessageAttributes` as null instead of leaving it out."""

    @property
    def fifo(self) -> bool:
        """Whether order is kept within message groups."""
        return self.arn.endswith(".fifo")

    @asynccontextmanager
    async def open(self, aws: Aws, clock: Clock) -> AsyncIterator[Source]:
        """Open for reading. The queue is not asked for anything yet."""
        region = parse_arn(self.arn).region
        calls = await aws.calls(region=region, role_arn=self.role_arn)
        await calls.ready("sqs")
        yield _OpenQueue(
            settings=self,
            frame=sqs_frame(self.arn, windowed=self.windowed),
            client=await aws.client("sqs", region=region, role_arn=self.role_arn),
            calls=calls,
            clock=clock,
            ordered=self.fifo,
        )


class _Fault(msgspec.Struct, frozen=True):
    """Why an entry of a batch failed."""

    Id: str
    SenderFault: bool = False
    Code: str = ""
    Message: str = ""


class _Done(msgspec.Struct, frozen=True):
    Id: str


class _BatchAnswer(msgspec.Struct, frozen=True):
    Successful: list[_Done] | None = None
    Failed: list[_Fault] | None = None


_SILENT = _Fault(Id="", Code="NoAnswer", Message="the service said nothing about this entry")
_batch_decoder = msgspec.json.Decoder(_BatchAnswer)

_Faults: TypeAlias = list[tuple[Record, _Fault]]
"""The messages that were not settled, in their order."""


@dataclass(slots=True, kw_only=True)
class _OpenQueue:
    """The queue, as the `Source` port."""

    settings: SqsQueue
    frame: SqsFrame
    client: Any
    calls: HotCalls
    clock: Clock
    ordered: bool
    redelivers: bool = True
    url: str = ""
    visibility: float = 0.0
    """The queue's own, as last seen."""

    async def topology(self) -> Topology:
        with translated("sqs", "GetQueueAttributes"):
            answer = await self.client.get_queue_attributes(
                QueueUrl=await self._url(), AttributeNames=["MessageRetentionPeriod", "VisibilityTimeout"]
            )
        attributes = listed(answer, "Attributes", "GetQueueAttributes")
        self.visibility = float(listed(attributes, "VisibilityTimeout", "GetQueueAttributes"))
        return Topology(
            partitions=(Partition(id="queue"),),
            retention=float(listed(attributes, "MessageRetentionPeriod", "GetQueueAttributes")),
            lease=max(self.visibility, self.settings.hold),
        )

    async def latest(self, partition: str) -> Cursor:  # noqa: ARG002  -- a queue has no places
        return Cursor(position=TrimHorizon())

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:  # noqa: ARG002
        count = min(limit, _TEN)
        hold = self.settings.hold if self.settings.hold > self.visibility else None
        body = await self.calls.receive_message(
            self.url or await self._url(), count=count, wait=self.settings.wait, admit=admit, visibility=hold
        )
        return cut_sqs(body, frame=self.frame, cursor=cursor, limit=count, now=self.clock())

    async def delete(self, records: Sequence[Record]) -> Sequence[Unsettled]:
        call = partial(self.calls.delete_message_batch, self.url or await self._url())
        return _unsettled(await _settle(records, call))

    async def release(self, records: Sequence[Record]) -> None:
        call = partial(self.calls.change_message_visibility_batch, await self._url(), timeout=0)
        held = [fault for _, fault in await _settle(records, call) if not fault.Code.endswith(_GONE)]
        if held:
            raise Transient(
                f"{len(held)} of {len(records)} messages of {self.settings.arn} were not released and come back"
                f" when their visibility ends: {held[0].Code} {held[0].Message}".rstrip()
            )

    async def extend(self, records: Sequence[Record], seconds: int) -> Sequence[Unsettled]:
        call = partial(self.calls.change_message_visibility_batch, await self._url(), timeout=seconds)
        return _unsettled(await _settle(records, call))

    async def check(self) -> None:
        if trouble := (await self.topology()).trouble:
            raise Denied(f"{self.settings.arn}: {trouble}")

    async def _url(self) -> str:
        if not self.url:
            arn = parse_arn(self.settings.arn)
            with translated("sqs", "GetQueueUrl"):
                answer = await self.client.get_queue_url(QueueName=arn.resource, QueueOwnerAWSAccountId=arn.account)
            self.url = listed(answer, "QueueUrl", "GetQueueUrl")
        return self.url


def _settle(records: Sequence[Record], call: Call) -> Awaitable[_Faults]:
    """Settle messages. Raises `PollerError` when nothing was settled."""
    return _settle_ten(records, call) if len(records) <= _TEN else _settle_tens(records, call)


async def _settle_tens(records: Sequence[Record], call: Call) -> _Faults:
    """Settle in tens, a few at once; every ten is tried, whatever becomes of the others.

    A call that fails is a fault of each of its messages, unless all calls fail.
    """
    tens = [records[start : start + _TEN] for start in range(0, len(records), _TEN)]
    faults: list[_Faults] = [[] for _ in tens]
    errors: list[PollerError] = []
    limiter = anyio.Semaphore(_AT_ONCE, fast_acquire=True)

    async def settle_ten(number: int) -> None:
        async with limiter:
            try:
                faults[number] = await _settle_ten(tens[number], call)
            except PollerError as error:
                errors.append(error)
                faults[number] = [(record, _Fault(Id="", Message=str(error))) for record in tens[number]]

    async with anyio.create_task_group() as tasks:
        for number in range(len(tens)):
            tasks.start_soon(settle_ten, number)
    if len(errors) == len(tens):
        raise errors[0]
    return list(chain(*faults))


def _unsettled(faults: _Faults) -> tuple[Unsettled, ...]:
    return tuple(
        [
            Unsettled(record, f"{fault.Code} {fault.Message}".strip() or "no reason given", not fault.SenderFault)
            for record, fault in faults
        ]
    )


async def _settle_ten(records: Sequence[Record], call: Call) -> _Faults:
    """Settle one call's worth. What fails by a fault of the service is sent again at once; settling twice does no harm.

    A message is told by its place: a queue may hand out a message id twice.
    """
    faults: dict[int, _Fault] = {}
    left: Sequence[int] = range(len(records))
    receipts = [record.receipt for record in records]
    for attempt in range(1, _TRIES + 1):
        if not receipts:
            break
        try:
            body = await call(receipts)
        except Transient:
            if attempt == _TRIES:
                raise
            await anyio.sleep(_PAUSE * attempt)
            continue
        failed = failures(bytes(body), len(receipts))
        if not failed:
            break
        told = [(left[number], fault) for number, fault in failed]
        faults |= {place: fault for place, fault in told if fault.SenderFault or attempt == _TRIES}
        left = [place for place, _ in told if place not in faults]
        receipts = [records[place].receipt for place in left]
    return [(records[place], faults[place]) for place in sorted(faults)]


def failures(body: bytes, count: int) -> Sequence[tuple[int, _Fault]]:
    """Which entries of a batch were not settled: those listed as failed, and those that the answer does not speak of.

    Args:
        body: the answer.
        count: of the entries, which are named "0" and so on.

    Raises:
        Transient: the answer cannot be read.
    """
    return _known_failures(body, count) if len(body) <= _SHORT_BYTES else _failures(body, count)


def _failures(body: bytes, count: int) -> Sequence[tuple[int, _Fault]]:
    try:
        answer = _batch_decoder.decode(body)
    except msgspec.DecodeError as error:
        raise Transient(f"sqs: the answer to a batch cannot be read: {error}") from error
    done = {entry.Id for entry in answer.Successful or ()}
    faults = {fault.Id: fault for fault in answer.Failed or ()}
    return tuple(
        [(place, faults.get(name, _SILENT)) for place, name in enumerate(map(str, range(count))) if name not in done]
    )


_known_failures = lru_cache(maxsize=32)(_failures)  # nearly all answers say the same, that all is well
