"""`poller check --connect` asks the store, too, and writes nothing."""

import time
from pathlib import Path

import pytest

from poller.service.check import connect
from poller.settings import load
from tests.contract.stores import EVERY, FAR, address_of, dynamo_address, opened, port_of, through
from tests.servers.processes import Server
from tests.servers.proxy import proxy


async def _said(folder: Path, address: str, ministack: Server) -> list[str]:
    """What is said of the store; the mapping beside it leads nowhere."""
    path = folder / "poller.yaml"
    path.write_text(
        f"aws: {{region: eu-west-1, endpoint_url: '{ministack.url}'}}\nstore: '{address}'\n"
        "functions: {f: {url: 'http://127.0.0.1:9/'}}\n"
        "mappings: {m: {EventSourceArn: 'arn:aws:sqs:eu-west-1:123456789012:none', FunctionName: f}}\n"
    )
    lines = connect(load(path, {}, now=time.time()))
    return [line async for line in lines if line.startswith("store")]


@pytest.mark.parametrize("kind", EVERY)
async def test_a_store_that_may_be_used_is_not_spoken_of_and_holds_nothing_new(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, ministack: Server
):
    address = await address_of(kind, request, tmp_path)
    assert await _said(tmp_path, address, ministack) == []
    async with opened(address) as store:
        assert [key async for key, _ in store.scan("@check/")] == []


@pytest.mark.parametrize("kind", FAR)
async def test_a_store_that_cannot_be_reached_is_told(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, ministack: Server
):
    real = port_of(kind, request)
    async with proxy(real) as between:
        await between.down()
        (line,) = await _said(
            tmp_path, through(await address_of(kind, request, tmp_path), between.port, real), ministack
        )
    assert line.startswith("store: ")
    assert "\n" not in line


async def test_a_table_that_is_not_there_is_told(ministack: Server, tmp_path: Path):
    (line,) = await _said(tmp_path, dynamo_address(ministack, "none", more=""), ministack)
    assert line.startswith("store: there is no DynamoDB table none: make it with deploy/dynamodb/table.yaml")
