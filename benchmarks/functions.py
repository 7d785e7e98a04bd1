"""What a warm local invocation costs above its handler's own time, as a ratio to a bare HTTP round trip.

`python -m benchmarks.functions [--calls 500] [--rounds 5]`

The bare round trip is the least that anybody could pay who asks another process over HTTP: a request of the same event
to a server of the standard library's sockets in a process of its own, over one kept connection. The Runtime API needs
two requests for one invocation (the answer, and the question for the next event), and a runtime that parses the event.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
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
    """One request over one connection, without a client library."""
    with server() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = b"POST / HTTP/1.1\r\nHost: f\r\nContent-Length: %d\r\n\r\n" % len(EVENT)

        async def ask() -> None:
            writer.write(head + EVENT)
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(EVENT))

        yield ask
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def http() -> AsyncIterator[Ask]:
    """The same server as a function with `url`."""
    with server() as port:
        async with target(HttpFunction(name="f", url=f"http://127.0.0.1:{port}/")) as ask:
            yield ask


def local(runtime: str) -> Callable[[], AbstractAsyncContextManager[Ask]]:
    """A function with `command`."""
    return lambda: target(LocalFunction(name="f", command=RUNTIMES[runtime], directory=str(FUNCTIONS)))


@asynccontextmanager
async def target(settings: TargetSettings) -> AsyncIterator[Ask]:
    async with settings.open(Aws(AwsSettings(), AsyncExitStack()), lambda _: None) as opened:

        async def ask() -> None:
            outcome = await opened.invoke(EVENT, "1")
            assert isinstance(outcome, Replied), outcome

        yield ask


VARIANTS: dict[str, Callable[[], AbstractAsyncContextManager[Ask]]] = {
    "bare": bare,
    "http": http,
    "python": local("python"),
    "node": local("node"),
}


async def measure(variant: str, calls: int) -> float:
    """Microseconds of the median call."""
    async with VARIANTS[variant]() as ask:
        for _ in range(_WARM):
            await ask()
        seen = []
        for _ in range(calls):
            began = time.perf_counter()
            await ask()
            seen.append(time.perf_counter() - began)
    return statistics.median(seen) * 1e6


async def compare(calls: int, rounds: int) -> None:
    seen: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for turn in range(rounds):
        for variant in list(VARIANTS) if turn % 2 else reversed(VARIANTS):
            seen[variant].append(await measure(variant, calls))
    print(f"{'variant':<8} {'ratio':>7} {'MAD':>7}   microseconds of each round")
    for variant, times in seen.items():
        ratios = [ours / least for ours, least in zip(times, seen["bare"], strict=True)]
        median = statistics.median(ratios)
        deviation = statistics.median([abs(ratio - median) for ratio in ratios])
        doubt = "" if deviation <= _WIDE * median else "   too unsteady to mean anything: run again"
        print(f"{variant:<8} {median:>7.2f} {deviation:>7.2f}   {' '.join(f'{each:.0f}' for each in times)}{doubt}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    run_on_loop(lambda: compare(asked.calls, asked.rounds))


if __name__ == "__main__":
    main()
