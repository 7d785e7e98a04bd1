"""What is measured, as processes: the real daemon, the loops that people write, the floor, and peers that are installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.scenarios import PATTERN, Scenario
from tests.servers.loaded import Double, configuration, daemon, until
from tests.servers.postgres import postgres
from tests.servers.processes import MINISTACK, serving

_ROOT = Path(__file__).parents[1]
_PATIENCE = 120.0

Variant = Callable[[Double, Scenario], Any]
"""Starts processes and yields their ids; they end with the context."""


def variants(scenario: Scenario, peers: Path | None, client: str | None) -> dict[str, Variant]:
    """Those of a scenario, by name; peers only where they are installed."""
    found: dict[str, Variant] = {}
    for name in (*scenario.variants, *(scenario.peers if peers else ())):
        found[name] = partial(_PEERS[name], folder=peers) if name in _PEERS else _OURS[name]
    if client:
        found["poller"] = partial(poller, client=client)
    for name, feature in scenario.features.items():
        found[name] = partial(poller, **feature)
    return found


@contextmanager
def poller(
    double: Double,
    scenario: Scenario,
    *,
    store: str = "memory",
    replicas: int = 1,
    traced: bool = False,
    bare: bool = False,
    client: str | None = None,
    **mapping: Any,
) -> Iterator[list[int]]:
    """The real daemon, or several that share a store, as the image runs it or, `bare`, as Python alone does."""
    with ExitStack() as stack:
        settings = configuration(
            double,
            batch_size=scenario.batch_size,
            function="lambda",
            source=scenario.source,
            store=_store(store, stack),
            **{**scenario.mapping, **mapping},
        )
        if client:
            settings["aws"]["client"] = client
        environment = {**double.environment, **({} if bare else _of_the_image())}
        if traced:
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = stack.enter_context(_collector())
        running = []
        for number in range(replicas):
            named = {"fleet": {"id": f"replica-{number}"}} if replicas > 1 else {}
            started = stack.enter_context(daemon({**settings, **named}, environment=environment))
            running.append(started.process.pid)
        yield running


def _of_the_image() -> dict[str, str]:
    """How the image has memory allocated."""
    told = re.search(r"^\s+(GLIBC_TUNABLES)=(\S+)", (_ROOT / "Dockerfile").read_text(), re.MULTILINE)
    if told is None:
        raise RuntimeError("the Dockerfile says no more how memory is allocated")
    return {told[1]: told[2]}


def _store(kind: str, stack: ExitStack) -> str:
    if kind == "sqlite":
        return f"sqlite://{stack.enter_context(tempfile.TemporaryDirectory(prefix='poller-'))}/state.db"
    if kind == "dynamodb":
        url = stack.enter_context(serving(MINISTACK)).url
        return f"dynamodb://poller?create=true&region=eu-west-1&endpoint_url={url}"
    if kind == "postgres":
        return stack.enter_context(postgres()).url
    return "memory://"


class _Spans(BaseHTTPRequestHandler):
    """Takes what is exported, and keeps nothing."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


@contextmanager
def _collector() -> Iterator[str]:
    """A collector of spans on loopback, in a thread of ours; its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Spans) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def _started(command: Sequence[str], double: Double, scenario: Scenario) -> Iterator[list[int]]:
    """A process that reads every shard before it counts as started."""
    with subprocess.Popen(command, cwd=_ROOT, env={**os.environ, **double.environment}) as process:
        try:
            until(
                lambda: bool(double.totals()["reads"] >= scenario.shards or process.poll() is not None),
                patience=_PATIENCE,
            )
            if process.poll() is not None:
                raise RuntimeError(f"it has ended: {' '.join(command)}")
            yield [process.pid]
        finally:
            process.kill()


def _module(name: str, *more: str) -> Variant:
    def start(double: Double, scenario: Scenario) -> Any:
        command = [sys.executable, "-m", f"benchmarks.{name}", double.url, "--source", scenario.source]
        return _started([*command, "--batch-size", str(scenario.batch_size), *more], double, scenario)

    return start


def _floor(*more: str) -> Variant:
    def start(double: Double, scenario: Scenario) -> Any:
        sizes = ("--record-bytes", str(scenario.record_bytes), "--shards", str(scenario.shards))
        return _module("floor", *sizes, *more)(double, scenario)

    return start


def _localstack(double: Double, scenario: Scenario, *, folder: Path) -> Any:
    command = [str(folder / "localstack/bin/python"), str(_ROOT / "benchmarks/peers/localstack_pollers.py"), double.url]
    command += [scenario.source, str(scenario.batch_size), str(scenario.shards)]
    return _started([*command, *([PATTERN] if scenario.filters else [])], double, scenario)


def _async_kinesis(double: Double, scenario: Scenario, *, folder: Path) -> Any:
    command = [str(folder / "async-kinesis/bin/python"), str(_ROOT / "benchmarks/peers/async_kinesis.py"), double.url]
    return _started([*command, str(scenario.batch_size)], double, scenario)


def _sqs_consumer(double: Double, scenario: Scenario, *, folder: Path) -> Any:
    command = ["node", str(folder / "sqs_consumer.mjs"), double.url, str(scenario.batch_size)]
    return _started(command, double, scenario)


def _serverless_offline(double: Double, scenario: Scenario, *, folder: Path) -> Any:
    command = ["node", str(folder / "serverless_offline.cjs"), double.url, scenario.source, str(scenario.batch_size)]
    return _started(command, double, scenario)


_OURS: dict[str, Variant] = {
    "poller": poller,
    "naive": _module("baseline"),
    "boto3": _module("baseline_boto3"),
    "floor": _floor(),
    "floor_sha": _floor("--sha"),
}
_PEERS: dict[str, Callable[..., Any]] = {
    "localstack": _localstack,
    "async_kinesis": _async_kinesis,
    "sqs_consumer": _sqs_consumer,
    "serverless_offline": _serverless_offline,
}
