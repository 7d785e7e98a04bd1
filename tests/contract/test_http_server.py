import json
import re
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from importlib import resources
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from poller.model.errors import SettingsError
from poller.model.facts import SourceRead, Stopping
from poller.service.http import serve
from poller.service.observers import Observers
from tests.contract.shown import ARN, Daemon, failing, now, running


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    async with running(Daemon()) as started:
        yield started


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
            "retention_seconds": None,
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
                        "first_failed": None,
                        "first_record": "4966",
                        "last_record": "4970",
                        "records": 5,
                        "request_id": "r",
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


async def test_the_ages_of_the_last_quarter_of_an_hour_are_told_for_mappings_and_for_the_shards_that_are_named(
    daemon: Daemon,
):
    daemon.configure("m & n")
    daemon.observe(*failing("m & n"))
    daemon.board.look(0.0)
    _, _, body = await daemon.ask("/api/history")
    assert json.loads(body) == {"step_seconds": 15.0, "ages": {"m & n": [None] * 59 + [75.0]}}
    _, _, body = await daemon.ask("/api/history?mapping=m%20%26%20n&shard=shardId-000000000000&shard=other")
    assert json.loads(body)["ages"] == {"shardId-000000000000": [None] * 59 + [75.0]}


async def test_a_long_answer_is_compressed_and_the_same(daemon: Daemon):
    daemon.configure("m")
    for number in range(300):
        daemon.observe(*failing("m", f"s{number}"))
    _, plain_headers, plain = await daemon.ask("/api/mappings", **{"Accept-Encoding": "identity"})
    _, headers, body = await daemon.ask("/api/mappings", **{"Accept-Encoding": "gzip"})
    assert body == plain
    assert "Content-Encoding" not in plain_headers
    assert int(headers["Content-Length"]) < len(plain) / 5


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/healthz", "/readyz", "/api/mappings", "/api/fleet", "/api/history"]
)
async def test_head_answers_as_get_without_a_body(daemon: Daemon, path: str):
    got, headers, body = await daemon.ask(path, "HEAD")
    expected, of_get, _ = await daemon.ask(path)
    assert (got, body) == (expected, "")
    assert headers["Content-Type"] == of_get["Content-Type"]


async def test_unknown_path_is_one_line_that_names_the_known_ones(daemon: Daemon):
    status, _, body = await daemon.ask("/metric")
    assert status == 404
    assert body == "not found, there are /, /metrics, /healthz, /readyz, /api/mappings, /api/fleet, /api/history\n"


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
            async with serve("127.0.0.1", port, metrics=Observers(now).metrics, board=Observers(now).board):
                raise AssertionError("it was bound")
    assert str(raised.value) == (
        f"127.0.0.1:{port} is already in use, perhaps by another poller; choose another server.port"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a..b", "a" * 64])
async def test_host_of_another_machine_is_one_line_that_says_what_is_usual(host: str):
    with pytest.raises(SettingsError) as raised:
        async with serve(host, 0, metrics=Observers(now).metrics, board=Observers(now).board):
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
    page = page_source().replace('"http://www.w3.org/2000/svg"', '"a name, which nobody asks for"')
    assert not re.findall(r"(?:https?:)?//\w[^\s\"']*\.\w+", page)
    assert not re.findall(r"""\s(?:on\w+|style|src)\s*=\s*["']""", page)
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|\.style\b", page)
