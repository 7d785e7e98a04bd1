"""What no server does on demand: expired iterators and tokens, torn answers, refusals, long listings, over a socket."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from poller.model.errors import Denied, NotFound, ShardGone, Throttled, Transient, Trimmed
from poller.model.ports import Source
from poller.model.record import After, At, Cursor, Record, TrimHorizon
from poller.sources import SourceSettings
from poller.sources.dynamodb import DynamoDBStream
from poller.sources.kinesis import KinesisStream
from poller.sources.sqs import SqsQueue
from tests.contract.reading import admitted, aws_at
from tests.servers.scripted import (
    Reply,
    Request,
    Script,
    ScriptedServer,
    answer,
    by_operation,
    failure,
    in_turn,
    scripted,
)

KINESIS = KinesisStream(arn="arn:aws:kinesis:eu-west-1:111122223333:stream/s")
DYNAMODB = DynamoDBStream(arn="arn:aws:dynamodb:eu-west-1:111122223333:table/t/stream/2026-01-01T00:00:00.000")
SQS = SqsQueue(arn="arn:aws:sqs:eu-west-1:111122223333:q")
DATE = {"Date": "Thu, 01 Jan 2026 00:00:10 GMT"}
NEW_YEAR = 1_767_225_600.0

both = pytest.mark.parametrize("settings", [KINESIS, DYNAMODB], ids=["kinesis", "dynamodb"])


@asynccontextmanager
async def source_on(settings: SourceSettings, script: Script) -> AsyncIterator[tuple[Source, ScriptedServer]]:
    async with (
        scripted(script) as server,
        aws_at(server.url) as aws,
        settings.open(aws, lambda: 1_000.0) as source,
    ):
        yield source, server


def page_of(settings: SourceSettings, *sequences: str, following: str | None = "next") -> Reply:
    """A GetRecords answer of the service."""
    if isinstance(settings, KinesisStream):
        records: list[Any] = [
            {"SequenceNumber": sequence, "Data": "eA==", "PartitionKey": "k", "ApproximateArrivalTimestamp": 5.5}
            for sequence in sequences
        ]
    else:
        records = [
            {"eventID": "e", "eventName": "INSERT", "dynamodb": {"SequenceNumber": sequence, "Keys": {}}}
            for sequence in sequences
        ]
    return answer({"Records": records, "NextShardIterator": following})


ITERATOR = answer({"ShardIterator": "fresh"})


@both
async def test_an_expired_iterator_is_replaced_from_the_last_position(settings):
    reads = in_turn(failure("ExpiredIteratorException"), page_of(settings, "8"))
    async with source_on(settings, by_operation(GetRecords=reads, GetShardIterator=ITERATOR)) as (source, server):
        page = await source.read("s", Cursor(position=After("7"), token="old"), 10, admitted)
        assert [record.id for record in page.records] == ["8"]
        assert server.operations() == ["GetRecords", "GetShardIterator", "GetRecords"]
        asked = server.requests[1].parameters
        assert asked["ShardIteratorType"] == "AFTER_SEQUENCE_NUMBER"
        assert "7" in (asked.get("StartingSequenceNumber"), asked.get("SequenceNumber"))
        assert [server.requests[index].parameters["ShardIterator"] for index in (0, 2)] == ["old", "fresh"]


@both
async def test_iterators_that_expire_at_once_are_asked_for_once(settings):
    script = by_operation(GetRecords=failure("ExpiredIteratorException"), GetShardIterator=ITERATOR)
    async with source_on(settings, script) as (source, server):
        with pytest.raises(Transient, match="a new iterator was refused"):
            await source.read("s", Cursor(position=TrimHorizon(), token="old"), 10, admitted)
        assert server.operations() == ["GetRecords", "GetShardIterator", "GetRecords"]


@both
async def test_a_service_that_forgot_its_iterators_is_asked_for_a_new_one(settings):
    code = "InvalidArgumentException" if settings is KINESIS else "ValidationException"
    reads = in_turn(failure(code), page_of(settings, "8"))
    async with source_on(settings, by_operation(GetRecords=reads, GetShardIterator=ITERATOR)) as (source, _):
        page = await source.read("s", Cursor(position=After("7"), token="old"), 10, admitted)
        assert [record.id for record in page.records] == ["8"]


@both
@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (failure("ProvisionedThroughputExceededException"), Throttled),
        (failure("InternalServerError", status=500), Transient),
        (failure("AccessDeniedException"), Denied),
        (failure("TrimmedDataAccessException"), Trimmed),
        (failure("ResourceNotFoundException"), ShardGone),
        (Reply(hang_up=True), Transient),
    ],
    ids=["throttled", "broken", "denied", "trimmed", "gone", "silent"],
)
async def test_a_read_that_fails_says_how(settings, reply, error):
    async with source_on(settings, by_operation(GetRecords=reply)) as (source, server):
        with pytest.raises(error) as raised:
            await source.read("s", Cursor(position=After("7"), token="t"), 10, admitted)
        assert raised.type is error
        assert server.operations() == ["GetRecords"]


@both
async def test_a_sequence_number_that_the_shard_does_not_know_was_trimmed(settings):
    code = "InvalidArgumentException" if settings is KINESIS else "TrimmedDataAccessException"
    async with source_on(settings, by_operation(GetShardIterator=failure(code))) as (source, _):
        with pytest.raises(Trimmed):
            await source.read("s", Cursor(position=After("7")), 10, admitted)


async def test_a_refused_moment_is_not_a_trim():
    async with source_on(KINESIS, by_operation(GetShardIterator=failure("InvalidArgumentException"))) as (source, _):
        with pytest.raises(Denied, match="InvalidArgumentException"):
            await source.read("s", Cursor(position=At(9e9)), 10, admitted)


@both
@pytest.mark.parametrize("sent", [0, 1, 20, 60])
async def test_a_torn_page_is_neither_empty_nor_the_end(settings, sent):
    whole = page_of(settings, "8", following=None)
    reply = Reply(body=whole.body, framing="close", sent=sent)
    async with source_on(settings, by_operation(GetRecords=reply)) as (source, _):
        with pytest.raises(Transient):
            await source.read("s", Cursor(position=TrimHorizon(), token="t"), 10, admitted)


@both
@pytest.mark.parametrize("document", [{}, {"NextShardIterator": None}, {"message": "x"}, [], {"Records": None}])
async def test_an_answer_without_records_is_neither_empty_nor_the_end(settings, document):
    async with source_on(settings, by_operation(GetRecords=answer(document))) as (source, _):
        with pytest.raises(Transient, match="cannot be read"):
            await source.read("s", Cursor(position=TrimHorizon(), token="t"), 10, admitted)


@both
async def test_a_shard_ends_where_there_is_no_next_iterator(settings):
    for reply in (answer({"Records": []}), page_of(settings, "8", following=None)):
        async with source_on(settings, by_operation(GetRecords=reply)) as (source, _):
            page = await source.read("s", Cursor(position=TrimHorizon(), token="t"), 10, admitted)
            assert page.cursor is None


@both
async def test_latest_is_a_second_before_the_services_own_date(settings):
    iterator = answer({"ShardIterator": "fresh"}, headers=DATE)
    async with source_on(settings, by_operation(GetShardIterator=iterator)) as (source, server):
        assert await source.latest("s") == Cursor(position=At(NEW_YEAR + 9), token="fresh")
        assert server.requests[0].parameters["ShardIteratorType"] == "LATEST"


@both
async def test_latest_without_a_date_is_by_our_clock(settings):
    async with source_on(settings, by_operation(GetShardIterator=ITERATOR)) as (source, _):
        assert (await source.latest("s")).position == At(999.0)


@both
@pytest.mark.parametrize("date", ["yesterday", "Thu, 01 Jan 99999999999 00:00:10 GMT"])
async def test_latest_with_a_date_that_is_none_is_by_our_clock(settings, date: str):
    iterator = answer({"ShardIterator": "fresh"}, headers={"Date": date})
    async with source_on(settings, by_operation(GetShardIterator=iterator)) as (source, _):
        assert (await source.latest("s")).position == At(999.0)


@both
async def test_a_read_asks_for_no_more_than_the_service_gives(settings):
    async with source_on(settings, by_operation(GetRecords=page_of(settings))) as (source, server):
        await source.read("s", Cursor(position=TrimHorizon(), token="t"), 99_999, admitted)
        assert server.requests[0].parameters["Limit"] == (10_000 if settings is KINESIS else 1_000)


async def test_every_call_to_kinesis_names_the_stream_for_it_may_be_another_accounts():
    script = by_operation(GetRecords=page_of(KINESIS), GetShardIterator=ITERATOR)
    async with source_on(KINESIS, script) as (source, server):
        await source.read("s", Cursor(position=TrimHorizon()), 1, admitted)
        assert [request.parameters["StreamARN"] for request in server.requests] == [KINESIS.arn, KINESIS.arn]


async def test_a_moment_reaches_kinesis_to_the_millisecond():
    script = by_operation(GetRecords=page_of(KINESIS), GetShardIterator=ITERATOR)
    async with source_on(KINESIS, script) as (source, server):
        await source.read("s", Cursor(position=At(1_767_225_600.25)), 1, admitted)
        assert server.requests[0].parameters["ShardIteratorType"] == "AT_TIMESTAMP"
        assert server.requests[0].parameters["Timestamp"] == 1_767_225_600.25


def change(sequence: str, created: float) -> dict[str, Any]:
    record = {"SequenceNumber": sequence, "ApproximateCreationDateTime": created, "Keys": {"id": {"S": "a"}}}
    return {"eventID": "e", "eventName": "INSERT", "dynamodb": record}


async def test_changes_before_a_moment_are_skipped_until_one_is_new_enough():
    pages = in_turn(
        answer({"Records": [change("1", 50), change("2", 99)], "NextShardIterator": "second"}),
        answer({"Records": [change("3", 99), change("4", 100)], "NextShardIterator": "third"}),
    )
    async with source_on(DYNAMODB, by_operation(GetRecords=pages, GetShardIterator=ITERATOR)) as (source, server):
        first = await source.read("s", Cursor(position=At(100.9)), 2, admitted)
        assert server.requests[0].parameters["ShardIteratorType"] == "TRIM_HORIZON"
        assert (first.records, first.full) == ((), True)
        assert first.cursor == Cursor(position=At(100.9), token="second")
        second = await source.read("s", first.cursor, 2, admitted)
        assert [record.id for record in second.records] == ["4"]
        assert second.cursor == Cursor(position=After("4"), token="third")


def kinesis_shard(number: int) -> dict[str, Any]:
    return {
        "ShardId": f"shard-{number}",
        "ParentShardId": f"shard-{number - 1}",
        "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "1"},
        "SequenceNumberRange": {"StartingSequenceNumber": "1"},
    }


SUMMARY = answer(
    {
        "StreamDescriptionSummary": {
            "StreamName": "s",
            "StreamARN": KINESIS.arn,
            "StreamStatus": "ACTIVE",
            "RetentionPeriodHours": 48,
            "StreamCreationTimestamp": NEW_YEAR,
            "EnhancedMonitoring": [],
            "OpenShardCount": 1,
        }
    }
)


async def test_a_long_listing_of_kinesis_is_read_to_its_end():
    pages = in_turn(
        answer({"Shards": [kinesis_shard(number) for number in range(100)], "NextToken": "a"}),
        answer({"Shards": [kinesis_shard(number) for number in range(100, 200)], "NextToken": "b"}),
        answer({"Shards": [kinesis_shard(number) for number in range(200, 250)]}),
    )
    async with source_on(KINESIS, by_operation(DescribeStreamSummary=SUMMARY, ListShards=pages)) as (source, server):
        topology = await source.topology()
        assert [shard.id for shard in topology.partitions] == [f"shard-{number}" for number in range(250)]
        assert (topology.retention, topology.identity) == (172_800.0, str(NEW_YEAR))
        listings = [request.parameters for request in server.requests if request.operation == "ListShards"]
        assert [set(parameters) - {"MaxResults"} for parameters in listings] == [
            {"StreamARN"},
            {"NextToken"},
            {"NextToken"},
        ]


async def test_a_listing_whose_token_expired_begins_anew():
    pages = in_turn(
        answer({"Shards": [kinesis_shard(1)], "NextToken": "a"}),
        failure("ExpiredNextTokenException"),
        answer({"Shards": [kinesis_shard(1), kinesis_shard(2)]}),
    )
    async with source_on(KINESIS, by_operation(DescribeStreamSummary=SUMMARY, ListShards=pages)) as (source, _):
        assert [shard.id for shard in (await source.topology()).partitions] == ["shard-1", "shard-2"]


async def test_a_listing_whose_tokens_always_expire_passes():
    listing = failure("ExpiredNextTokenException")
    async with source_on(KINESIS, by_operation(DescribeStreamSummary=SUMMARY, ListShards=listing)) as (source, _):
        with pytest.raises(Transient, match="could not be listed in time"):
            await source.topology()


async def test_a_listing_is_throttled_in_our_words():
    script = by_operation(DescribeStreamSummary=failure("LimitExceededException"))
    async with source_on(KINESIS, script) as (source, server):
        with pytest.raises(Throttled):
            await source.topology()
        assert len(server.requests) > 1  # the control plane tries again by itself first


def dynamodb_listing(first: int, last: int, following: str | None) -> Reply:
    shards = [
        {"ShardId": f"shard-{number}", "SequenceNumberRange": {"StartingSequenceNumber": "1", **end}}
        for number in range(first, last)
        for end in [{"EndingSequenceNumber": "2"} if number < 200 else {}]
    ]
    return answer({"StreamDescription": {"StreamLabel": "l", "Shards": shards, "LastEvaluatedShardId": following}})


async def test_a_long_listing_of_dynamodb_is_read_to_its_end():
    pages = in_turn(
        dynamodb_listing(0, 100, "shard-99"), dynamodb_listing(100, 200, "shard-199"), dynamodb_listing(200, 250, None)
    )
    async with source_on(DYNAMODB, by_operation(DescribeStream=pages)) as (source, server):
        topology = await source.topology()
        assert [shard.id for shard in topology.partitions] == [f"shard-{number}" for number in range(250)]
        assert [shard.closed for shard in topology.partitions] == [True] * 200 + [False] * 50
        assert (topology.retention, topology.identity) == (86_400.0, "l")
        assert [request.parameters.get("ExclusiveStartShardId") for request in server.requests] == [
            None,
            "shard-99",
            "shard-199",
        ]


async def test_a_listing_that_does_not_move_on_is_torn():
    pages = dynamodb_listing(0, 100, "shard-99")
    async with source_on(DYNAMODB, by_operation(DescribeStream=pages)) as (source, _):
        with pytest.raises(Transient, match="does not come behind shard-99"):
            await source.topology()


@pytest.mark.parametrize(
    ("settings", "operations"),
    [
        (KINESIS, {"DescribeStreamSummary": SUMMARY, "ListShards": Reply(body=b'{"Shards":[{"Sh', framing="close")}),
        (KINESIS, {"DescribeStreamSummary": Reply(body=b'{"StreamDesc', framing="close")}),
        (DYNAMODB, {"DescribeStream": Reply(body=b'{"StreamDesc', framing="close")}),
        (DYNAMODB, {"DescribeStream": answer({"StreamDescription": {"StreamLabel": "l"}})}),
        (SQS, {"GetQueueUrl": Reply(body=b'{"Queue', framing="close")}),
        (SQS, {"GetQueueUrl": answer({"QueueUrl": "http://q"}), "GetQueueAttributes": answer({})}),
    ],
    ids=["ListShards", "DescribeStreamSummary", "DescribeStream", "no Shards", "GetQueueUrl", "no Attributes"],
)
async def test_a_torn_listing_is_a_passing_error(settings, operations):
    async with source_on(settings, by_operation(**operations)) as (source, _):
        with pytest.raises(Transient):
            await source.topology()


@pytest.mark.parametrize(
    ("settings", "permission"),
    [(KINESIS, "kinesis:DescribeStreamSummary"), (DYNAMODB, "dynamodb:DescribeStream"), (SQS, "sqs:GetQueueUrl")],
    ids=["kinesis", "dynamodb", "sqs"],
)
async def test_a_check_names_the_permission_that_is_missing(settings, permission):
    async with source_on(settings, lambda _: failure("AccessDeniedException")) as (source, _):
        with pytest.raises(Denied, match=rf"^[^\n]*the role or user needs {permission}\)$"):
            await source.check()


async def test_a_check_finds_out_that_records_may_not_be_read():
    script = by_operation(
        DescribeStreamSummary=SUMMARY,
        ListShards=answer({"Shards": [kinesis_shard(1)]}),
        GetShardIterator=ITERATOR,
        GetRecords=failure("KMSAccessDeniedException"),
    )
    async with source_on(KINESIS, script) as (source, _):
        with pytest.raises(Denied, match="kms:Decrypt"):
            await source.check()


URL = answer({"QueueUrl": "http://q"})


def messages(number: int) -> list[Record]:
    """The same message id, handed out again and again."""
    return [Record(id="m", body=b"{}", arrived=0.0, receipt=f"r{index}") for index in range(number)]


def settled_but(**faults: bool) -> Script:
    """Settles all entries but some: receipt → whether it is the sender's fault."""

    def script(request: Request) -> Reply:
        done, failed = [], []
        for entry in request.parameters["Entries"]:
            if entry["ReceiptHandle"] in faults:
                sender = faults[entry["ReceiptHandle"]]
                failed.append({"Id": entry["Id"], "SenderFault": sender, "Code": "ReceiptHandleIsInvalid"})
            else:
                done.append({"Id": entry["Id"]})
        return answer({"Successful": done, "Failed": failed})

    return script


def receipts(server: ScriptedServer, operation: str) -> list[list[str]]:
    return [
        [entry["ReceiptHandle"] for entry in request.parameters["Entries"]]
        for request in server.requests
        if request.operation == operation
    ]


async def test_a_message_that_we_may_not_delete_is_answered():
    script = by_operation(GetQueueUrl=URL, DeleteMessageBatch=settled_but(r1=True, r12=True))
    async with source_on(SQS, script) as (source, server):
        left = await source.delete(messages(13))
        assert [each.record.receipt for each in left] == ["r1", "r12"]
        assert {each.reason for each in left} == {"ReceiptHandleIsInvalid"}
        assert sorted(map(len, receipts(server, "DeleteMessageBatch"))) == [3, 10]


async def test_a_message_that_the_service_failed_to_delete_is_tried_again():
    tries = [0]

    def script(request: Request) -> Reply:
        tries[0] += 1
        faults = {"r2": False} if tries[0] < 3 else {}
        reply = settled_but(**faults)(request)
        assert isinstance(reply, Reply)
        return reply

    async with source_on(SQS, by_operation(GetQueueUrl=URL, DeleteMessageBatch=script)) as (source, server):
        assert await source.delete(messages(4)) == ()
        assert receipts(server, "DeleteMessageBatch") == [["r0", "r1", "r2", "r3"], ["r2"], ["r2"]]


async def test_a_message_that_the_service_never_deletes_is_answered():
    script = by_operation(GetQueueUrl=URL, DeleteMessageBatch=settled_but(r2=False))
    async with source_on(SQS, script) as (source, _):
        assert [each.record.receipt for each in await source.delete(messages(4))] == ["r2"]


async def test_a_message_that_the_answer_does_not_speak_of_is_not_deleted():
    def script(request: Request) -> Reply:
        spoken_of = [each["Id"] for each in request.parameters["Entries"] if each["ReceiptHandle"] != "r1"]
        return answer({"Successful": [{"Id": name} for name in spoken_of]})

    async with source_on(SQS, by_operation(GetQueueUrl=URL, DeleteMessageBatch=script)) as (source, server):
        (left,) = await source.delete(messages(3))
        assert (left.record.receipt, left.reason[:8]) == ("r1", "NoAnswer")
        assert receipts(server, "DeleteMessageBatch") == [["r0", "r1", "r2"], ["r1"], ["r1"], ["r1"]]


async def test_of_answers_that_look_alike_each_is_read_for_its_own_batch():
    one_is_done = answer({"Successful": [{"Id": "0"}], "Failed": []})
    async with source_on(SQS, by_operation(GetQueueUrl=URL, DeleteMessageBatch=one_is_done)) as (source, server):
        assert await source.delete(messages(1)) == ()
        assert await source.delete(messages(1)) == ()
        assert await source.delete(messages(2)) == (), "the second is sent again, and is then the only one"
        assert receipts(server, "DeleteMessageBatch") == [["r0"], ["r0"], ["r0", "r1"], ["r1"]]


async def test_a_call_that_fails_is_made_again_and_the_others_are_made_too():
    replies = in_turn(failure("InternalFailure", status=500), failure("InternalFailure", status=500))

    def script(request: Request) -> Reply:
        reply = (replies if request.parameters["Entries"][0]["ReceiptHandle"] == "r0" else settled_but())(request)
        assert isinstance(reply, Reply)
        return reply

    async with source_on(SQS, by_operation(GetQueueUrl=URL, DeleteMessageBatch=script)) as (source, server):
        left = await source.delete(messages(25))
        assert [each.record.receipt for each in left] == [f"r{index}" for index in range(10)]
        assert all("InternalFailure" in each.reason for each in left)
        sent = receipts(server, "DeleteMessageBatch")
        assert sum(batch[0] == "r0" for batch in sent) == 4
        assert sum(batch[0] in {"r10", "r20"} for batch in sent) == 2


async def test_of_messages_that_were_not_extended_those_may_be_tried_again_that_the_service_failed_with():
    def script(request: Request) -> Reply:
        if request.parameters["Entries"][0]["ReceiptHandle"] == "r10":
            return failure("InternalFailure", status=500)
        reply = settled_but(r1=True, r2=False)(request)
        assert isinstance(reply, Reply)
        return reply

    async with source_on(SQS, by_operation(GetQueueUrl=URL, ChangeMessageVisibilityBatch=script)) as (source, _):
        left = await source.extend(messages(12), 30)
        assert {each.record.receipt: each.passing for each in left} == {
            "r1": False,
            "r2": True,
            "r10": True,
            "r11": True,
        }


async def test_a_queue_that_was_deleted_is_not_found():
    script = by_operation(GetQueueUrl=URL, DeleteMessageBatch=failure("QueueDoesNotExist"))
    async with source_on(SQS, script) as (source, _):
        with pytest.raises(NotFound):
            await source.delete(messages(1))


async def test_a_release_that_fails_is_told():
    script = by_operation(GetQueueUrl=URL, ChangeMessageVisibilityBatch=settled_but(r1=True))
    async with source_on(SQS, script) as (source, _):
        with pytest.raises(Transient, match=r"1 of 11 messages .* were not released .* ReceiptHandleIsInvalid"):
            await source.release(messages(11))


async def test_a_message_that_is_visible_already_is_released():
    fault = {"Id": "0", "SenderFault": True, "Code": "AWS.SimpleQueueService.MessageNotInflight"}
    script = by_operation(GetQueueUrl=URL, ChangeMessageVisibilityBatch=answer({"Failed": [fault]}))
    async with source_on(SQS, script) as (source, server):
        await source.release(messages(1))
        assert server.operations() == ["GetQueueUrl", "ChangeMessageVisibilityBatch"]


@pytest.mark.parametrize("sent", [0, 20, 40])
async def test_a_torn_receive_is_not_an_empty_queue(sent):
    reply = Reply(body=b'{"Messages":[{"MessageId":"m","ReceiptHandle":"r","Body":"b"}]}', framing="close", sent=sent)
    async with source_on(SQS, by_operation(GetQueueUrl=URL, ReceiveMessage=reply)) as (source, _):
        with pytest.raises(Transient):
            await source.read("queue", Cursor(position=TrimHorizon()), 10, admitted)


async def test_the_url_of_a_queue_is_asked_for_once_with_its_account():
    script = by_operation(GetQueueUrl=URL, ReceiveMessage=answer({}))
    async with source_on(SQS, script) as (source, server):
        for _ in range(2):
            assert (await source.read("queue", Cursor(position=TrimHorizon()), 3, admitted)).records == ()
        assert server.operations() == ["GetQueueUrl", "ReceiveMessage", "ReceiveMessage"]
        assert server.requests[0].parameters == {"QueueName": "q", "QueueOwnerAWSAccountId": "111122223333"}
        assert server.requests[1].parameters["MaxNumberOfMessages"] == 3


@pytest.mark.parametrize("kind", [KinesisStream, DynamoDBStream, SqsQueue])
async def test_what_is_no_arn_is_refused_in_one_line(kind):
    async with aws_at("http://127.0.0.1:9") as aws:
        with pytest.raises(Denied, match=r"^'orders' is not an ARN: arn:PARTITION"):
            async with kind(arn="orders").open(aws, time.time):
                await anyio.lowlevel.checkpoint()
