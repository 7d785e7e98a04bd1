"""Configurations of the tests: small, and every one on loopback."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from poller.mapping.row import ShardRow, decode_shard
from poller.model.record import After
from tests.system.cloud import REGION, Cloud
from tests.system.functions import Functions

_ROWS = "SELECT key, value FROM rows"


def stream(arn: str, function: str, **more: Any) -> dict[str, Any]:
    return {"EventSourceArn": arn, "FunctionName": function, "StartingPosition": "TRIM_HORIZON"} | more


def queue(arn: str, function: str, **more: Any) -> dict[str, Any]:
    return {"EventSourceArn": arn, "FunctionName": function} | more


def settings(cloud: Cloud, called: Functions, mappings: Mapping[str, Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """A configuration whose functions are all served by the test, each at the path of its name."""
    names = {str(mapping["FunctionName"]) for mapping in mappings.values()}
    return {
        "aws": {"region": REGION, "endpoint_url": cloud.url, "endpoints": {"kinesis": cloud.kinesis_url}},
        "store": "sqlite://./state.db",
        "server": {"port": 0},
        "poll_interval": 0.2,
        "functions": {name: {"url": f"{called.url}/{name}", "timeout": 50} for name in sorted(names)},
        "mappings": dict(mappings),
    } | more


def stored(folder: Path, mapping: str) -> dict[str, ShardRow]:
    """What the store holds of a mapping's shards; read without touching it."""
    with closing(sqlite3.connect(f"file:{folder / 'state.db'}?mode=ro", uri=True)) as connection:
        rows = connection.execute(_ROWS).fetchall()
    keys = ((key.split("/"), value) for key, value in rows)
    return {key[2]: decode_shard(value) for key, value in keys if len(key) == 3 and key[0] == mapping}


def checkpoints(folder: Path, mapping: str) -> dict[str, int]:
    """The sequence number up to which each shard is settled; 0 for one that stands at its beginning."""
    return {
        shard: int(row.position.sequence) if isinstance(row.position, After) else 0
        for shard, row in stored(folder, mapping).items()
    }
