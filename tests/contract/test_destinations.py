"""On-failure destinations on a real server: what was sent is there, byte for byte, and what is missing is told."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from poller.aws.session import Aws, AwsSettings, open_aws
from poller.destinations import DestinationSettings
from poller.destinations.s3 import S3Destination, object_of
from poller.destinations.sns import SnsDestination
from poller.destinations.sqs import SqsDestination
from poller.mapping.document import account_of
from poller.model.account import Account
from poller.model.errors import Denied, NotFound, Transient
from poller.model.outcome import Failed
from poller.model.ports import Destination
from poller.model.record import Record, event_of
from poller.service.check import connect
from tests.contract.reading import REGION, aws_at
from tests.servers.scripted import Reply, Request, failure, in_turn, scripted
from tests.unit.settings_file import KINESIS, mapping, settings

ACCOUNT = "000000000000"
RECORDS = (
    Record(id="1", body='{"data":"grüße 🙂 \\u0000 \\" \\\\ \\ud83d"}'.encode(), arrived=1_573_691_886.021),
    Record(id="2", body=b'{"data":"</a>&\\n"}', arrived=1_573_691_887.0),
)
NOWHERE: tuple[DestinationSettings, ...] = (
    SqsDestination(arn=f"arn:aws:sqs:{REGION}:{ACCOUNT}:nowhere"),
    SnsDestination(arn=f"arn:aws:sns:{REGION}:{ACCOUNT}:nowhere"),
    S3Destination(arn="arn:aws:s3:::nowhere-at-all"),
)
SNS_REFUSES = Reply(
    status=403,
    headers={"Content-Type": "text/xml"},
    body=b"<ErrorResponse><Error><Type>Sender</Type><Code>AuthorizationError</Code><Message>no</Message></Error>"
    b"<RequestId>scripted</RequestId></ErrorResponse>",
)
_names = count()


def made_account(records: tuple[Record, ...] = RECORDS) -> Account:
    return account_of(
        records,
        condition="RetryAttemptsExhausted",
        outcome=Failed(reason="boom"),
        invoke_count=2,
        request_id=str(uuid.uuid4()),
        function="orders",
        source_arn=KINESIS,
        uuid=str(uuid.uuid4()),
        shard="shardId-000000000000",
        now=1_573_691_889.0,
        random_id=str(uuid.uuid4()),
        family="kinesis",
    )


def kind(value: DestinationSettings) -> str:
    return value.arn.split(":")[2]


@dataclass(frozen=True, kw_only=True)
class Place:
    """A server, and the SDK's clients to look at what arrived."""

    url: str
    aws: Aws

    async def client(self, service: Any) -> Any:
        return await self.aws.client(service, region=REGION)

    async def queue(self) -> tuple[str, str]:
        """The URL and the ARN of a new queue."""
        client = await self.client("sqs")
        url = (await client.create_queue(QueueName=f"failed-{next(_names)}"))["QueueUrl"]
        answer = await client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return url, answer["Attributes"]["QueueArn"]

    async def topic(self) -> str:
        """The ARN of a new topic."""
        arn: str = (await (await self.client("sns")).create_topic(Name=f"failed-{next(_names)}"))["TopicArn"]
        return arn

    async def bucket(self) -> str:
        """The name of a new bucket."""
        name = f"failed-{next(_names)}"
        place = {"LocationConstraint": REGION}
        await (await self.client("s3")).create_bucket(Bucket=name, CreateBucketConfiguration=place)
        return name

    async def message(self, url: str) -> dict[str, Any]:
        """The one message of a queue."""
        client = await self.client("sqs")
        answer = await client.receive_message(
            QueueUrl=url, WaitTimeSeconds=5, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        )
        (message,) = answer["Messages"]
        found: dict[str, Any] = message
        return found

    def open(self, destination: DestinationSettings) -> AbstractAsyncContextManager[Destination]:
        return destination.open(self.aws)

    async def made(self, destination: DestinationSettings) -> DestinationSettings:
        """A destination of the same kind that exists."""
        match destination:
            case SqsDestination():
                return replace(destination, arn=(await self.queue())[1])
            case SnsDestination():
                return replace(destination, arn=await self.topic())
            case S3Destination():
                return replace(destination, arn=f"arn:aws:s3:::{await self.bucket()}")


@pytest.fixture
async def place(ministack) -> AsyncIterator[Place]:
    async with aws_at(ministack.url) as aws:
        yield Place(url=ministack.url, aws=aws)


async def test_a_queue_holds_the_document_byte_for_byte_and_nothing_else(place: Place):
    url, arn = await place.queue()
    account = made_account()
    async with place.open(SqsDestination(arn=arn)) as destination:
        await destination.send(account)
    message = await place.message(url)
    assert message["Body"].encode() == account.document
    assert "MessageAttributes" not in message


async def test_a_topic_hands_on_the_document_byte_for_byte_and_nothing_else(place: Place):
    url, queue_arn = await place.queue()
    arn = await place.topic()
    await (await place.client("sns")).subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn)
    account = made_account()
    async with place.open(SnsDestination(arn=arn)) as destination:
        await destination.send(account)
    envelope = json.loads((await place.message(url))["Body"])
    assert envelope["Message"].encode() == account.document
    assert envelope["TopicArn"] == arn
    assert not envelope.get("Subject")
    assert not envelope.get("MessageAttributes")


async def test_a_bucket_holds_the_document_and_the_event_as_text(place: Place):
    bucket = await place.bucket()
    account = made_account()
    async with place.open(S3Destination(arn=f"arn:aws:s3:::{bucket}")) as destination:
        await destination.send(account)
    client = await place.client("s3")
    (listed,) = (await client.list_objects_v2(Bucket=bucket))["Contents"]
    assert listed["Key"] == f"aws/lambda/{account.name}"
    answer = await client.get_object(Bucket=bucket, Key=listed["Key"])
    body = await answer["Body"].read()
    assert body == object_of(account)
    found = json.loads(body)
    assert list(found)[-1] == "payload"
    assert found.pop("payload").encode() == event_of(RECORDS)
    assert found == json.loads(account.document)


async def test_an_object_is_called_a_stream_of_octets(moto):
    # ministack says so of every object; moto, like S3, only when it is told.
    async with aws_at(moto.url) as aws:
        place = Place(url=moto.url, aws=aws)
        bucket, account = await place.bucket(), made_account()
        async with place.open(S3Destination(arn=f"arn:aws:s3:::{bucket}")) as destination:
            await destination.send(account)
        answer = await (await place.client("s3")).head_object(Bucket=bucket, Key=f"aws/lambda/{account.name}")
    assert answer["ContentType"] == "application/octet-stream"


async def test_a_bucket_takes_the_largest_event(place: Place):
    bucket = await place.bucket()
    account = made_account((Record(id="1", body=b'{"data":"' + b"a" * 6_200_000 + b'"}', arrived=0.0),))
    async with place.open(S3Destination(arn=f"arn:aws:s3:::{bucket}")) as destination:
        await destination.send(account)
    answer = await (await place.client("s3")).get_object(Bucket=bucket, Key=f"aws/lambda/{account.name}")
    assert json.loads(await answer["Body"].read())["payload"].encode() == account.event


def test_a_payload_that_is_no_text_is_still_told():
    account = replace(made_account(), event=b'{"Records":[{"data":"\xff"}]}')
    assert json.loads(object_of(account))["payload"] == '{"Records":[{"data":"\ufffd"}]}'


@pytest.mark.parametrize("nowhere", NOWHERE, ids=kind)
async def test_what_exists_passes_the_check(place: Place, nowhere: DestinationSettings):
    async with place.open(await place.made(nowhere)) as destination:
        await destination.check()


async def test_a_check_sends_nothing(place: Place):
    url, arn = await place.queue()
    async with place.open(SqsDestination(arn=arn)) as destination:
        await destination.check()
    answer = await (await place.client("sqs")).receive_message(QueueUrl=url)
    assert not answer.get("Messages")


@pytest.mark.parametrize("nowhere", NOWHERE, ids=kind)
async def test_what_is_missing_is_not_found_in_one_line(place: Place, nowhere: DestinationSettings):
    async with place.open(nowhere) as destination:
        with pytest.raises(NotFound, match=r"^[^\n]*check the name, region and account[^\n]*$"):
            await destination.check()
        with pytest.raises(NotFound, match=r"^[^\n]*check the name, region and account[^\n]*$"):
            await destination.send(made_account())


@pytest.mark.parametrize("nowhere", NOWHERE, ids=kind)
async def test_a_server_that_cannot_be_reached_is_transient(nowhere: DestinationSettings):
    async with aws_at("http://127.0.0.1:1") as aws, nowhere.open(aws) as destination:
        with pytest.raises(Transient, match=r"^[^\n]*127\.0\.0\.1:1[^\n]*$"):
            await destination.send(made_account())


@pytest.mark.parametrize(
    ("destination", "reply", "permission"),
    [
        (NOWHERE[0], failure("com.amazonaws.sqs#AccessDeniedException", status=403), "sqs:SendMessage"),
        (NOWHERE[1], SNS_REFUSES, "sns:Publish"),
    ],
    ids=["sqs", "sns"],
)
async def test_a_refusal_names_the_permission_that_is_missing(
    destination: DestinationSettings, reply: Reply, permission: str
):
    async with scripted(in_turn(reply)) as server, aws_at(server.url) as aws, destination.open(aws) as opened:
        with pytest.raises(Denied, match=rf"^[^\n]*needs {permission}\)$"):
            await opened.send(made_account())


async def test_a_bucket_that_may_not_be_seen_names_the_permission_that_is_missing():
    forbidden = Reply(status=403, body=b"", headers={"Content-Type": "application/xml"})
    async with scripted(in_turn(forbidden)) as server, aws_at(server.url) as aws, NOWHERE[2].open(aws) as opened:
        with pytest.raises(Denied, match=r"^s3 HeadBucket: [^\n]*needs s3:ListBucket\)$"):
            await opened.check()


async def test_a_queue_and_a_topic_are_reached_in_the_region_of_their_arn(place: Place):
    async with open_aws(AwsSettings(region="us-west-2", endpoint_url=place.url)) as elsewhere:
        url, arn = await place.queue()
        async with SqsDestination(arn=arn).open(elsewhere) as destination:
            await destination.send(made_account())
        assert await place.message(url)
        async with SnsDestination(arn=await place.topic()).open(elsewhere) as destination:
            await destination.check()


@pytest.mark.parametrize("nowhere", NOWHERE, ids=kind)
async def test_a_destination_is_written_to_as_its_role(place: Place, nowhere: DestinationSettings):
    role = "arn:aws:iam::111122223333:role/write-failed"
    destination = replace(await place.made(nowhere), role_arn=role)
    async with place.open(destination) as opened:
        await opened.check()
        await opened.send(made_account())
    assert await caller_of(destination, place.url) == "arn:aws:sts::111122223333:assumed-role/write-failed/poller"


async def caller_of(destination: DestinationSettings, sts: str) -> str:
    """Who STS says that it is whose key signs what is sent to a destination."""
    async with scripted(lambda asked: replace(SNS_REFUSES, sent=0 if asked.method == "HEAD" else None)) as server:
        settings = AwsSettings(region=REGION, endpoint_url=server.url, endpoints=(("sts", sts),))
        async with open_aws(settings) as aws, destination.open(aws) as opened:
            with pytest.raises(Denied):
                await opened.check()  # PutObject waits for a 100 Continue first
    key = server.requests[0].headers["authorization"].partition("Credential=")[2].partition("/")[0]
    question = {"Action": "GetCallerIdentity", "Version": "2011-06-15"}
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={key}/20261121/{REGION}/sts/aws4_request"}
    async with aiohttp.ClientSession() as session, session.post(sts, data=question, headers=headers) as reply:
        return (await reply.text()).partition("<Arn>")[2].partition("</Arn>")[0]


@pytest.mark.parametrize("nowhere", NOWHERE, ids=kind)
async def test_a_role_that_may_not_be_assumed_writes_nothing(place: Place, nowhere: DestinationSettings):
    async with place.open(replace(await place.made(nowhere), role_arn="arn:aws:iam::0:role/r")) as destination:
        with pytest.raises(Denied, match=r"^sts AssumeRole: ValidationError: Invalid RoleArn: arn:aws:iam::0:role/r$"):
            await destination.send(made_account())


async def test_a_bucket_is_followed_to_its_own_region():
    def s3(request: Request) -> Reply:
        at_home = "/us-west-2/s3/" in request.headers["authorization"]
        moved = {"Content-Type": "application/xml", "x-amz-bucket-region": "us-west-2"}
        return Reply(body=b"") if at_home else Reply(status=301, body=b"", headers=moved)

    async with scripted(s3) as server, aws_at(server.url) as aws, NOWHERE[2].open(aws) as opened:
        await opened.check()
        assert [request.path for request in server.requests] == ["/nowhere-at-all", "/nowhere-at-all"]


@pytest.mark.parametrize("nowhere", NOWHERE, ids=kind)
async def test_check_with_connect_asks_the_destination_too(tmp_path: Path, place: Place, nowhere: DestinationSettings):
    async def lines(arn: str) -> list[str]:
        text = mapping(KINESIS, f"DestinationConfig: {{OnFailure: {{Destination: '{arn}'}}}}")
        text += f"aws: {{region: {REGION}, endpoint_url: '{place.url}'}}\n"
        found = [line async for line in connect(settings(tmp_path, text))]
        return [line for line in found if "Destination" in line]

    (line,) = await lines(nowhere.arn)
    assert line.startswith("mappings.m.DestinationConfig.OnFailure.Destination: ")
    assert "check the name, region and account" in line
    assert await lines((await place.made(nowhere)).arn) == []
