"""What an idle shard, a queue's mapping and a held long poll take of RAM: two sizes of each, and the difference.

`python -m benchmarks.resident [shard | queue | poll ...] [--rounds 3]`

A shard or a queue is one more of the daemon's, empty and read for a while; a poll is ReceiveMessage of the fast client
alone, held by the server, in a process that does nothing else (`--hold URL COUNT`, which is that process).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scenarios import Target
from poller.aws.session import Aws, AwsSettings
from poller.service.loop import run_on_loop
from tests.servers.loaded import CREDENTIALS, Double, configuration, daemon, load, memory, of_queues, until

_ROOT = Path(__file__).parents[1]
_READS = 8
"""Of each, before the first look."""
_HELD = 3.0
"""Seconds for which a queue is silent."""
_PATIENCE = 300.0


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is counted."""

    says: str
    few: int
    many: int
    resident: Callable[[int], int]
    """Bytes in RAM of a process with so many."""
    target: Target | None = None
    """Of KiB."""


def _shards(count: int) -> int:
    with load(shards=count, record_bytes=1024) as double, daemon(configuration(double)) as process:
        until(lambda: double.totals()["reads"] >= count * _READS, patience=_PATIENCE, every=0.5)
        return process.resident_bytes()


def _queues(count: int) -> int:
    with (
        load(shards=1, record_bytes=1024, long_poll=_HELD) as double,
        daemon(of_queues(double, count)) as process,
    ):
        _held(double, count)
        return process.resident_bytes()


def _polls(count: int) -> int:
    command = [sys.executable, "-m", "benchmarks.resident", "--hold"]
    with (
        load(shards=1, record_bytes=1024, long_poll=_HELD) as double,
        subprocess.Popen([*command, double.url, str(count)], cwd=_ROOT, env={**os.environ, **CREDENTIALS}) as process,
    ):
        try:
            _held(double, count)
            return memory(process.pid)
        finally:
            process.kill()


def _held(double: Double, count: int) -> None:
    """Wait until so many calls are held, not for the first time."""
    until(
        lambda: (told := double.totals())["reads"] >= 2 * count and bool(told["waiting"] >= count),
        patience=_PATIENCE,
        every=0.1,
    )


async def _hold(url: str, count: int) -> int:
    """Receive from an empty queue, again and again, in so many tasks."""
    async with AsyncExitStack() as stack:
        calls = await Aws(AwsSettings(region="eu-west-1", endpoint_url=url), stack).calls()

        async def admit(size_bytes: int) -> None:
            """There is room."""

        async def receive() -> None:
            while True:
                await calls.receive_message(f"{url}/1/load", count=10, wait=20, admit=admit)

        await asyncio.gather(*(receive() for _ in range(count)))
    return 0


KINDS = {
    "shard": Kind(
        says="an idle shard of the daemon", few=200, many=2200, resident=_shards, target=Target(must=6.0, want=3.0)
    ),
    "queue": Kind(says="a mapping of an empty queue", few=50, many=450, resident=_queues),
    "poll": Kind(
        says="a held long poll, of the client alone",
        few=50,
        many=450,
        resident=_polls,
        target=Target(must=8.0, want=4.0),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; default: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hold", nargs=2, metavar=("URL", "COUNT"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.hold:
        url, count = asked.hold
        sys.exit(run_on_loop(lambda: _hold(url, int(count))))
    told, holds = {}, True
    print(f"{'KiB of RAM':<40} {'median':>8} {'spread':>14} {'must':>6} {'want':>6}")
    for name in asked.kinds or KINDS:
        kind = KINDS[name]
        seen = [
            (kind.resident(kind.many) - kind.resident(kind.few)) / (kind.many - kind.few) / 1024
            for _ in range(asked.rounds)
        ]
        median = statistics.median(seen)
        told[name] = [round(each, 2) for each in seen]
        line = f"{kind.says:<40} {median:>8.1f} {f'{min(seen):.1f}..{max(seen):.1f}':>14}"
        if kind.target:
            fits = median <= kind.target.must
            holds &= fits
            line += f" {kind.target.must:>6.1f} {kind.target.want:>6.1f}  {'holds' if fits else 'DOES NOT HOLD'}"
        print(line, flush=True)
    print(json.dumps({"schema": 1, "kib": told}))
    sys.exit(not holds)


if __name__ == "__main__":
    main()
