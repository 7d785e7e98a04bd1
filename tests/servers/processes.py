"""AWS-compatible servers as child processes on free loopback ports, killed with the context that started them.

`with serving(MINISTACK) as server:` anywhere, `async with ministack() as url:` in asynchronous code.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio.to_thread

from tests.servers.npm import HERE, NODE

START = 60.0
"""Seconds a server has to answer its first request."""
_KINESIS_LOCAL = HERE / "node_modules" / "kinesis-local"
_DYNALITE = HERE / "node_modules" / "dynalite"


@dataclass(frozen=True, kw_only=True)
class Program:
    """How a server is started, and the request by which it shows that it serves."""

    name: str
    command: Callable[[int], list[str]]
    environment: Callable[[int], Mapping[str, str]] = lambda _: {}
    directory: Path | None = None
    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that runs."""

    name: str
    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def output(self) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-8000:]


MINISTACK = Program(
    name="ministack",
    command=lambda _: [sys.executable, "-m", "ministack"],
    environment=lambda port: {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "IOT_MTLS_ENABLED": "0",
    },  # its broker would listen everywhere
    path="/_ministack/health",
)
MOTO = Program(
    name="moto",
    command=lambda port: [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
    path="/moto-api/data.json",
)
KINESIS_LOCAL = Program(
    name="kinesis-local",
    command=lambda _: [str(NODE), "main.js"],
    environment=lambda port: {
        "KINESIS_MOCK_PLAIN_PORT": str(port),
        "KINESIS_MOCK_TLS_PORT": str(free_port()),
        "LOG_LEVEL": "WARN",
        # A stream is being created, split and deleted for 500 ms each; tests need to see the state, not to wait for it.
        **{
            f"{change}_DURATION": "50ms"
            for change in ("CREATE_STREAM", "DELETE_STREAM", "SPLIT_SHARD", "MERGE_SHARDS", "UPDATE_SHARD_COUNT")
        },
    },
    directory=_KINESIS_LOCAL,
    headers={
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": "Kinesis_20131202.ListStreams",
        "X-Amz-Date": "20260101T000000Z",
        "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/eu-west-1/kinesis/aws4_request, "
        "SignedHeaders=host, Signature=0",
    },
    body=b"{}",
)

DYNALITE = Program(
    name="dynalite",
    command=lambda port: [
        str(NODE),
        "-e",
        f"require('dynalite')({{createTableMs: 50, deleteTableMs: 50}}).listen({port}, '127.0.0.1')",
    ],
    directory=_DYNALITE,
    path="/",
)


@contextmanager
def serving(program: Program) -> Iterator[Server]:
    """Start a server and wait until it answers.

    Raises:
        RuntimeError: it ended, or did not answer in time; the message holds what it printed.
    """
    if program.directory is not None and not program.directory.is_dir():
        raise RuntimeError(f"{program.name} is not installed: run `python -m tests.servers.npm ci`")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix=f"{program.name}-") as folder:
        log = Path(folder) / "output"
        with log.open("wb") as output:
            process = subprocess.Popen(
                program.command(port),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=program.directory or folder,
                env={**os.environ, **program.environment(port)},
                start_new_session=True,
            )
        server = Server(name=program.name, url=f"http://127.0.0.1:{port}", log=log, process=process)
        try:
            _wait(server, program)
            yield server
        finally:
            _end(process)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(server: Server, program: Program) -> None:
    deadline = time.monotonic() + START
    request = urllib.request.Request(server.url + program.path, data=program.body, headers=dict(program.headers))
    problem = ""
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RuntimeError(f"{program.name} ended with {server.process.returncode}:\n{server.output()}")
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except urllib.error.HTTPError as error:
            with error:
                problem = f"{error}: {error.read()[:200]!r}"
        except OSError as error:
            problem = str(error)
        time.sleep(0.05)
    raise RuntimeError(f"{program.name} does not answer ({problem}):\n{server.output()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server's process group: politely, then surely."""
    for sign, patience in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 10.0)):
        if process.poll() is None:
            os.killpg(process.pid, sign)
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                continue


@asynccontextmanager
async def _serving(program: Program) -> AsyncIterator[str]:
    context = serving(program)
    server = await anyio.to_thread.run_sync(context.__enter__)
    try:
        yield server.url
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(context.__exit__, None, None, None)


@asynccontextmanager
async def ministack() -> AsyncIterator[str]:
    """SQS, DynamoDB and its streams, SNS, S3, Lambda; Kinesis without resharding. Yields its address."""
    async with _serving(MINISTACK) as url:
        yield url


@asynccontextmanager
async def moto() -> AsyncIterator[str]:
    """The shapes of the APIs. Yields its address."""
    async with _serving(MOTO) as url:
        yield url


@asynccontextmanager
async def kinesis_local() -> AsyncIterator[str]:
    """Kinesis with resharding. Yields its address."""
    async with _serving(KINESIS_LOCAL) as url:
        yield url
