"""Real servers for the daemon to read from, functions for it to call; what all of them said is shown on failure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest

from tests.servers.chromium import chromium
from tests.servers.postgres import Postgres, postgres
from tests.servers.processes import DYNALITE, KINESIS_LOCAL, MINISTACK, Server, serving
from tests.system.cloud import Cloud, clouded
from tests.system.functions import Functions, functions

_SHOWN = 20_000
"""Characters of a daemon's log that a failure shows, from its end."""


@pytest.fixture(scope="session")
def ministack() -> Iterator[Server]:
    with serving(MINISTACK) as server:
        yield server


@pytest.fixture(scope="session")
def kinesis_local() -> Iterator[Server]:
    with serving(KINESIS_LOCAL) as server:
        yield server


@pytest.fixture(scope="session")
def dynalite() -> Iterator[Server]:
    with serving(DYNALITE) as server:
        yield server


@pytest.fixture(scope="session")
def database() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Server]:
    with chromium() as server:
        yield server


@pytest.fixture
async def cloud(ministack: Server) -> AsyncIterator[Cloud]:
    async with clouded(ministack.url) as access:
        yield access


@pytest.fixture
async def called() -> AsyncIterator[Functions]:
    async with functions() as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if report.failed and isinstance(folder, Path):
        for log in sorted(folder.glob("daemon-*")):
            if text := log.read_text(errors="replace")[-_SHOWN:]:
                report.sections.append((f"{log.name} said", text))
    return report
