"""The real daemon as a child process, reading from the load double: what memory tests and benchmarks look at.

`with load(shards=200, record_bytes=1_048_576) as double, daemon(mapping_of(double, memory="128MiB")) as process:`
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.authority import certified

_ROOT = Path(__file__).parents[2]
_SCHEDULED = 2
"""The clock of a process that the scheduler keeps, in nanoseconds. Source: clock_getcpuclockid(3) of Linux."""
_PATIENCE = 60.0
"""Seconds for a process to start or to end."""


@dataclass(frozen=True, kw_only=True)
class Double:
    """A load double that runs."""

    url: str
    ca: str = ""
    """File of who vouches for its certificate; "" when it does not speak TLS."""

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs that calls it: credentials, and whom to trust."""
        return {**CREDENTIALS, **({"AWS_CA_BUNDLE": self.ca} if self.ca else {})}

    def totals(self) -> dict[str, Any]:
        """What its function has seen."""
        return self._get("/totals")

    def fill(self, records: int) -> None:
        """Give every shard so many records more, and count from nothing."""
        self._get(f"/fill?records={records}")

    def trickle(self, rate: int) -> None:
        """Give every shard so many records a second, and count from nothing."""
        self._get(f"/trickle?records={rate}")

    def _get(self, path: str) -> dict[str, Any]:
        trusted = ssl.create_default_context(cafile=self.ca) if self.ca else None
        with urllib.request.urlopen(self.url + path, timeout=_PATIENCE, context=trusted) as response:
            answer: dict[str, Any] = json.load(response)
            return answer


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """A daemon that runs."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def resident_bytes(self) -> int:
        """Of its memory, what is in RAM now."""
        return self._status("VmRSS")

    def peak_bytes(self) -> int:
        """The most that was in RAM since its start."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        try:
            return memory(self.process.pid, name)
        except ProcessLookupError:
            raise RuntimeError(f"the daemon has ended: {self.log.read_text()[-4000:]}") from None


def configuration(
    double: Double,
    *,
    memory: str = "256MiB",
    batch_size: int = 100,
    function: str = "function",
    source: str = "kinesis",
    store: str = "memory://",
    **mapping: Any,
) -> dict[str, Any]:
    """One mapping to the double's function (as "lambda", through Invoke), from its stream, its table or its queue."""
    sources = {
        "kinesis": {
            "EventSourceArn": "arn:aws:kinesis:eu-west-1:123456789012:stream/load",
            "StartingPosition": "TRIM_HORIZON",
        },
        "dynamodb": {
            "EventSourceArn": "arn:aws:dynamodb:eu-west-1:123456789012:table/load/stream/2026-01-01T00:00:00.000",
            "StartingPosition": "TRIM_HORIZON",
        },
        "sqs": {"EventSourceArn": "arn:aws:sqs:eu-west-1:123456789012:load"},
    }
    return {
        "aws": {"region": "eu-west-1", "endpoint_url": double.url},
        "store": store,
        "memory": memory,
        "functions": {"function": {"url": f"{double.url}/function"}, "lambda": {"lambda": "function"}},
        "mappings": {"load": {**sources[source], "FunctionName": function, "BatchSize": batch_size, **mapping}},
    }


def of_queues(double: Double, count: int) -> dict[str, Any]:
    """The same with so many mappings, each of a queue of its own."""
    settings = configuration(double, source="sqs", batch_size=10)
    one = settings["mappings"]["load"]
    numbered = {
        f"load-{number}": {**one, "EventSourceArn": f"{one['EventSourceArn']}-{number}"} for number in range(count)
    }
    return {**settings, "mappings": numbered}


def memory(pid: int, name: str = "VmRSS") -> int:
    """Bytes of a process's memory that the kernel counts under this name: what is in RAM now, if nothing else is asked.

    Raises:
        ProcessLookupError: it has ended.
    """
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used, all threads of it, those of the kernel on their behalf included."""
    return time.clock_gettime((~pid << 3) | _SCHEDULED)


@contextmanager
def load(*, shards: int, record_bytes: int, tls: bool = False, **more: float) -> Iterator[Double]:
    """Start a load double; it ends with the context.

    Args:
        shards: how many.
        record_bytes: of each record's payload.
        tls: with a certificate that nobody knows yet.
        more: `latency`, `spread`, `long_poll` and `groups`, as the double's command names them.
    """
    command = [sys.executable, "-m", "tests.servers.load"]
    for name, value in {"shards": shards, "record_bytes": record_bytes, **more}.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    with ExitStack() as stack:
        scheme, ca = "http", ""
        if tls:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="load-")))
            certified(folder)
            scheme, ca = "https", str(folder / "ca.pem")
            command += ["--certificate", str(folder / "server.pem")]
        process = stack.enter_context(
            subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        stack.callback(process.terminate)
        assert process.stdout
        yield Double(url=f"{scheme}://127.0.0.1:{int(process.stdout.readline())}", ca=ca)


@contextmanager
def daemon(
    settings: Mapping[str, Any], through: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Daemon]:
    """Start `poller run`; stop it politely, and surely, with the context.

    Args:
        settings: the configuration, without `server`.
        through: arguments of the interpreter before `-m poller`: a profiler.
        environment: more than this process's own; None: credentials.
    """
    with tempfile.TemporaryDirectory(prefix="poller-") as folder:
        config = Path(folder) / "config.json"
        port = _free_port()
        url = f"http://127.0.0.1:{port}"
        config.write_text(json.dumps({**settings, "server": {"host": "127.0.0.1", "port": port}}))
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *through, "-m", "poller", "run", str(config), "--log-format", "json"],
                cwd=_ROOT,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(CREDENTIALS if environment is None else environment)},
            )
        try:
            until(lambda: _ready(url, process, log))
            yield Daemon(process=process, url=url, log=log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(_PATIENCE)


def until(condition: Callable[[], bool], *, patience: float = _PATIENCE, every: float = 0.05) -> None:
    """Wait for something seen from outside.

    Raises:
        TimeoutError: it did not come in time.
    """
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {patience:.0f} s")
        time.sleep(every)


def _ready(url: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"the daemon did not start: {log.read_text()[-4000:]}")
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=_PATIENCE):
            return True
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHAREDCREDENTIALS_FILE": os.devnull,
}
