"""Real servers, one of each for all tests; what a server printed is shown with a test that failed on it."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.servers.chromium import chromium
from tests.servers.postgres import Postgres, postgres
from tests.servers.processes import DYNALITE, KINESIS_LOCAL, MINISTACK, MOTO, Server, serving


@pytest.fixture(scope="session")
def ministack() -> Iterator[Server]:
    with serving(MINISTACK) as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    with serving(MOTO) as server:
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Server | Postgres):
                report.sections.append((f"{value.name} printed", value.output()))
    return report
