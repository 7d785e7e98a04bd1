"""What the tests of the sources have in common: AWS at an address, and reading until something is there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import anyio

from poller.aws.session import Aws, AwsSettings, Client, open_aws
from poller.model.ports import Source
from poller.model.record import Cursor, Page, Record

REGION = "eu-west-1"
_names = count()


@asynccontextmanager
async def aws_at(url: str, client: Client = "fast") -> AsyncIterator[Aws]:
    async with open_aws(AwsSettings(region=REGION, endpoint_url=url, client=client)) as aws:
        yield aws


async def admitted(_: int) -> None:
    """There is memory enough."""


class Admissions:
    """Admits everything and remembers how much."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def __call__(self, size: int) -> None:
        self.sizes.append(size)


async def read_all(source: Source, partition: str, cursor: Cursor, *, wanted: int, limit: int = 1000) -> list[Page]:
    """Read until `wanted` records are there or the shard ended; the test's timeout ends what never comes."""
    pages: list[Page] = []
    here: Cursor | None = cursor
    while here is not None and sum(len(page.records) for page in pages) < wanted:
        page = await source.read(partition, here, limit, admitted)
        pages.append(page)
        here = page.cursor
        if not page.records:
            await anyio.sleep(0.05)
    return pages


async def read_to_end(source: Source, partition: str, cursor: Cursor) -> list[Record]:
    """Read until the shard says that it ended."""
    records: list[Record] = []
    here: Cursor | None = cursor
    while here is not None:
        page = await source.read(partition, here, 1000, admitted)
        records += page.records
        here = page.cursor
        if not page.records:
            await anyio.sleep(0.05)
    return records


def records_of(pages: list[Page]) -> list[Record]:
    return [record for page in pages for record in page.records]
