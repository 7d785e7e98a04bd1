"""How AWS is reached: regions, endpoints, credentials, roles."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta

import pytest

from poller.aws.errors import translated
from poller.aws.session import AwsSettings, open_aws
from poller.model.errors import Denied, Transient
from tests.contract.reading import admitted, aws_at
from tests.servers.scripted import Reply, Request, answer, failure, in_turn, scripted

ROLE = "arn:aws:iam::111122223333:role/reader"


def assumed(expiration: str) -> Reply:
    """What STS says to AssumeRole."""
    return Reply(
        headers={"Content-Type": "text/xml"},
        body=f"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
        <Credentials><AccessKeyId>ASSUMED</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>
        <SessionToken>token</SessionToken><Expiration>{expiration}</Expiration></Credentials>
        <AssumedRoleUser><Arn>arn:aws:sts::111122223333:assumed-role/reader/poller</Arn>
        <AssumedRoleId>id</AssumedRoleId></AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>""".encode(),
    )


def signed_by(request: Request) -> str:
    """The access key of a request's signature."""
    return request.headers["authorization"].partition("Credential=")[2].partition("/")[0]


async def test_an_unknown_profile_is_refused_in_one_line():
    async with open_aws(AwsSettings(profile="nobody", region="eu-west-1")) as aws:
        with pytest.raises(Denied, match=r"^The config profile \(nobody\) could not be found: [^\n]*$"):
            await aws.client("sqs")


async def test_missing_credentials_are_refused_in_one_line():
    async with open_aws(AwsSettings(profile="penniless")) as aws:
        with pytest.raises(Denied, match=r"^no AWS credentials: [^\n]*$"):
            await aws.client("sqs")


@pytest.mark.parametrize("profile", ["chatty", "binary"])
async def test_a_program_for_credentials_that_says_something_else_is_refused_in_one_line(profile: str):
    async with open_aws(AwsSettings(profile=profile, region="eu-west-1")) as aws:
        with pytest.raises(Denied, match=r"^sqs open: what credential_process, [^\n]* says is no JSON: [^\n]*$"):
            await aws.client("sqs")


async def test_a_missing_region_is_refused_in_one_line():
    async with open_aws(AwsSettings()) as aws:
        with pytest.raises(Denied, match=r"^no AWS region for sqs: set aws\.region [^\n]*$"):
            await aws.client("sqs")


async def test_the_calls_of_a_region_are_refused_as_its_clients_are():
    async with open_aws(AwsSettings()) as aws:
        calls = await aws.calls()
        with pytest.raises(Denied, match="no AWS region for kinesis"):
            await calls.get_records("kinesis", "i", 1, admitted)


async def test_an_endpoint_that_is_no_address_is_refused_in_one_line():
    async with open_aws(AwsSettings(region="eu-west-1", endpoint_url="nonsense")) as aws:
        with pytest.raises(Denied, match=r"^aws: sqs cannot be reached: [^\n]*nonsense[^\n]*$"):
            await aws.client("sqs")


async def test_a_service_is_reached_at_its_own_endpoint_before_the_common_one():
    async with scripted(in_turn(answer({}))) as common, scripted(in_turn(answer({}))) as own:
        settings = AwsSettings(region="eu-west-1", endpoint_url=common.url, endpoints=(("lambda", own.url),))
        async with open_aws(settings) as aws:
            calls = await aws.calls()
            await calls.invoke("f", b"{}", timeout=5)
            await calls.delete_message_batch("http://q", ["r"])
        assert [request.path for request in own.requests] == ["/2015-03-31/functions/f/invocations"]
        assert common.operations() == ["DeleteMessageBatch"]


async def test_clients_and_calls_are_opened_once():
    async with open_aws(AwsSettings(region="eu-west-1")) as aws:
        assert await aws.client("sqs") is await aws.client("sqs")
        assert await aws.client("sqs") is not await aws.client("sqs", region="eu-west-2")
        assert await aws.client("sqs") is not await aws.client("sqs", role_arn=ROLE)
        assert await aws.calls() is await aws.calls()
        assert await aws.calls() is not await aws.calls(role_arn=ROLE)


async def test_a_request_is_signed_for_its_region_with_the_chains_credentials():
    async with scripted(in_turn(answer({}))) as server:
        async with open_aws(AwsSettings(region="us-east-1", endpoint_url=server.url)) as aws:
            await (await aws.calls(region="eu-central-1")).delete_message_batch("http://q", ["r"])
        assert signed_by(server.requests[0]) == "test"
        assert "/eu-central-1/sqs/aws4_request" in server.requests[0].headers["authorization"]
        assert server.requests[0].headers["user-agent"].startswith("poller/")


async def test_a_role_is_assumed_once_and_signs_calls_and_clients():
    def script(request: Request) -> Reply:
        return assumed("2999-01-01T00:00:00Z") if b"AssumeRole" in request.body else answer({"QueueUrl": "http://q"})

    async with scripted(script) as server:
        async with open_aws(AwsSettings(region="eu-west-1", endpoint_url=server.url)) as aws:
            await (await aws.calls(role_arn=ROLE)).delete_message_batch("http://q", ["r"])
            await (await aws.client("sqs", role_arn=ROLE)).get_queue_url(QueueName="q")
        assert [signed_by(request) for request in server.requests] == ["test", "ASSUMED", "ASSUMED"]
        assert b"RoleSessionName=poller" in server.requests[0].body
        assert server.requests[1].headers["x-amz-security-token"] == "token"


async def test_a_role_is_assumed_again_before_its_credentials_end():
    soon = (datetime.now(UTC) + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    roles = in_turn(assumed(soon), assumed("2999-01-01T00:00:00Z"))

    def script(request: Request) -> Reply | Awaitable[Reply]:
        return roles(request) if b"AssumeRole" in request.body else answer({})

    async with scripted(script) as server:
        async with open_aws(AwsSettings(region="eu-west-1", endpoint_url=server.url)) as aws:
            calls = await aws.calls(role_arn=ROLE)
            for _ in range(3):
                await calls.delete_message_batch("http://q", ["r"])
        assert sum(b"AssumeRole" in request.body for request in server.requests) == 2


async def test_a_role_that_may_not_be_assumed_is_refused_in_one_line():
    refusal = Reply(
        status=403,
        headers={"Content-Type": "text/xml"},
        body=b"<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not you</Message></Error>"
        b"<RequestId>r</RequestId></ErrorResponse>",
    )
    line = r"^sts AssumeRole: AccessDenied: not you \(the role or user needs sts:AssumeRole\)$"
    async with (
        scripted(in_turn(refusal)) as server,
        open_aws(AwsSettings(region="eu-west-1", endpoint_url=server.url)) as aws,
    ):
        calls = await aws.calls(role_arn=ROLE)
        with pytest.raises(Denied, match=line):
            await calls.get_records("kinesis", "i", 1, admitted)
        with pytest.raises(Denied, match=line):
            await calls.invoke("f", b"{}", timeout=5)


@pytest.mark.parametrize("client", ["fast", "botocore"])
async def test_credentials_that_have_ended_before_they_come_are_refused_in_one_line(client):
    """By our clock: it may be hours off, or somebody hands out old ones."""

    def script(request: Request) -> Reply:
        return assumed("2000-01-01T00:00:00Z") if b"AssumeRole" in request.body else answer({})

    line = (
        r"^\w+ \w+: the AWS credentials were renewed and have expired all the same \(is this machine's clock right\?\)$"
    )
    async with scripted(script) as server, aws_at(server.url, client) as aws:
        calls = await aws.calls(role_arn=ROLE)
        with pytest.raises(Denied, match=line):
            await calls.get_records("kinesis", "i", 1, admitted)
        with pytest.raises(Denied, match=line):
            await calls.delete_message_batch("http://q", ["r"])
        with pytest.raises(Denied, match=line):
            await calls.invoke("f", b"{}", timeout=5)
        with pytest.raises(Denied, match=line), translated("sqs", "GetQueueUrl"):
            await (await aws.client("sqs", role_arn=ROLE)).get_queue_url(QueueName="q")


async def test_a_client_tries_again_what_passes_by_itself():
    replies = in_turn(failure("InternalFailure", status=500), answer({"QueueUrl": "http://q"}))
    async with scripted(replies) as server:
        async with open_aws(AwsSettings(region="eu-west-1", endpoint_url=server.url)) as aws:
            with translated("sqs", "GetQueueUrl"):
                found = await (await aws.client("sqs")).get_queue_url(QueueName="q")
        assert found["QueueUrl"] == "http://q"
        assert len(server.requests) == 2


async def test_a_client_that_fails_for_long_fails_in_our_words():
    async with (
        scripted(in_turn(Reply(hang_up=True))) as server,
        open_aws(AwsSettings(region="eu-west-1", endpoint_url=server.url)) as aws,
    ):
        client = await aws.client("sqs")
        with pytest.raises(Transient, match="sqs GetQueueUrl"), translated("sqs", "GetQueueUrl"):
            await client.get_queue_url(QueueName="q")
