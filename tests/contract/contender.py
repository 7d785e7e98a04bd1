"""A process that counts up in a row that others count up in, too, all beginning at once: ADDRESS KEY TIMES PROCESSES."""

from __future__ import annotations

import os
import sys

import anyio

from poller.model.errors import Superseded, Transient
from tests import conftest as _environment  # noqa: F401  # throw-away credentials
from tests.contract.stores import opened, patiently


async def main(address: str, key: str, times: int, processes: int) -> None:
    async with opened(address) as store:
        await patiently(lambda: store.put(f"ready/{os.getpid()}", b"", 0))
        while len([key async for key, _ in store.scan("ready/")]) < processes:
            await anyio.sleep(0.01)
        done = 0
        while done < times:
            row = await store.get(key)
            value, version = (int(row.value), row.version) if row else (0, 0)
            try:
                await store.put(key, str(value + 1).encode(), version)
            except (Superseded, Transient):
                continue
            done += 1


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
