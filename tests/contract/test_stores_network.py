"""Stores behind a network that loses answers, falls silent, or whose server dies: nothing is lost, nothing done twice."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import NamedTuple

import anyio
import anyio.lowlevel
import pytest

from poller.model.errors import Superseded, Transient
from poller.model.ports import Store
from tests.contract.stores import FAR, address_of, opened, patiently, port_of, through
from tests.servers.proxy import Proxy, proxy


class Behind(NamedTuple):
    """A store and what stands in front of its server."""

    store: Store
    proxy: Proxy
    address: str
    """Of the same rows, past the proxy."""

    async def value(self, key: str) -> bytes | None:
        """What the server holds."""
        async with opened(self.address) as direct:
            row = await direct.get(key)
        return row.value if row else None


@asynccontextmanager
async def _behind(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Behind]:
    real = port_of(kind, request)
    address = await address_of(kind, request, request.getfixturevalue("tmp_path"))
    async with proxy(real) as between, opened(through(address, between.port, real)) as store:
        await store.put("@members/warm", b"", 0)
        await store.put("warm/row", b"", 0)
        yield Behind(store, between, address)


@pytest.fixture(params=FAR)
async def behind(request: pytest.FixtureRequest) -> AsyncIterator[Behind]:
    async with _behind(request.param, request) as behind:
        yield behind


@pytest.mark.parametrize("key", ["@members/1", "m/row"])
async def test_a_write_whose_answer_was_lost_is_known_as_ones_own(behind: Behind, key: str):
    for version, value in enumerate([b"one", b"two", os.urandom(500_000)]):
        behind.proxy.answers_to_lose = 1
        assert await patiently(partial(behind.store.put, key, value, version)) == version + 1
        assert behind.proxy.answers_to_lose == 0
        assert await behind.store.get(key) == (value, version + 1)


async def test_a_write_whose_answer_was_lost_is_superseded_once_another_has_written(behind: Behind):
    await behind.store.put("m/row", b"one", 0)
    behind.proxy.answers_to_lose = 100
    with pytest.raises(Transient):
        await behind.store.put("m/row", b"mine", 1)
    behind.proxy.answers_to_lose = 0
    assert await behind.value("m/row") == b"mine"
    async with opened(behind.address) as other:
        await other.put("m/row", b"mine", 2)
    with pytest.raises(Superseded, match="m/row has version 3, not 1"):
        await patiently(lambda: behind.store.put("m/row", b"mine", 1))


async def test_a_write_that_another_made_alike_is_not_ones_own(behind: Behind):
    behind.proxy.silent = True
    with anyio.move_on_after(0.1), suppress(Transient):
        await behind.store.put("@members/1", b"alike", 0)
    await behind.proxy.down()
    behind.proxy.silent = False
    async with opened(behind.address) as other:
        await other.put("@members/1", b"alike", 0)
    await behind.proxy.up()
    with pytest.raises(Superseded):
        await patiently(lambda: behind.store.put("@members/1", b"alike", 0))


async def test_a_cancelled_write_that_was_made_is_known_as_ones_own(behind: Behind):
    behind.proxy.answers_to_lose = 1_000_000
    with anyio.move_on_after(0.2):
        await _forever(behind)
    behind.proxy.answers_to_lose = 0
    assert await patiently(lambda: behind.store.put("m/row", b"mine", 0)) == 1
    assert await behind.value("m/row") == b"mine"


async def _forever(behind: Behind) -> None:
    while True:
        with pytest.raises(Transient):
            await behind.store.put("m/row", b"mine", 0)
        await anyio.lowlevel.checkpoint()


async def test_a_removal_whose_answer_was_lost_is_known_as_done(behind: Behind):
    await behind.store.put("m/row", b"one", 0)
    behind.proxy.answers_to_lose = 1
    await patiently(lambda: behind.store.delete("m/row", 1))
    assert behind.proxy.answers_to_lose == 0
    assert await behind.value("m/row") is None


async def test_writes_that_lost_their_answer_together_are_each_known(behind: Behind):
    behind.proxy.answers_to_lose = 3
    results: list[int] = []

    async def write(row: int) -> None:
        results.append(await patiently(lambda: behind.store.put(f"m/{row}", str(row).encode(), 0)))

    async with anyio.create_task_group() as tasks:
        for row in range(20):
            tasks.start_soon(write, row)
    assert results == [1] * 20
    assert [row.version async for _, row in behind.store.scan("m/")] == [1] * 20


async def test_while_the_server_is_away_everything_fails_in_passing_and_works_when_it_is_back(behind: Behind):
    store = behind.store
    await store.put("m/row", b"one", 0)
    await behind.proxy.down()
    for call in (
        lambda: store.put("m/row", b"two", 1),
        lambda: store.get("m/row"),
        lambda: anext(aiter(store.scan("m/"))),
        lambda: store.delete("m/row", 1),
        lambda: store.put("@members/1", b"beat", 0),
    ):
        with pytest.raises(Transient):
            await call()
    await store.wake()
    with anyio.fail_after(10):
        await store.wait(0.05)
    await behind.proxy.up()
    assert await patiently(lambda: store.put("m/row", b"two", 1)) == 2
    assert await patiently(lambda: store.put("@members/1", b"beat", 0)) == 1
    assert await store.get("m/row") == (b"two", 2)


async def test_a_silent_server_costs_a_beat_and_not_a_lease(behind: Behind):
    behind.proxy.silent = True
    with anyio.fail_after(4):  # a member whose beats fail fences itself after five seconds
        with pytest.raises(Transient):
            await behind.store.put("@members/1", b"beat", 0)
    behind.proxy.silent = False
    assert await patiently(lambda: behind.store.put("@members/1", b"beat", 0)) == 1


@pytest.mark.parametrize("kind", FAR)
async def test_a_store_that_cannot_be_reached_at_first_is_used_once_it_can(kind: str, request: pytest.FixtureRequest):
    real = port_of(kind, request)
    address = await address_of(kind, request, request.getfixturevalue("tmp_path"))
    async with proxy(real) as between:
        await between.down()
        async with opened(through(address, between.port, real)) as store:
            with pytest.raises(Transient):
                await store.get("m/row")
            await between.up()
            assert await patiently(lambda: store.put("m/row", b"one", 0)) == 1
