"""What a mapping does besides sockets: reads are cut, batches made, told, settled and stored, with nobody at the other end.

`python -m benchmarks.inside [PATH ...] [--batches 4000] [--lines 40]` says the CPU of each path, for comparisons on one
machine, or where it goes under cProfile. `benchmarks.instructions` counts the same paths under valgrind. Source and
function answer in the next turn of the loop, as a socket would at its best; everything else is the daemon's.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import math
import os
import pstats
import random
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import anyio

from benchmarks.hot_path import ARNS, answers, cutter
from poller.fleet.fleet import Fleet, Identity, Time
from poller.mapping.budget import Budget
from poller.mapping.run import run_mapping
from poller.mapping.stop import Stop
from poller.mapping.tools import Tools
from poller.model.outcome import Outcome, Replied
from poller.model.policy import Policy
from poller.model.ports import Admit, Observe, Unsettled
from poller.model.record import Cursor, Page, Partition, Record, Topology, TrimHorizon
from poller.model.trace import Trace
from poller.service.app import elapsed, new_id
from poller.service.board import MappingView
from poller.service.loop import run_on_loop
from poller.service.observers import Observers
from poller.stores.memory import MemoryStore

STRETCHES = (100, 500)
"""Batches between two calls of `getloadavg`; reads where nothing comes."""


@dataclass(frozen=True, kw_only=True)
class Path:
    """What is gone through, once for each batch."""

    source: str
    batch_size: int = 100
    records: int
    """Of each read; 0: nothing is ever there."""
    shards: int = 1
    poll_interval: float = 1.0

    @property
    def batches(self) -> int:
        """Of each read, whose part is counted with each."""
        return max(1, self.records // self.batch_size)


PATHS: Mapping[str, Path] = {
    "kinesis-b100": Path(source="kinesis", batch_size=100, records=500),
    "kinesis-b1": Path(source="kinesis", batch_size=1, records=1),
    "dynamodb-b100": Path(source="dynamodb", batch_size=100, records=500),
    "sqs-b10": Path(source="sqs", batch_size=10, records=10),
    # Counted are seconds 4 to 14 less 2 to 4: shards are listed after 1, 3, 7 and 15, so once in either.
    "idle-kinesis": Path(source="kinesis", records=0, shards=50),
}


async def _turn() -> None:
    """Come back in the loop's next turn, as from a socket."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.call_soon(_answer, ready)
    await ready


def _answer(ready: asyncio.Future[None]) -> None:
    if not ready.done():  # whoever waited may have been stopped
        ready.set_result(None)


class _Source:
    """Brings page after page, then sets the stop."""

    def __init__(self, path: Path, reads: int, mark: Callable[[int], None], stop: Stop) -> None:
        self.redelivers = path.source == "sqs"
        self.ordered = False
        self._bodies = answers(path.source, path.records, reads if path.records else 1)
        self._shards = tuple(Partition(id=f"shardId-{number:020d}") for number in range(path.shards))
        self._cut = cutter(path.source, max(1, path.records))
        self._batches = path.batches
        self._reads, self._mark, self._stop = reads, mark, stop
        self._done = 0

    async def topology(self) -> Topology:
        return Topology(partitions=self._shards, retention=86_400.0, lease=360.0, identity="1")

    async def latest(self, partition: str) -> Cursor:
        return Cursor(position=TrimHorizon())

    async def read(self, partition: str, cursor: Cursor, limit: int, admit: Admit) -> Page:
        body = self._bodies[min(self._done, len(self._bodies) - 1)]
        await admit(len(body))
        await _turn()
        if self._done == self._reads:
            self._stop.set()
            return Page(records=(), cursor=cursor, full=False)
        for number in range(self._done * self._batches, (self._done + 1) * self._batches):
            self._mark(number)
        self._done += 1
        return self._cut(body)

    async def delete(self, records: Sequence[Record]) -> Sequence[Unsettled]:
        await _turn()
        return ()

    async def release(self, records: Sequence[Record]) -> None:
        pass

    async def extend(self, records: Sequence[Record], seconds: int) -> Sequence[Unsettled]:
        return ()

    async def check(self) -> None:
        pass


class _Target:
    async def invoke(self, event: bytes, request_id: str, trace: Trace | None = None) -> Outcome:
        await _turn()
        return Replied(body=b"null", version="$LATEST")

    async def check(self) -> None:
        return None


def _observe() -> Observe:
    """Facts go where the daemon's go."""
    observers = Observers(time.time)
    observers.board.configured([MappingView(name="load", uuid="", configuration={}, enabled=True)])
    return observers.observe


async def go(path: Path, batches: int, mark: Callable[[int], None]) -> None:
    """Go through a path.

    Args:
        batches: how often; as many as whole reads bring.
        mark: is told the number of each batch that a read is about to bring, from 0.
    """
    observe, chance = _observe(), random.Random(1).random
    async with MemoryStore().open() as store, anyio.create_task_group() as tasks:
        clocks = Time(clock=time.time, elapsed=elapsed, chance=chance)
        fleet = Fleet(store, Identity(name="alone", boot="boot"), clocks, observe)
        await tasks.start(fleet.run)
        stop = Stop()
        tools = Tools(
            mapping="load",
            uuid="",
            source_name=ARNS[path.source],
            function_name="function",
            policy=Policy(batch_size=path.batch_size, start=TrimHorizon(), poll_interval=path.poll_interval),
            source=_Source(path, math.ceil(batches / path.batches), mark, stop),
            target=_Target(),
            store=store,
            fleet=fleet,
            budget=Budget(256 * 1024 * 1024),
            observe=observe,
            clock=time.time,
            now=asyncio.get_running_loop().time,
            chance=chance,
            new_id=new_id,
            stop=stop,
        )
        await run_mapping(tools)
        tasks.cancel_scope.cancel()


def measured(run: Callable[[int, Callable[[int], None]], None], times: int, profile: cProfile.Profile | None) -> float:
    """Microseconds of CPU for each time, the first tenth left out.

    Args:
        run: does it so many times, and tells each time's number before it, from 0.
    """
    at: list[float] = []

    def mark(number: int) -> None:
        if number in (times // 10, times - 1):
            at.append(time.process_time())
            if profile and number < times - 1:
                profile.enable()
            elif profile:
                profile.disable()

    run(times, mark)
    return (at[1] - at[0]) * 1e6 / (times - 1 - times // 10)


def show(profile: cProfile.Profile, times: int, lines: int) -> None:
    """Print where the time went, for each of so many times."""
    stats = pstats.Stats(profile)
    rows = sorted(stats.stats.items(), key=lambda row: -row[1][2])  # type: ignore[attr-defined]
    print(f"  calls of Python and C functions each time: {stats.total_calls / times:.0f}")  # type: ignore[attr-defined]
    print(f"  {'own us':>8} {'us':>8} {'calls':>7}")
    for (file, line, name), (_, calls, own, whole, _) in rows[:lines]:
        where = "/".join(file.split("/")[-2:])
        print(f"  {own * 1e6 / times:>8.2f} {whole * 1e6 / times:>8.2f} {calls / times:>7.2f}  {where}:{line} {name}")


def counted(run: Callable[[int, Callable[[int], None]], None], stretches: tuple[int, int], control: str) -> None:
    """Run with a call of `getloadavg` before and behind two stretches, as `benchmarks.instructions` asks.

    Args:
        run: as for `measured`.
        control: callgrind_control, which has valgrind, under which this process runs, count once caches are warm.
    """
    begin = stretches[0]
    places = (begin, begin + stretches[0], begin + sum(stretches))

    def mark(number: int) -> None:
        if number == begin:
            subprocess.run([control, "-i", "on", str(os.getpid())], check=True, stdout=subprocess.DEVNULL)
        if number in places:
            os.getloadavg()

    run(places[-1] + 1, mark)


def _through(name: str) -> Callable[[int, Callable[[int], None]], None]:
    return lambda batches, mark: run_on_loop(lambda: go(PATHS[name], batches, mark))


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU of a mapping's own work, without sockets.")
    parser.add_argument("paths", nargs="*", metavar="PATH", help=f"of {', '.join(PATHS)}; default: all")
    parser.add_argument("--batches", type=int, default=4000)
    parser.add_argument("--lines", type=int, default=0, help="of a profile")
    parser.add_argument("--control", help="callgrind_control, which starts the counting")
    asked = parser.parse_args()
    if unknown := set(asked.paths) - set(PATHS):
        parser.error(f"no path {', '.join(sorted(unknown))}; there are {', '.join(PATHS)}")
    if asked.control:
        gc.disable()  # when it runs depends on what else was imported
        counted(_through(asked.paths[0]), STRETCHES, asked.control)
        return
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)  # as the daemon has it
    for name in asked.paths or PATHS:
        profile = cProfile.Profile() if asked.lines else None
        print(f"{name:<15} {measured(_through(name), asked.batches, profile):8.1f} us for each batch and its read")
        if profile:
            show(profile, asked.batches * 9 // 10, asked.lines)


if __name__ == "__main__":
    main()
