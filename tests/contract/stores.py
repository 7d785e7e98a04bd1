"""Every store on a real server, by the address that a configuration would name it by."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import anyio
import asyncpg
import pytest

from poller.aws.session import AwsSettings, open_aws
from poller.model.errors import Transient
from poller.model.ports import Store
from poller.settings.stores import store as named
from tests.servers.postgres import Postgres
from tests.servers.processes import Server

FAR = ("ministack", "dynalite", "postgres")
"""Stores behind a network."""
SHARED = ("sqlite", *FAR)
EVERY = ("memory", *SHARED)

T = TypeVar("T")


@asynccontextmanager
async def opened(address: str) -> AsyncIterator[Store]:
    """The store that an address names."""
    async with open_aws(AwsSettings(region="eu-west-1")) as aws, named(address, "/").open(aws) as store:
        yield store


def dynamo_address(server: Server | int, table: str = "", more: str = "&create=true") -> str:
    """A table of its own at a server, or at a proxy's port."""
    url = f"http://127.0.0.1:{server}" if isinstance(server, int) else server.url
    return f"dynamodb://{table or 'rows-' + uuid.uuid4().hex}?endpoint_url={url}{more}"


async def schema(database: Postgres) -> str:
    """The name of an empty schema."""
    name = f"rows_{uuid.uuid4().hex}"
    await sql(database, f"CREATE SCHEMA {name}")
    return name


async def sql(database: Postgres, statement: str) -> list[asyncpg.Record]:
    """What the server answers to its owner."""
    connection = await asyncpg.connect(database.url)
    try:
        rows: list[asyncpg.Record] = await connection.fetch(statement)
    finally:
        await connection.close()
    return rows


async def address_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """An empty store of this kind."""
    if kind == "memory":
        return "memory://"
    if kind == "sqlite":
        return f"sqlite://{folder}/deep/state.db"
    server = request.getfixturevalue("database" if kind == "postgres" else kind)
    if isinstance(server, Postgres):
        return f"{server.url}?search_path={await schema(server)}"
    return dynamo_address(server)


def port_of(kind: str, request: pytest.FixtureRequest) -> int:
    """Where the server of this kind listens."""
    server = request.getfixturevalue("database" if kind == "postgres" else kind)
    return urlsplit(server.url).port or 0


def through(address: str, port: int, real: int) -> str:
    """The same store behind a proxy."""
    return address.replace(f":{real}", f":{port}")


async def patiently(call: Callable[[], Awaitable[T]], patience: float = 20) -> T:
    """Call until it does not fail in passing, as everybody does who uses a store."""
    with anyio.fail_after(patience):
        while True:
            try:
                return await call()
            except Transient:
                await anyio.sleep(0.05)
