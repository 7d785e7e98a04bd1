"""What a warm local invocation costs above its handler's own time, as a ratio to a bare HTTP round trip.

`python -m benchmarks.functions [--calls 500] [--rounds 5] [--emulator PROGRAM]`

The bare round trip is the least that anybody could pay who asks another process over HTTP: a request of the same event
to a server of the standard library's sockets in a process of its own, over one kept connection. The Runtime API needs
two requests for one invocation (the answer, and the question for the next event), and a runtime that parses the event.

PROGRAM is Lambda's runtime interface emulator, `aws-lambda-rie`, with the same Python runtime behind it: asked over one
kept connection as the bare server is, and as a function with `url`, which is how a mapping reaches it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from poller.aws.session import Aws, AwsSettings
from poller.model.outcome import Replied
from poller.service.loop import run_on_loop
from poller.targets import TargetSettings
from poller.targets.http import HttpFunction
from poller.targets.local import LocalFunction
from tests.contract.targets import RUNTIMES

FUNCTIONS = Path(__file__).parents[1] / "tests" / "functions"
EVENT = b'{"do": "echo", "value": {"Records": [' + b'{"body": "' + b"x" * 1000 + b'"}' + b"]}}"
_WARM = 50
_WIDE = 0.15
_START = 10.0
"""Seconds that the emulator has to listen."""

SERVER = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
held = b""
while piece := connection.recv(65536):
    held += piece
    head, end, body = held.partition(b"\\r\\n\\r\\n")
    lines = head.lower().split(b"\\r\\n")
    size = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), None)
    if end and len(body) >= size:
        held = b""
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
"""
Ask: TypeAlias = Callable[[], Awaitable[None]]
Variant: TypeAlias = Callable[[], AbstractAsyncContextManager[Ask]]


@contextmanager
def server() -> Iterator[int]:
    """A process of its own that serves one connection. Yields its port."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@asynccontextmanager
async def bare() -> AsyncIterator[Ask]:
    """A server that does nothing but send back what it was sent."""
    with server() as port:
        async with asking(port, "/") as ask:
            yield ask


@asynccontextmanager
async def asking(port: int, path: str) -> AsyncIterator[Ask]:
    """Requests over one connection, without a client library."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = b"POST %s HTTP/1.1\r\nHost: f\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(EVENT)) + EVENT

    async def ask() -> None:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(size)
        assert b" 200 " in head.partition(b"\r\n")[0], head
        assert b"Records" in body, body

    yield ask
    writer.close()
    await writer.wait_closed()


@asynccontextmanager
async def http() -> AsyncIterator[Ask]:
    """The same server as a function with `url`."""
    with server() as port:
        async with target(HttpFunction(name="f", url=f"http://127.0.0.1:{port}/")) as ask:
            yield ask


def local(runtime: str) -> Variant:
    """A function with `command`."""
    return lambda: target(LocalFunction(name="f", command=RUNTIMES[runtime], directory=str(FUNCTIONS)))


@asynccontextmanager
async def target(settings: TargetSettings) -> AsyncIterator[Ask]:
    async with settings.open(Aws(AwsSettings(), AsyncExitStack()), lambda _: None) as opened:

        async def ask() -> None:
            outcome = await opened.invoke(EVENT, "1")
            assert isinstance(outcome, Replied), outcome

        yield ask


@contextmanager
def emulating(program: Path) -> Iterator[int]:
    """The emulator with its runtime, on loopback. Yields its port."""
    port, runtime_port = free_port(), free_port()
    process = subprocess.Popen(
        [
            *(program, "--log-level", "error"),
            *("--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
            *("--runtime-api-address", f"127.0.0.1:{runtime_port}"),
            *RUNTIMES["python"],
        ],
        cwd=FUNCTIONS,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + _START
        while not listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"--emulator: {program} does not listen on {port}")
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()  # its runtime has a session of its own, which only the emulator ends
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def emulated(program: Path) -> dict[str, Variant]:
    """The emulator, asked as the bare server is and asked as a function with `url`."""
    path = "/2015-03-31/functions/function/invocations"

    @asynccontextmanager
    async def plainly() -> AsyncIterator[Ask]:
        with emulating(program) as port:
            async with asking(port, path) as ask:
                yield ask

    @asynccontextmanager
    async def as_url() -> AsyncIterator[Ask]:
        with emulating(program) as port:
            async with target(HttpFunction(name="f", url=f"http://127.0.0.1:{port}{path}")) as ask:
                yield ask

    return {"emulator": plainly, "emulator-url": as_url}


VARIANTS: dict[str, Variant] = {"bare": bare, "http": http, "python": local("python"), "node": local("node")}


async def measure(variant: Variant, calls: int) -> float:
    """Microseconds of the median call."""
    async with variant() as ask:
        for _ in range(_WARM):
            await ask()
        seen = []
        for _ in range(calls):
            began = time.perf_counter()
            await ask()
            seen.append(time.perf_counter() - began)
    return statistics.median(seen) * 1e6


async def compare(variants: dict[str, Variant], calls: int, rounds: int) -> None:
    seen: dict[str, list[float]] = {variant: [] for variant in variants}
    for turn in range(rounds):
        for variant in list(variants) if turn % 2 else reversed(variants):
            seen[variant].append(await measure(variants[variant], calls))
    print(f"{'variant':<12} {'ratio':>7} {'MAD':>7}   microseconds of each round")
    for variant, times in seen.items():
        ratios = [ours / least for ours, least in zip(times, seen["bare"], strict=True)]
        median = statistics.median(ratios)
        deviation = statistics.median([abs(ratio - median) for ratio in ratios])
        doubt = "" if deviation <= _WIDE * median else "   too unsteady to mean anything: run again"
        print(f"{variant:<12} {median:>7.2f} {deviation:>7.2f}   {' '.join(f'{each:.0f}' for each in times)}{doubt}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--emulator", metavar="PROGRAM", help="aws-lambda-rie; benchmarks/README.md says whence")
    asked = parser.parse_args()
    variants = dict(VARIANTS)
    if asked.emulator:
        program = shutil.which(asked.emulator)
        if program is None:
            parser.error(
                f"--emulator: {asked.emulator} is no program that can be run; benchmarks/README.md says whence"
            )
        variants |= emulated(Path(program).absolute())
    run_on_loop(lambda: compare(variants, asked.calls, asked.rounds))


if __name__ == "__main__":
    main()
