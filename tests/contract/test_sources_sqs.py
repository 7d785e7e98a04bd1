"""SQS as a source, on a real server, standard and FIFO."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import anyio
import pytest

from poller.model.errors import Denied, NotFound
from poller.model.ports import Source
from poller.model.record import Cursor, Partition, Record, TrimHorizon, event_of
from poller.sources.sqs import SqsQueue
from tests.contract.reading import REGION, Admissions, admitted, aws_at

CURSOR = Cursor(position=TrimHorizon())
_names = count()


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A queue on a server: the source under test, and the SDK's client to write to it."""

    url: str
    arn: str
    source: Source
    client: Any

    async def send(self, *bodies: str, **more: Any) -> list[str]:
        """The message ids."""
        answers = [await self.client.send_message(QueueUrl=self.url, MessageBody=body, **more) for body in bodies]
        return [answer["MessageId"] for answer in answers]

    async def receive(self, wanted: int, *, limit: int = 10) -> list[Record]:
        records: list[Record] = []
        while len(records) < wanted:
            page = await self.source.read("queue", CURSOR, limit, admitted)
            assert page.cursor == CURSOR
            records += page.records
        return records

    async def left(self) -> int:
        """Messages visible or in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = await self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)


@asynccontextmanager
async def queue_on(url: str, *, fifo: bool = False, windowed: bool = False, **attributes: str) -> AsyncIterator[Queue]:
    if fifo:
        attributes |= {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    async with aws_at(url) as aws:
        client = await aws.client("sqs", region=REGION)
        name = f"queue-{next(_names)}" + (".fifo" if fifo else "")
        queue_url = (await client.create_queue(QueueName=name, Attributes=attributes))["QueueUrl"]
        answer = await client.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
        arn = answer["Attributes"]["QueueArn"]
        async with SqsQueue(arn=arn, windowed=windowed).open(aws, time.time) as source:
            yield Queue(url=queue_url, arn=arn, source=source, client=client)


@pytest.fixture
def url(ministack) -> str:
    return str(ministack.url)


def elements(records: Sequence[Record]) -> list[Any]:
    found: list[Any] = json.loads(event_of(records))["Records"]
    return found


async def test_a_queue_is_one_partition_with_its_retention_and_lease(url):
    async with queue_on(url, MessageRetentionPeriod="3600", VisibilityTimeout="45") as queue:
        topology = await queue.source.topology()
        assert topology.partitions == (Partition(id="queue"),)
        assert topology.retention == 3600.0
        assert topology.lease == 45.0
        assert queue.source.redelivers


@pytest.mark.parametrize("fifo", [False, True])
async def test_only_a_fifo_queue_is_ordered(url, fifo):
    async with queue_on(url, fifo=fifo) as queue:
        assert queue.source.ordered is fifo


async def test_the_event_is_lambdas(url):
    async with queue_on(url) as queue:
        (message,) = await queue.send('{"text":"grüße 🙂 \\u0000 \\""}')
        records = await queue.receive(1)
        (element,) = elements(records)
        attributes = element.pop("attributes")
        assert set(attributes) >= {
            "ApproximateReceiveCount",
            "SentTimestamp",
            "SenderId",
            "ApproximateFirstReceiveTimestamp",
        }
        assert all(isinstance(value, str) for value in attributes.values())
        assert element.pop("receiptHandle") == records[0].receipt
        assert len(element.pop("md5OfBody")) == 32
        assert element == {
            "messageId": message,
            "body": '{"text":"grüße 🙂 \\u0000 \\""}',
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": queue.arn,
            "awsRegion": REGION,
        }
        assert records[0].id == message
        assert records[0].arrived == int(attributes["SentTimestamp"]) / 1000


async def test_message_attributes_of_every_type_travel(url):
    async with queue_on(url) as queue:
        await queue.send(
            "x",
            MessageAttributes={
                "text": {"DataType": "String", "StringValue": "grüße"},
                "number": {"DataType": "Number.int", "StringValue": "7"},
                "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
            },
            MessageSystemAttributes={
                "AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a994272793"}
            },
        )
        (element,) = elements(await queue.receive(1))
        lists: dict[str, list[str]] = {"stringListValues": [], "binaryListValues": []}
        assert element["messageAttributes"] == {
            "text": {"stringValue": "grüße", **lists, "dataType": "String"},
            "number": {"stringValue": "7", **lists, "dataType": "Number.int"},
            "bytes": {"binaryValue": "AP8=", **lists, "dataType": "Binary"},
        }
        assert len(element["md5OfMessageAttributes"]) == 32
        assert element["attributes"]["AWSTraceHeader"] == "Root=1-5759e988-bd862e3fe1be46a994272793"


async def test_a_mapping_with_a_window_writes_the_digest_of_no_attributes_as_null(url):
    async with queue_on(url, windowed=True) as queue:
        await queue.send("x")
        (element,) = elements(await queue.receive(1))
        assert element["md5OfMessageAttributes"] is None


async def test_a_read_takes_ten_at_most(url):
    async with queue_on(url) as queue:
        await queue.send(*[str(number) for number in range(12)])
        admissions = Admissions()
        page = await queue.source.read("queue", CURSOR, 10_000, admissions)
        assert len(page.records) == 10
        assert page.full
        assert len(admissions.sizes) == 1
        rest = await queue.source.read("queue", CURSOR, 10_000, admitted)
        assert len(rest.records) == 2
        assert not rest.full


async def test_an_empty_queue_is_waited_for(url):
    async with queue_on(url) as queue:
        begun = time.monotonic()
        page = await queue.source.read("queue", CURSOR, 10, admitted)
        assert page.records == ()
        assert 0.5 < time.monotonic() - begun < 5


async def test_deleted_messages_are_gone_and_others_come_back(url):
    async with queue_on(url, VisibilityTimeout="1") as queue:
        await queue.send(*[str(number) for number in range(23)])
        records = await queue.receive(23)
        assert await queue.source.delete(records[:22]) == ()
        assert [record.id for record in await queue.receive(1)] == [records[22].id]


async def test_a_message_handed_out_twice_is_deleted_with_both_of_its_handles(url):
    async with queue_on(url, VisibilityTimeout="1") as queue:
        (message,) = await queue.send("x")
        first = await queue.receive(1)
        await anyio.sleep(1.1)
        second = await queue.receive(1)
        assert {record.id for record in first + second} == {message}
        await queue.source.delete([*first, *second])
        assert await queue.left() == 0


async def test_released_messages_come_back_at_once(url):
    async with queue_on(url, VisibilityTimeout="600") as queue:
        sent = await queue.send(*[str(number) for number in range(12)])
        records = await queue.receive(12)
        await queue.source.release(records)
        assert sorted(record.id for record in await queue.receive(12)) == sorted(sent)


async def test_releasing_nothing_and_deleting_nothing_are_nothing(url):
    async with queue_on(url) as queue:
        assert await queue.source.delete([]) == ()
        await queue.source.release([])


async def test_fifo_messages_keep_their_order_and_name_their_group(url):
    async with queue_on(url, fifo=True) as queue:
        sent = await queue.send("a", "b", "c", MessageGroupId="g1")
        records = await queue.receive(3)
        assert [record.id for record in records] == sent
        assert {record.key for record in records} == {"g1"}
        attributes = [element["attributes"] for element in elements(records)]
        assert all(
            {"SequenceNumber", "MessageGroupId", "MessageDeduplicationId"} <= set(attribute) for attribute in attributes
        )


async def test_a_locked_group_waits_until_its_messages_are_deleted(url):
    async with queue_on(url, fifo=True) as queue:
        await queue.send("a", "b", MessageGroupId="g1")
        (first,) = await queue.receive(1, limit=1)
        assert (await queue.source.read("queue", CURSOR, 10, admitted)).records == ()
        await queue.source.delete([first])
        (second,) = await queue.receive(1)
        assert elements([second])[0]["body"] == "b"


async def test_a_queue_that_may_be_read_passes_the_check(url):
    async with queue_on(url) as queue:
        await queue.source.check()


async def test_a_queue_that_is_not_there_is_not_found(url):
    arn = f"arn:aws:sqs:{REGION}:000000000000:nowhere"
    async with aws_at(url) as aws, SqsQueue(arn=arn).open(aws, time.time) as source:
        for ask in (source.check, source.topology):
            with pytest.raises(NotFound, match="check the name, region and account"):
                await ask()


async def test_extended_messages_stay_hidden(url):
    async with queue_on(url, VisibilityTimeout="1") as queue:
        await queue.send(*[str(number) for number in range(12)])
        records = await queue.receive(12)
        assert await queue.source.extend(records, 600) == ()
        await anyio.sleep(1.2)
        assert (await queue.source.read("queue", CURSOR, 10, admitted)).records == ()


async def test_a_message_that_is_gone_cannot_be_extended_and_the_reason_is_answered(url):
    async with queue_on(url, VisibilityTimeout="600") as queue:
        await queue.send("a", "b")
        records = await queue.receive(2)
        await queue.source.delete(records[:1])
        (unsettled,) = await queue.source.extend(records, 600)
        assert unsettled.record is records[0]
        assert unsettled.reason


@pytest.mark.parametrize(("hold", "lease"), [(0, 1.0), (600, 600.0)])
async def test_a_message_is_held_as_long_as_it_is_asked_to_where_the_queue_holds_it_shorter(url, hold, lease):
    async with (
        queue_on(url, VisibilityTimeout="1") as queue,
        aws_at(url) as aws,
        SqsQueue(arn=queue.arn, hold=hold).open(aws, time.time) as source,
    ):
        assert (await source.topology()).lease == lease
        await queue.send("a")
        assert len((await source.read("queue", CURSOR, 10, admitted)).records) == 1
        await anyio.sleep(1.2)
        again = (await source.read("queue", CURSOR, 10, admitted)).records
        assert len(again) == (0 if hold else 1)


async def test_a_queue_without_visibility_does_not_pass_the_check(url):
    async with queue_on(url, VisibilityTimeout="0") as queue:
        with pytest.raises(Denied, match="visibility timeout is 0 seconds"):
            await queue.source.check()
