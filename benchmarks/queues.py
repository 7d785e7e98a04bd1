"""A load through the real daemon on a real SQS-compatible server: all processed, none stuck, duplicates counted.

`python -m benchmarks.queues [--messages 5000]`: first a FIFO queue with a group for every hundred messages and 5 % of
failing batches, then a standard queue whose function throttles. ministack serves some hundred messages a second on one
core, so the whole hundred thousand run in virtual time, in `tests/pipeline/test_queue_load.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from pathlib import Path

from tests.servers.loaded import CREDENTIALS
from tests.servers.processes import MINISTACK, serving
from tests.system.cloud import Cloud, clouded
from tests.system.daemon import started, write
from tests.system.functions import Delivery, functions
from tests.system.settings import queue, settings
from tests.system.test_queues import create, fill

_PATIENCE = 3600.0
"""Seconds until a message counts as stuck."""


async def measure(cloud: Cloud, name: str, messages: int, status: int) -> None:
    """Fill a queue, run the daemon on it until it is empty, and print what was seen."""
    dice = random.Random(1)

    async def behave(_: Delivery) -> int:
        return status if dice.random() < 0.05 else 200

    arn = await create(cloud, name, VisibilityTimeout="5")
    await fill(
        cloud,
        name,
        [str(number) for number in range(messages)],
        groups=max(1, messages // 100) if name.endswith(".fifo") else 0,
    )
    with tempfile.TemporaryDirectory() as folder:
        async with functions() as called:
            called.behave = behave
            config = write(Path(folder) / "c.yaml", settings(cloud, called, {"m": queue(arn, "f")}))
            async with started(config, **CREDENTIALS) as daemon:
                began = time.monotonic()
                while await cloud.left(name):
                    if time.monotonic() > began + _PATIENCE:
                        raise SystemExit(f"{name}: {await cloud.left(name)} messages are stuck")
                    await asyncio.sleep(0.5)
                seconds = time.monotonic() - began
                await daemon.stop(within=60)
            done = called.texts("f")
            unsent = sum(len(each.records) for each in called.of("f", status))
    missing = messages - len(set(done))
    print(
        f"{name}: {messages} messages in {seconds:.0f} s, {missing} missing, {len(done) - len(set(done))} processed"
        f" twice, {unsent} deliveries answered {status}",
        flush=True,
    )


async def run(messages: int) -> None:
    """Both loads, one after the other."""
    with serving(MINISTACK) as server:
        async with clouded(server.url) as cloud:
            await measure(cloud, "load.fifo", messages, 500)
            await measure(cloud, "load", messages, 429)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=5000)
    asyncio.run(run(parser.parse_args().messages))


if __name__ == "__main__":
    main()
