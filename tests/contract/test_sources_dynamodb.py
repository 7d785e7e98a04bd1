"""DynamoDB Streams as a source, on a real server with one shard a stream."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from poller.model.errors import NotFound
from poller.model.ports import Source
from poller.model.record import After, At, Cursor, TrimHorizon, event_of
from poller.sources.dynamodb import DynamoDBStream
from tests.contract.reading import REGION, Admissions, admitted, aws_at, read_all, records_of

FROM_START = Cursor(position=TrimHorizon())
_names = count()


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with a stream on a server: the source under test, and the SDK's client to write to the table."""

    name: str
    arn: str
    shard: str
    source: Source
    client: Any

    async def put(self, key: str, **attributes: Mapping[str, Any]) -> None:
        await self.client.put_item(TableName=self.name, Item={"id": {"S": key}, **attributes})


@asynccontextmanager
async def table_on(url: str, view: str = "NEW_AND_OLD_IMAGES") -> AsyncIterator[Table]:
    async with aws_at(url) as aws:
        client = await aws.client("dynamodb", region=REGION)
        name = f"table-{next(_names)}"
        answer = await client.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": view},
        )
        arn = answer["TableDescription"]["LatestStreamArn"]
        async with DynamoDBStream(arn=arn).open(aws, time.time) as source:
            (shard,) = (await source.topology()).partitions
            yield Table(name=name, arn=arn, shard=shard.id, source=source, client=client)


@pytest.fixture
def url(ministack) -> str:
    return str(ministack.url)


async def test_a_stream_lists_its_shard(url):
    async with table_on(url) as table:
        topology = await table.source.topology()
        assert [(shard.parents, shard.closed) for shard in topology.partitions] == [((), False)]
        assert topology.retention == 86_400.0
        assert topology.identity
        assert topology == await table.source.topology()


async def test_changes_arrive_in_order_as_lambda_shows_them(url):
    async with table_on(url) as table:
        await table.put("a", text={"S": "grüße"})
        await table.put("a", text={"S": ""})
        await table.client.delete_item(TableName=table.name, Key={"id": {"S": "a"}})
        records = records_of(await read_all(table.source, table.shard, FROM_START, wanted=3))
        elements = json.loads(event_of(records))["Records"]
        assert [element["eventName"] for element in elements] == ["INSERT", "MODIFY", "REMOVE"]
        old, new = {"id": {"S": "a"}, "text": {"S": "grüße"}}, {"id": {"S": "a"}, "text": {"S": ""}}
        assert [element["dynamodb"].get("OldImage") for element in elements] == [None, old, new]
        assert [element["dynamodb"].get("NewImage") for element in elements] == [old, new, None]
        for element, record in zip(elements, records, strict=True):
            assert set(element) == {
                "eventID",
                "eventName",
                "eventVersion",
                "eventSource",
                "awsRegion",
                "eventSourceARN",
                "dynamodb",
            }
            assert (element["eventVersion"], element["eventSource"]) == ("1.1", "aws:dynamodb")
            assert (element["awsRegion"], element["eventSourceARN"]) == (REGION, table.arn)
            change = element["dynamodb"]
            assert (change["SequenceNumber"], change["StreamViewType"]) == (record.id, "NEW_AND_OLD_IMAGES")
            assert isinstance(change["ApproximateCreationDateTime"], float)
            assert change["ApproximateCreationDateTime"] == record.arrived
            assert isinstance(change["SizeBytes"], int)
            assert change["Keys"] == {"id": {"S": "a"}}
            assert record.key == '{"id":{"S":"a"}}'


async def test_every_type_of_attribute_travels(url):
    values: dict[str, dict[str, Any]] = {
        "n": {"N": "123456789012345678901234567890.5"},
        "b": {"B": b"\x00\xff"},
        "t": {"BOOL": True},
        "nothing": {"NULL": True},
        "ss": {"SS": ["x", "y"]},
        "ns": {"NS": ["1", "2"]},
        "bs": {"BS": [b"\x00"]},
        "l": {"L": [{"S": "x"}, {"N": "1"}]},
        "m": {"M": {"k": {"S": '"\\'}}},
    }
    async with table_on(url) as table:
        await table.put("a", **values)
        records = records_of(await read_all(table.source, table.shard, FROM_START, wanted=1))
        image = json.loads(event_of(records))["Records"][0]["dynamodb"]["NewImage"]
        for name in ("n", "t", "nothing", "l", "m"):
            assert image[name] == values[name]
        assert base64.b64decode(image["b"]["B"]) == b"\x00\xff"
        assert [base64.b64decode(value) for value in image["bs"]["BS"]] == [b"\x00"]
        assert sorted(image["ss"]["SS"]) == ["x", "y"]
        assert sorted(image["ns"]["NS"]) == ["1", "2"]


async def test_a_stream_of_keys_has_no_images(url):
    async with table_on(url, view="KEYS_ONLY") as table:
        await table.put("a", text={"S": "x"})
        records = records_of(await read_all(table.source, table.shard, FROM_START, wanted=1))
        change = json.loads(event_of(records))["Records"][0]["dynamodb"]
        assert "NewImage" not in change
        assert "OldImage" not in change


async def test_reading_goes_on_where_the_last_page_ended_or_a_position_was_stored(url):
    async with table_on(url) as table:
        for number in range(5):
            await table.put(str(number))
        admissions = Admissions()
        page = await table.source.read(table.shard, FROM_START, 2, admissions)
        assert page.full
        assert len(admissions.sizes) == 1
        assert page.cursor is not None
        assert page.cursor.position == After(page.records[-1].id)
        onward = records_of(await read_all(table.source, table.shard, page.cursor, wanted=3))
        stored = records_of(await read_all(table.source, table.shard, Cursor(position=page.cursor.position), wanted=3))
        assert onward == stored
        assert [record.key for record in stored] == [f'{{"id":{{"S":"{number}"}}}}' for number in (2, 3, 4)]


async def test_latest_begins_with_the_next_change_and_is_found_again(url):
    async with table_on(url) as table:
        cursor = await table.source.latest(table.shard)
        assert isinstance(cursor.position, At)
        assert cursor.position.time <= time.time()
        await table.put("a")
        direct = records_of(await read_all(table.source, table.shard, cursor, wanted=1))
        again = records_of(await read_all(table.source, table.shard, Cursor(position=cursor.position), wanted=1))
        assert direct == again
        assert len(direct) == 1


async def test_a_moment_leaves_out_what_came_before_it(url):
    async with table_on(url) as table:
        await table.put("a")
        page = await table.source.read(table.shard, Cursor(position=At(time.time() + 60)), 10, admitted)
        assert page.records == ()
        assert page.cursor is not None
        assert isinstance(page.cursor.position, At)


async def test_a_stream_that_may_be_read_passes_the_check(url):
    async with table_on(url) as table:
        await table.source.check()


async def test_a_stream_that_is_not_there_is_not_found(url):
    arn = f"arn:aws:dynamodb:{REGION}:000000000000:table/nowhere/stream/2026-01-01T00:00:00.000"
    async with aws_at(url) as aws, DynamoDBStream(arn=arn).open(aws, time.time) as source:
        for ask in (source.check, source.topology):
            with pytest.raises(NotFound, match="check the name, region and account"):
                await ask()
