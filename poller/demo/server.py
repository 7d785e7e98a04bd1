"""The demo's AWS: a moto server in a child process on loopback, and what the demo needs in it."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
from anyio.abc import Process

from poller.aws.session import Aws, AwsSettings, open_aws
from poller.model.errors import SettingsError

STREAM, TABLE, QUEUE = "demo-orders", "demo-table", "demo-mail"
REGION = "eu-west-1"
_STARTING = 60.0
"""Seconds that the server may take to answer."""
_LEAVING = 5.0

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo", "AWS_EC2_METADATA_DISABLED": "true"}
"""Not secret: the server takes any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What was created."""

    stream_arn: str
    """Of the table's stream."""
    queue_url: str


def free_port(wanted: int = 0) -> int:
    """A loopback port nobody listens on: the wanted one if it is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return free_port()
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def server(environ: Mapping[str, str]) -> AsyncIterator[str]:
    """Start the server and answer its address; it ends with the context.

    Raises:
        SettingsError: it is not installed, or does not start.
    """
    for module in ("moto", "flask", "awslambdaric"):
        if importlib.util.find_spec(module) is None:
            raise SettingsError(f"demo: the package {module} is missing; install it with: pip install 'poller[demo]'")
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    async with child(command, environ, stderr=subprocess.DEVNULL) as process:
        with anyio.move_on_after(_STARTING):
            while process.returncode is None and not await _answers(port):
                await anyio.sleep(0.1)
        if process.returncode is not None or not await _answers(port):
            raise SettingsError(f"demo: the local server did not start: {' '.join(command)}")
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def child(command: list[str], environ: Mapping[str, str], *, stderr: int) -> AsyncIterator[Process]:
    """A process in a session of its own, so that Ctrl-C reaches only us; ended with the context, killed if need be."""
    async with await anyio.open_process(
        command,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    process.terminate()
                with anyio.move_on_after(_LEAVING):
                    await process.wait()
                if process.returncode is None:
                    process.kill()


async def _answers(port: int) -> bool:
    try:
        async with await anyio.connect_tcp("127.0.0.1", port):
            return True
    except OSError:
        return False


@asynccontextmanager
async def aws_at(address: str) -> AsyncIterator[Aws]:
    """The demo's own access to the server."""
    async with open_aws(AwsSettings(region=REGION, endpoint_url=address)) as aws:
        yield aws


async def create(aws: Aws) -> Resources:
    """Create a stream of two shards, a table with a stream, and a queue."""
    kinesis, dynamodb, sqs = await aws.client("kinesis"), await aws.client("dynamodb"), await aws.client("sqs")
    await kinesis.create_stream(StreamName=STREAM, ShardCount=2)
    made = await dynamodb.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    queue = await sqs.create_queue(QueueName=QUEUE)
    return Resources(stream_arn=made["TableDescription"]["LatestStreamArn"], queue_url=queue["QueueUrl"])


async def put(aws: Aws, resources: Resources, mapping: str, record_id: str) -> None:
    """Produce one record for a mapping."""
    text = json.dumps({"id": record_id, "text": "hello"})
    if mapping == STREAM:
        kinesis = await aws.client("kinesis")
        await kinesis.put_record(StreamName=STREAM, PartitionKey=record_id, Data=text.encode())
    elif mapping == TABLE:
        dynamodb = await aws.client("dynamodb")
        await dynamodb.put_item(TableName=TABLE, Item={"id": {"S": record_id}, "text": {"S": "hello"}})
    else:
        sqs = await aws.client("sqs")
        await sqs.send_message(QueueUrl=resources.queue_url, MessageBody=text)
