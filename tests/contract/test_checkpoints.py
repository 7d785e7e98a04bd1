"""Positions as a file: what `poller checkpoints import` takes from a hand that has changed it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from poller.mapping import row
from poller.mapping.row import MappingRow, ShardRow
from poller.model.errors import SettingsError
from poller.model.record import After, TrimHorizon
from poller.service.checkpoints import export, import_
from poller.stores.sqlite import SqliteStore

_KEY = row.prefix("orders", "arn", "created")


@pytest.fixture
async def config(tmp_path: Path) -> Path:
    """Two mappings of streams, one of which has a position."""
    mappings = {
        name: {
            "EventSourceArn": f"arn:aws:kinesis:eu-west-1:111122223333:stream/{name}",
            "StartingPosition": "TRIM_HORIZON",
            "FunctionName": name,
        }
        for name in ("orders", "clicks")
    }
    written = tmp_path / "poller.yaml"
    written.write_text(json.dumps({"store": f"sqlite:///{tmp_path}/s.db", "mappings": mappings}))
    async with SqliteStore(path=f"{tmp_path}/s.db").open() as store:
        await store.put(_KEY, row.encode(MappingRow(start=TrimHorizon())), 0)
        await store.put(f"{_KEY}/shard-0", row.encode(ShardRow(position=After("7"), owner="a", epoch=1)), 0)
    return written


async def all_rows(config: Path) -> dict[str, bytes]:
    async with SqliteStore(path=f"{config.parent}/s.db").open() as store:
        return {key: found.value for folder in ("orders/", "clicks/", "@") async for key, found in store.scan(folder)}


async def imported(config: Path, change: Callable[[Any], object]) -> int:
    """Export, change what was exported, and import it."""
    document = json.loads(await export(config, {}, mapping=None))
    change(document["mappings"])
    file = config.parent / "positions.json"
    file.write_text(json.dumps(document))
    return await import_(config, {}, file, force=True, dry_run=False, tell=lambda line: None)


async def test_a_position_that_a_hand_has_changed_is_written_and_its_owner_stays(config: Path):
    assert (
        await imported(config, lambda all_: all_["orders"][0]["shards"]["shard-0"]["position"].update(sequence="5"))
        == 0
    )
    stored = row.decode_shard((await all_rows(config))[f"{_KEY}/shard-0"])
    assert (stored.position, stored.owner, stored.epoch) == (After("5"), "a", 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda all_: all_["orders"][0].update(key="@members"), "'@members' is no key of orders"),
        (lambda all_: all_["orders"][0].update(key="@steer/orders"), "'@steer/orders' is no key of orders"),
        (lambda all_: all_["orders"][0].update(key=f"clicks/{'0' * 16}"), "is no key of orders"),
        (lambda all_: all_["orders"][0].update(key=f"{_KEY}/shard-0"), "is no key of orders"),
        (lambda all_: all_["orders"][0].update(key="orders"), "'orders' is no key of orders"),
        (lambda all_: all_.update(clicks=all_.pop("orders")), "is no key of clicks"),
        (
            lambda all_: all_["orders"][0]["shards"]["shard-0"]["position"].update(sequence="0x7"),
            "orders shard-0: '0x7' is no sequence number",
        ),
        (
            lambda all_: all_["orders"][0]["shards"]["shard-0"].update(lanes=[{"chunks": [[1, "last"]]}]),
            "orders shard-0: 'last' is no sequence number",
        ),
    ],
    ids=["members", "wishes", "another mapping", "a shard", "no stream", "renamed", "position", "chunk"],
)
async def test_what_no_export_says_is_refused_and_nothing_is_written(
    config: Path, change: Callable[[Any], object], reason: str
):
    before = await all_rows(config)
    with pytest.raises(SettingsError, match=reason):
        await imported(config, change)
    assert await all_rows(config) == before
