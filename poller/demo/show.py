"""The demo's course: start everything, produce, watch, stop, and judge."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import as_file, files
from pathlib import Path

import aiohttp
import anyio
import orjson
from anyio.streams.text import TextReceiveStream
from rich.console import Console
from rich.live import Live

from poller.aws.session import Aws
from poller.demo.board import Scores
from poller.demo.server import (
    CREDENTIALS,
    QUEUE,
    STREAM,
    TABLE,
    Resources,
    aws_at,
    child,
    create,
    free_port,
    put,
    server,
)
from poller.model.errors import SettingsError

_EVERY = 0.25
"""Seconds between two records for one mapping."""
_REFRESH = 0.5
_SETTLING = 30.0
"""Seconds that the last records may take once nothing more is produced."""
_STOPPING = 40.0
"""Seconds that the daemon may take to stop; its own grace is 30."""
_STATUS_PORT = 9464


async def show(seconds: float | None) -> int:
    """Run until Ctrl-C, or for so many seconds.

    Returns:
        0 if every record that was produced was delivered and the daemon stopped cleanly, else 1.
    """
    scores = Scores((STREAM, TABLE, QUEUE))
    console = Console()
    environ = dict(os.environ) | CREDENTIALS
    os.environ.update(CREDENTIALS)  # our own calls go to the local server too, never to an account
    with as_file(files("poller.demo") / "functions") as functions:
        console.print("starting a local AWS-compatible server ...")
        async with server(environ) as address, aws_at(address) as aws:
            resources = await create(aws)
            port = free_port(_STATUS_PORT)
            environ |= {
                "POLLER_DEMO_ENDPOINT": address,
                "POLLER_DEMO_STREAM_ARN": resources.stream_arn,
                "POLLER_DEMO_FUNCTIONS": str(functions),
                "POLLER_DEMO_PYTHON": sys.executable,
                "POLLER_DEMO_PORT": str(port),
            }
            async with _daemon(environ, scores) as daemon:
                console.print(f"status page: http://127.0.0.1:{port}/   (Ctrl-C ends the demo)")
                await _traffic(aws, resources, scores, f"http://127.0.0.1:{port}", console, seconds)
                daemon.send_signal(signal.SIGTERM)
                with anyio.move_on_after(_STOPPING):
                    await daemon.wait()
    return _judge(scores, daemon.returncode, console)


@asynccontextmanager
async def _daemon(environ: dict[str, str], scores: Scores) -> AsyncIterator[anyio.abc.Process]:
    """The real daemon; its log lines are read for what the functions print."""
    command = [sys.executable, "-m", "poller", "run", "--log-format", "json", str(_config())]
    async with child(command, environ, stderr=subprocess.PIPE) as process, anyio.create_task_group() as tasks:
        tasks.start_soon(_read_log, process, scores)
        yield process
        tasks.cancel_scope.cancel()


def _config() -> Path:
    """`config/demo.yaml`: beside this file in an installed package, in its own folder in the repository."""
    here = Path(__file__).parent
    for path in (here / "demo.yaml", here.parent.parent / "config" / "demo.yaml"):
        if path.exists():
            return path
    raise SettingsError("demo: config/demo.yaml is missing from this installation")


async def _read_log(process: anyio.abc.Process, scores: Scores) -> None:
    assert process.stderr is not None  # noqa: S101 it was asked for
    rest = ""
    async for text in TextReceiveStream(process.stderr, errors="replace"):
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            scores.read(line)


async def _traffic(
    aws: Aws, resources: Resources, scores: Scores, address: str, console: Console, seconds: float | None
) -> None:
    """Produce and show until the time is over or Ctrl-C, then let the last records arrive."""
    async with anyio.create_task_group() as tasks:
        for mapping in scores.mappings:
            tasks.start_soon(_produce, aws, resources, scores, mapping)
        tasks.start_soon(_watch, address, scores, console)
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            with anyio.move_on_after(seconds if seconds is not None else float("inf")):
                async for _ in signals:
                    break
            scores.producing = False
            with anyio.move_on_after(_SETTLING):
                while not scores.complete:
                    await anyio.sleep(_REFRESH)
        tasks.cancel_scope.cancel()


async def _produce(aws: Aws, resources: Resources, scores: Scores, mapping: str) -> None:
    number = 0
    while scores.producing:
        number += 1
        record_id = f"{mapping}-{number}"
        scores.produced(mapping, record_id)
        await put(aws, resources, mapping, record_id)
        await anyio.sleep(_EVERY)


async def _watch(address: str, scores: Scores, console: Console) -> None:
    """Show the table and keep it fresh; ages come from the daemon's own status."""
    async with aiohttp.ClientSession() as session:
        with Live(scores.table(), console=console, auto_refresh=False, transient=not console.is_terminal) as live:
            try:
                while True:
                    try:
                        async with session.get(f"{address}/api/mappings") as answer:
                            scores.status(orjson.loads(await answer.read()))
                    except (aiohttp.ClientError, orjson.JSONDecodeError):
                        scores.status([])  # it is starting
                    live.update(scores.table(), refresh=True)
                    await anyio.sleep(_REFRESH)
            finally:
                live.update(scores.table(), refresh=True)


def _judge(scores: Scores, code: int | None, console: Console) -> int:
    for line in scores.summary():
        console.print(line)
    if code != 0:
        console.print(f"the daemon ended with {'no answer' if code is None else f'exit code {code}'}")
        console.print("\n".join(scores.last_lines))
    good = scores.complete and code == 0
    console.print("every record produced was delivered" if good else "NOT every record was delivered")
    return 0 if good else 1
