"""What a hot call costs by itself: the fast form against the load double, over sockets, with nothing done with the answers.

`python -m benchmarks.calls [CALL ...] [--calls 4000] [--lines 40]` says the CPU of each call, user and system, for
comparisons on one machine, or where it goes under cProfile. `benchmarks.instructions` counts the same calls under
valgrind, which does not see what the kernel does for them.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeAlias

import anyio

from benchmarks.inside import counted, measured, show
from poller.aws.calls import HotCalls
from poller.aws.session import AwsSettings, open_aws
from poller.service.loop import run_on_loop
from tests.servers.loaded import CREDENTIALS, load

STRETCHES = (100, 500)
"""Calls between two calls of `getloadavg`."""
_CALLERS = 4
_SHARD = "shardId-00000000000000000000"
_QUEUE = "http://127.0.0.1/1/load"
_RECEIPTS = [f"{number:032x}" * 5 for number in range(10)]

Call: TypeAlias = Callable[[HotCalls], Awaitable[object]]


async def _admit(_: int) -> None:
    pass


CALLS: Mapping[str, Call] = {
    "get-records-0": lambda calls: calls.get_records("kinesis", f"{_SHARD}/10000000", 100, _admit),
    "get-records-100": lambda calls: calls.get_records("kinesis", f"{_SHARD}/0", 100, _admit),
    "receive-10": lambda calls: calls.receive_message(_QUEUE, count=10, wait=20, admit=_admit),
    "delete-10": lambda calls: calls.delete_message_batch(_QUEUE, _RECEIPTS),
    "invoke-1k": lambda calls: calls.invoke("function", b"x" * 1024, timeout=900),
    "invoke-140k": lambda calls: calls.invoke("function", b"x" * 143_360, timeout=900),
}
COUNTED = tuple(name for name in CALLS if name != "invoke-140k")
"""What valgrind counts well: the digest of a large event is OpenSSL's, and depends on what the processor can do."""


async def go(name: str, url: str, calls: int, mark: Callable[[int], None]) -> None:
    """Make so many calls, some at a time.

    Args:
        url: of the load double.
        mark: is told the number of each call that is about to be made, from 0.
    """
    call, made = CALLS[name], 0
    async with open_aws(AwsSettings(region="eu-west-1", endpoint_url=url)) as aws, anyio.create_task_group() as tasks:
        hot = await aws.calls()

        async def caller() -> None:
            nonlocal made
            while made < calls:
                mark(made)
                made += 1
                await call(hot)

        for _ in range(_CALLERS):
            tasks.start_soon(caller)


def _run(name: str, calls: int, mark: Callable[[int], None]) -> None:
    with load(shards=1, record_bytes=1024) as double:
        double.fill(10 * calls)  # enough messages for every receive
        run_on_loop(lambda: go(name, double.url, calls, mark))


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU of a hot call, sockets included.")
    parser.add_argument("calls", nargs="*", metavar="CALL", help=f"of {', '.join(CALLS)}; default: all")
    parser.add_argument("--calls", type=int, default=4000, dest="count", metavar="N", help="of each")
    parser.add_argument("--lines", type=int, default=0, help="of a profile")
    parser.add_argument("--control", help="callgrind_control, which starts the counting")
    asked = parser.parse_args()
    if unknown := set(asked.calls) - set(CALLS):
        parser.error(f"no call {', '.join(sorted(unknown))}; there are {', '.join(CALLS)}")
    os.environ.update(CREDENTIALS)  # as the daemon is given them
    if asked.control:
        gc.disable()  # when it runs depends on what else was imported
        counted(partial(_run, asked.calls[0]), STRETCHES, asked.control)
        return
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)  # as the daemon has it
    for name in asked.calls or CALLS:
        profile = cProfile.Profile() if asked.lines else None
        print(f"{name:<15} {measured(partial(_run, name), asked.count, profile):8.1f} us for each call")
        if profile:
            show(profile, asked.count * 9 // 10, asked.lines)


if __name__ == "__main__":
    main()
