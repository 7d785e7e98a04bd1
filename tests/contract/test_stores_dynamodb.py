"""The store in a table: how it is made and found, what is sent, and the parts of large values."""

import os
import re
import uuid
from math import inf
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml

from poller.aws.session import AwsSettings, open_aws
from poller.model.errors import SettingsError, Superseded, Throttled, Transient
from poller.stores.dynamodb_table import KEY_SCHEMA
from tests.contract.stores import dynamo_address, opened, patiently
from tests.servers.processes import Server
from tests.servers.proxy import proxy
from tests.servers.scripted import Request, answer, failure, scripted

DEPLOY = Path(__file__).parent.parent.parent / "deploy" / "dynamodb"
ACTIVE = answer(
    {"Table": {"TableStatus": "ACTIVE", "KeySchema": [{"AttributeName": n, "KeyType": k} for n, k in KEY_SCHEMA]}}
)


@pytest.fixture(params=["ministack", "dynalite"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


async def _call(server: Server, method: str, **parameters: Any) -> Any:
    """A call of the table's owner."""
    async with open_aws(AwsSettings(region="eu-west-1", endpoint_url=server.url)) as aws:
        return await getattr(await aws.client("dynamodb"), method)(**parameters)


async def test_a_missing_table_is_one_clear_line_that_names_the_templates(server: Server):
    with pytest.raises(
        SettingsError, match=r"there is no DynamoDB table none: make it with deploy/dynamodb/table\.yaml"
    ):
        async with opened(dynamo_address(server, "none", more="")):
            pass


async def test_a_table_of_somebody_else_is_refused(server: Server):
    table = f"other-{uuid.uuid4().hex}"
    await _call(
        server,
        "create_table",
        TableName=table,
        KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    with pytest.raises(SettingsError, match=r"belongs to something else: its key is leaseKey \(HASH\), needed: folder"):
        async with opened(dynamo_address(server, table)):
            pass


async def test_replicas_that_start_together_make_one_table_that_is_paid_per_request(server: Server):
    address = dynamo_address(server)
    async with anyio.create_task_group() as tasks:

        async def start(number: int) -> None:
            async with opened(address) as store:
                await store.put(f"a/{number}", b"x", 0)

        for number in range(3):
            tasks.start_soon(start, number)
    table = address.removeprefix("dynamodb://").partition("?")[0]
    made = (await _call(server, "describe_table", TableName=table))["Table"]
    assert tuple((each["AttributeName"], each["KeyType"]) for each in made["KeySchema"]) == KEY_SCHEMA
    assert made["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    async with opened(address) as store:
        assert [key async for key, _ in store.scan("a/")] == ["a/0", "a/1", "a/2"]


def test_the_templates_make_the_table_that_the_code_makes():
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda loader, suffix, node: suffix)
    resources = yaml.load((DEPLOY / "table.yaml").read_text(), Loader)["Resources"]
    table = resources["Table"]["Properties"]
    assert tuple((each["AttributeName"], each["KeyType"]) for each in table["KeySchema"]) == KEY_SCHEMA
    assert {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]} == {
        name: "S" for name, _ in KEY_SCHEMA
    }
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    terraform = " ".join((DEPLOY / "table.tf").read_text().split())
    (hash_key, _), (range_key, _) = KEY_SCHEMA
    for needed in (
        f'hash_key = "{hash_key}"',
        f'range_key = "{range_key}"',
        *(f'attribute {{ name = "{name}" type = "S" }}' for name, _ in KEY_SCHEMA),
        'billing_mode = "PAY_PER_REQUEST"',
    ):
        assert needed in terraform


async def test_the_templates_allow_what_is_sent_and_nothing_else(ministack: Server):
    port = int(ministack.url.rpartition(":")[2])
    async with proxy(port) as between:
        async with opened(dynamo_address(ministack)) as ready:
            await ready.put("a/1", b"x", 0)
        async with opened(dynamo_address(between.port)) as store:
            await store.put("a/large", os.urandom(500_000), 0)
            await store.put("a/large", b"", 1)
            await store.get("a/large")
            await store.delete("a/large", 2)
            assert [row async for row in store.scan("a/")] == []
        sent = {f"dynamodb:{operation}" for operation in between.operations} - {"dynamodb:CreateTable"}
    for template in ("table.yaml", "table.tf"):
        assert set(re.findall(r"dynamodb:[A-Z]\w+", (DEPLOY / template).read_text())) == sent, template


async def test_an_answer_that_was_lost_costs_no_read_where_the_server_says_what_it_found(ministack: Server):
    port = int(ministack.url.rpartition(":")[2])
    async with proxy(port) as between, opened(dynamo_address(between.port)) as store:
        await store.put("a/1", b"one", 0)
        between.operations.clear()
        between.answers_to_lose = 1
        assert await store.put("a/1", b"two", 1) == 2
        assert between.operations == ["PutItem", "PutItem"]


async def test_parts_that_a_broken_write_left_behind_are_removed_by_the_next_large_one(server: Server):
    address = dynamo_address(server)
    table = address.removeprefix("dynamodb://").partition("?")[0]
    port = int(server.url.rpartition(":")[2])
    large = os.urandom(900_000)
    async with proxy(port) as between:
        through = address.replace(f":{port}", f":{between.port}")
        async with opened(through) as broken, opened(address) as store:
            await store.put("m/row", b"small", 0)
            await broken.get("m/row")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_fails, broken, large)
                while between.operations.count("PutItem") < 2:
                    await anyio.sleep(0.001)
                await between.down()
            assert await store.get("m/row") == (b"small", 1)
            assert await store.put("m/row", large[::-1], 1) == 2
            assert await _parts(server, table) == 3
            await between.up()
            with pytest.raises(Superseded):
                await patiently(lambda: broken.put("m/row", large, 1))
            assert await store.get("m/row") == (large[::-1], 2)
            assert await store.put("m/row", b"small", 2) == 3
            assert await _parts(server, table) == 0


async def test_who_cleans_up_after_a_write_leaves_the_parts_of_the_next_write_alone(ministack: Server):
    address = dynamo_address(ministack)
    port = int(ministack.url.rpartition(":")[2])
    mine, others = os.urandom(900_000), os.urandom(900_000)
    async with proxy(port) as before_me, proxy(port) as before_other:
        through = [address.replace(f":{port}", f":{each.port}") for each in (before_me, before_other)]
        async with opened(through[0]) as me, opened(through[1]) as other, anyio.create_task_group() as tasks:
            before_me.most = len(before_me.operations) + 4  # three parts and the row, but not the cleaning
            tasks.start_soon(me.put, "m/row", mine, 0)
            while await other.get("m/row") is None:
                await anyio.sleep(0.01)
            before_other.most = len(before_other.operations) + 3  # the parts, but not the row
            tasks.start_soon(patiently, lambda: other.put("m/row", others, 1))
            while len(before_other.operations) < before_other.most:
                await anyio.sleep(0.01)
            before_me.most = inf
            while before_me.operations[-1] != "Query":
                await anyio.sleep(0.01)
            await anyio.sleep(0.1)
            before_other.most = inf
        async with opened(address) as store:
            assert await store.get("m/row") == (others, 2)


async def _fails(store: Any, value: bytes) -> None:
    with pytest.raises(Transient):
        await store.put("m/row", value, 1)


async def _parts(server: Server, table: str) -> int:
    """How many parts of the row the table holds."""
    count: int = (
        await _call(
            server,
            "query",
            TableName=table,
            KeyConditionExpression="folder = :f",
            ExpressionAttributeValues={":f": {"S": "m/row"}},
            ProjectionExpression="rest",
        )
    )["Count"]
    return count


async def test_a_throttled_write_asks_for_a_pause_and_is_not_repeated_at_once():
    def script(request: Request) -> Any:
        throttled = failure("ProvisionedThroughputExceededException")
        return ACTIVE if request.operation == "DescribeTable" else throttled

    async with scripted(script) as server:
        async with opened(f"dynamodb://table?endpoint_url={server.url}") as store:
            with pytest.raises(Throttled):
                await store.put("a/1", b"x", 0)
        assert server.operations().count("PutItem") == 1


async def test_a_beat_does_not_wait_behind_checkpoints_that_hang():
    hanging, released = anyio.Event(), anyio.Event()

    async def script(request: Request) -> Any:
        if request.operation == "DescribeTable":
            return ACTIVE
        if request.parameters["Item"]["folder"]["S"] != "@members":
            hanging.set()
            await released.wait()
        return answer({})

    async with (
        scripted(script) as server,
        opened(f"dynamodb://table?endpoint_url={server.url}") as store,
        anyio.create_task_group() as tasks,
    ):
        for row in range(100):
            tasks.start_soon(patiently, lambda row=row: store.put(f"m/{row}", b"x", 0))
        await hanging.wait()
        assert await store.put("@members/1", b"beat", 0) == 1
        assert not released.is_set()
        released.set()


async def test_a_read_asks_for_what_is_acknowledged():
    def script(request: Request) -> Any:
        return ACTIVE if request.operation == "DescribeTable" else answer({"Items": [], "Count": 0})

    async with scripted(script) as server:
        async with opened(f"dynamodb://table?endpoint_url={server.url}") as store:
            await store.get("a/1")
            assert [row async for row in store.scan("a/")] == []
        reads = [each.parameters for each in server.requests if each.operation in {"GetItem", "Query"}]
    assert [read["ConsistentRead"] for read in reads] == [True, True]
