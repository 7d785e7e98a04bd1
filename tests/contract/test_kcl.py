"""`poller import-kcl` on real servers: what it refuses, and what it leaves untouched then."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from poller.aws.session import AwsSettings, open_aws
from poller.cli import main
from poller.mapping.kcl.back import Write
from poller.mapping.kcl.leases import Mark, new_item
from poller.mapping.row import ShardRow, decode_mapping, decode_shard
from poller.model.errors import Denied, SettingsError, Superseded, causes
from poller.model.record import After, At, From, TrimHorizon
from poller.service.kcl import Asked, import_kcl, write_rows
from poller.service.kcl_table import LeaseTable
from poller.settings import load
from poller.stores.memory import MemoryStore
from tests.servers.kpl import aggregate
from tests.servers.processes import Server
from tests.system.cloud import REGION, Cloud, clouded
from tests.system.daemon import write
from tests.system.settings import stored

SHARD = "shardId-000000000000"


@dataclass
class Desk:
    """A stream, its lease table and a configuration, each under a name of its own."""

    cloud: Cloud
    folder: Path
    name: str
    arn: str
    config: Path
    said: list[str] = field(default_factory=list)

    async def lease(self, key: str = SHARD, checkpoint: str = "TRIM_HORIZON", **more: Any) -> None:
        item = new_item(key, Mark(checkpoint), parents=(), children=()) | more
        await self.cloud.dynamodb("PutItem", TableName=self.name, Item=item)

    async def leases(self) -> Mapping[str, Mapping[str, Any]]:
        items = (await self.cloud.dynamodb("Scan", TableName=self.name))["Items"]
        return {item["leaseKey"]["S"]: item for item in items}

    async def run(self, **asked: Any) -> int:
        """The command; what it says is added to `said`."""
        wanted: dict[str, Any] = {"table": self.name, "mapping": self.name, "settle": 0.0}
        self.said.clear()
        settings = load(self.config, {}, now=time.time())
        return await import_kcl(
            settings, Asked(**wanted | asked), clock=time.time, tell=self.said.append, complain=self.said.append
        )

    async def refused(self, **asked: Any) -> str:
        """The one line with which it ends."""
        before = await self.leases()
        assert await self.run(**asked) == 1
        assert await self.leases() == before, "what is refused changes nothing"
        return [line for line in self.said if not line.startswith("watching ")][-1]

    def rows(self) -> dict[str, Any]:
        return {shard: row.position for shard, row in stored(self.folder, self.name).items()}


@pytest.fixture
async def desk(ministack: Server, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    name = f"kcl-{abs(hash(request.node.name)) % 10**8}"
    async with clouded(ministack.url) as cloud:
        await cloud.dynamodb(
            "CreateTable",
            TableName=name,
            KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        arn = await cloud.stream(name)
        yield Desk(cloud, tmp_path, name, arn, configured(tmp_path, cloud, name, arn))


def configured(folder: Path, cloud: Cloud, name: str, arn: str, **more: Any) -> Path:
    document = {
        "aws": {"region": REGION, "endpoint_url": cloud.url},
        "store": "sqlite://./state.db",
        "functions": {"f": {"url": "http://127.0.0.1:9/"}},
        "mappings": {
            name: {"EventSourceArn": arn, "FunctionName": "f"}
            | ({"StartingPosition": "LATEST"} if ":sqs:" not in arn else {})
        },
    }
    return write(folder / "poller.yaml", document | more)


async def test_without_a_table_nothing_is_imported(desk: Desk):
    assert (
        await desk.refused(table="nowhere") == "there is no table nowhere (check its name, aws.region and the account)"
    )


async def test_a_table_without_leases_of_the_stream_is_refused(desk: Desk):
    assert (await desk.refused()).startswith(f"table {desk.name} holds no lease of ")
    other = "111122223333:other:1700000000"
    await desk.lease(f"{other}:{SHARD}", streamName={"S": other}, shardId={"S": SHARD})
    assert f", only of {other}; --force takes the one of that account and name" in await desk.refused()


async def test_an_application_that_says_wrong_when_its_stream_was_made_is_taken_by_force(desk: Desk):
    account = desk.arn.split(":")[4]
    stream = f"{account}:{desk.name}:1"
    await desk.lease(f"{stream}:{SHARD}", streamName={"S": stream}, shardId={"S": SHARD})
    assert "holds no lease of" in await desk.refused()
    assert await desk.run(force=True) == 0
    assert desk.rows() == {SHARD: TrimHorizon()}


async def test_a_table_of_another_stream_is_refused_unless_forced(desk: Desk):
    await desk.lease("shardId-000000000077")
    assert "names no shard that" in await desk.refused()
    assert await desk.run(force=True) == 0
    assert desk.rows() == {"shardId-000000000077": TrimHorizon()}


async def test_a_shard_that_ended_there_and_is_open_here_is_of_another_stream_and_force_does_not_help(desk: Desk):
    await desk.lease(checkpoint="SHARD_END")
    line = f"table {desk.name} says SHARD_END of {SHARD}, which {desk.arn} lists as open"
    assert (await desk.refused()).startswith(line)
    assert (await desk.refused(force=True)).startswith(line)
    assert not desk.rows()


async def test_a_row_that_is_no_lease_is_told_with_its_key(desk: Desk):
    await desk.lease(checkpoint="nonsense")
    assert (await desk.refused()).startswith(f"table {desk.name}: {SHARD}: checkpoint is 'nonsense', allowed: ")


@pytest.mark.parametrize("direction", [{}, {"write_back": True}], ids=["import", "write back"])
async def test_while_a_worker_renews_its_lease_nothing_is_moved(desk: Desk, direction: dict[str, bool]):
    await desk.lease()
    if direction:
        assert await desk.run() == 0
    running = asyncio.create_task(desk.run(settle=0.5, **direction))
    renewals = 0
    while not running.done():
        renewals += 1
        await desk.lease(leaseCounter={"N": str(renewals)})
    assert await running == 1
    assert desk.said[-1] == (
        f"table {desk.name}, mapping {desk.name}: workers of the application are alive: 1 of its rows changed"
        f" ({SHARD}); stop them first"
    )
    assert (await desk.leases())[SHARD]["leaseCounter"] == {"N": str(renewals)}
    assert len(desk.rows()) == len(direction)


async def test_a_dry_run_says_what_would_become_of_every_row_and_writes_nothing(desk: Desk):
    await desk.lease()
    await desk.lease("worker-1", entityType={"S": "WORKER_METRIC_STATS"})
    assert await desk.run(dry_run=True) == 0
    assert desk.said == [
        f"{SHARD}: TRIM_HORIZON -> from TRIM_HORIZON",
        "worker-1: WORKER_METRIC_STATS -> passed over, it is no lease",
        "nothing was written (--dry-run)",
    ]
    assert not desk.rows()


async def test_positions_that_are_there_are_overwritten_only_by_force(desk: Desk):
    await desk.lease()
    assert await desk.run() == 0
    await desk.lease("shardId-000000000077", checkpoint="SHARD_END")
    line = await desk.refused()
    assert line == (
        f"the store has rows of {desk.name} already (1 shards), which this would overwrite: use --force, or another mapping"
    )
    assert await desk.run(force=True) == 0
    assert len(desk.rows()) == 2
    await desk.cloud.dynamodb("DeleteItem", TableName=desk.name, Key={"leaseKey": {"S": "shardId-000000000077"}})
    assert await desk.run(force=True) == 0
    assert "shardId-000000000077: known here alone -> forgotten, it starts anew" in desk.said
    assert desk.rows() == {SHARD: TrimHorizon()}


async def test_an_import_that_is_cut_short_leaves_no_shard_to_begin_behind_records_that_nobody_has_seen():
    rows = {shard: ShardRow(position=After("9")) for shard in ("a", "b")}
    async with MemoryStore().open() as store:
        await store.put("m/1/b", b"another's", 0)
        with pytest.raises(Superseded):
            await write_rows(store, "m/1", rows, {}, At(5.0))
        mapping = await store.get("m/1")
        assert mapping is not None
        assert decode_mapping(mapping.value).start == TrimHorizon()
        stored_now = {key[4:]: each async for key, each in store.scan("m/1/")}
        await write_rows(store, "m/1", rows, stored_now, At(5.0))
        mapping = await store.get("m/1")
        assert mapping is not None
        assert decode_mapping(mapping.value).start == At(5.0)
        assert [decode_shard(each.value) async for _, each in store.scan("m/1/")] == list(rows.values())


async def test_what_at_timestamp_stands_for_has_to_be_said(desk: Desk):
    await desk.lease(checkpoint="AT_TIMESTAMP")
    with pytest.raises(BaseException) as refused:  # noqa: PT011 a group on its way to the command line
        await desk.run()
    (cause,) = causes(refused.value)
    assert isinstance(cause, SettingsError)
    assert "give --timestamp as the application is configured" in str(cause)
    assert await desk.run(timestamp=1_700_000_000.5) == 0
    assert desk.rows() == {SHARD: At(1_700_000_000.5)}


async def test_a_checkpoint_is_behind_its_record_only_when_all_of_that_is_done(desk: Desk):
    await desk.cloud.put(desk.name, "plain")
    sequences = await _sequences(desk)
    await desk.lease(checkpoint=sequences[0])
    assert await desk.run() == 0
    assert desk.rows() == {SHARD: After(sequences[0])}
    packed = aggregate("key", ["one", "two"])
    await desk.cloud.kinesis(
        "PutRecord", StreamName=desk.name, PartitionKey="key", Data=base64.b64encode(packed).decode()
    )
    last = (await _sequences(desk))[-1]
    for sub, position in (("0", From(last)), ("1", After(last))):
        await desk.lease(checkpoint=last, checkpointSubSequenceNumber={"N": sub})
        assert await desk.run(force=True) == 0
        assert desk.rows() == {SHARD: position}
    unknown = str(int(last) + 10**9)
    await desk.lease(checkpoint=unknown)
    assert await desk.run(force=True) == 0
    assert desk.rows() == {SHARD: From(unknown)}, "what cannot be looked at may be half done"


async def test_latest_is_resolved_and_given_back_as_the_first_record_since(desk: Desk):
    await desk.lease(checkpoint="LATEST")
    assert await desk.run() == 0
    assert isinstance(desk.rows()[SHARD], At)
    assert await desk.run(write_back=True) == 0
    assert (await desk.leases())[SHARD]["checkpoint"] == {"S": "LATEST"}, "nothing is there to point at"
    await desk.cloud.put(desk.name, "first", "second")
    assert await desk.run(write_back=True) == 0
    row = (await desk.leases())[SHARD]
    assert row["checkpoint"] == {"S": (await _sequences(desk))[0]}
    assert (row["checkpointSubSequenceNumber"], row["leaseCounter"]) == ({"N": "-1"}, {"N": "1"})


async def test_a_stream_of_a_table_is_carried_over_and_given_back_without_looking_for_aggregates(desk: Desk):
    arn = await desk.cloud.table(f"{desk.name}-source")
    desk.config = configured(desk.folder, desk.cloud, desk.name, arn)
    await desk.cloud.put_item(f"{desk.name}-source", "one")
    shards = await _dynamodb_shards(desk, arn)
    await desk.lease(shards[0], checkpoint="100000000000000000001")
    assert await desk.run() == 0
    assert desk.rows() == {shards[0]: After("100000000000000000001")}
    assert await desk.run(write_back=True) == 0
    assert f"{shards[0]}: 100000000000000000001 -> left as it is: it stands there already" in desk.said


async def test_there_is_nothing_to_write_back_before_a_poller_ran(desk: Desk):
    await desk.lease()
    assert (await desk.refused(write_back=True)).endswith("nothing to write back")


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"mappings": {}}, "there is no such mapping, allowed: none"),
        ({"store": "memory://"}, "store: memory:// forgets when this command ends, allowed: a store that stays"),
    ],
    ids=["no mapping", "a store that forgets"],
)
async def test_a_configuration_that_cannot_take_it_is_refused(desk: Desk, more: dict[str, Any], line: str):
    desk.config = configured(desk.folder, desk.cloud, desk.name, desk.arn, **more)
    with pytest.raises(BaseException) as refused:  # noqa: PT011 a group on its way to the command line
        await desk.run()
    (cause,) = causes(refused.value)
    assert isinstance(cause, SettingsError)
    assert line in str(cause)


async def test_a_queue_has_no_checkpoints_to_take(desk: Desk):
    desk.config = configured(desk.folder, desk.cloud, desk.name, await desk.cloud.queue(desk.name))
    with pytest.raises(BaseException) as refused:  # noqa: PT011 a group on its way to the command line
        await desk.run()
    assert "its source is a queue, allowed: a stream" in str(causes(refused.value)[0])


async def test_a_write_whose_answer_was_lost_is_known_as_ones_own_and_another_is_not(desk: Desk, ministack: Server):
    settings = AwsSettings(region=REGION, endpoint_url=ministack.url)
    async with open_aws(settings) as aws:
        table = LeaseTable(await aws.client("dynamodb"), desk.name)
        item = new_item(SHARD, Mark("5"), parents=(), children=())
        create = Write(key=SHARD, counter=None, mark=Mark("5"), item=item)
        update = Write(key=SHARD, counter=0, mark=Mark("7"))
        await table.write(create)
        await table.write(create)
        await table.write(update)
        await table.write(update)
        with pytest.raises(Superseded):
            await table.write(create)
        with pytest.raises(Superseded):
            await table.write(Write(key=SHARD, counter=0, mark=Mark("9")))
        with pytest.raises(Superseded):
            await table.write(Write(key="shardId-000000000001", counter=0, mark=Mark("9")))
        (lease,) = (await table.read()).leases
    assert (lease.counter, lease.mark, lease.owner) == (1, Mark("7"), "")


async def test_a_worker_that_comes_between_two_writes_ends_the_write_back(desk: Desk, ministack: Server):
    keys = ["a", "b", "c"]
    for key in keys:
        await desk.lease(key)
    await desk.lease("b", leaseCounter={"N": "1"})
    async with open_aws(AwsSettings(region=REGION, endpoint_url=ministack.url)) as aws:
        table = LeaseTable(await aws.client("dynamodb"), desk.name)
        with pytest.raises(Denied) as refused:
            await table.write_all([Write(key=key, counter=0, mark=Mark("9")) for key in keys])
    assert str(refused.value) == (
        f"table {desk.name}: b was changed by somebody else, so a worker is alive; 1 of 3 rows are written back:"
        " stop it, and write back again"
    )
    assert [row["checkpoint"]["S"] for _, row in sorted((await desk.leases()).items())] == ["9", *["TRIM_HORIZON"] * 2]


def test_a_timestamp_that_is_none_is_refused_before_anything_is_read():
    arguments = ["import-kcl", "t", "--config", "nowhere.yaml", "--mapping", "m", "--timestamp", "soon"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert '"soon" is not a time, allowed: unix seconds or a time such as' in done.output


async def test_a_table_of_several_pages_is_read_to_its_end(moto: Server):
    async with clouded(moto.url) as cloud, open_aws(AwsSettings(region=REGION, endpoint_url=moto.url)) as aws:
        await cloud.dynamodb(
            "CreateTable",
            TableName="kcl-large",
            KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        for number in range(12):
            item = new_item(f"shard-{number:02}", Mark("5"), parents=(), children=())
            filled = item | {"note": {"S": "x" * 200_000}}
            await cloud.dynamodb("PutItem", TableName="kcl-large", Item=filled)
        assert "LastEvaluatedKey" in await cloud.dynamodb("Scan", TableName="kcl-large")
        found = (await LeaseTable(await aws.client("dynamodb"), "kcl-large").read()).leases
    assert [lease.key for lease in found] == [f"shard-{number:02}" for number in range(12)]


async def _sequences(desk: Desk) -> list[str]:
    """Of all records of the stream."""
    place = {"StreamName": desk.name, "ShardId": SHARD, "ShardIteratorType": "TRIM_HORIZON"}
    iterator = (await desk.cloud.kinesis("GetShardIterator", **place))["ShardIterator"]
    answer = await desk.cloud.kinesis("GetRecords", ShardIterator=iterator)
    return [record["SequenceNumber"] for record in answer["Records"]]


async def _dynamodb_shards(desk: Desk, arn: str) -> list[str]:
    async with open_aws(AwsSettings(region=REGION, endpoint_url=desk.cloud.url)) as aws:
        client = await aws.client("dynamodbstreams")
        described = await client.describe_stream(StreamArn=arn)
    return [shard["ShardId"] for shard in described["StreamDescription"]["Shards"]]
