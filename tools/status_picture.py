"""Takes docs/images/status.png: the status page of the real daemon under the demo's traffic, one record of which is poison.

`python -m tools.status_picture`, or with the seconds of traffic that the picture shall show.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import orjson

from poller.aws.session import Aws
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
from tests.servers.chromium import chromium, page

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "status.png"
_SECONDS = 960.0
"""So long that the plots are full."""
_POISONED = 0.6
"""The share of this time after which a record comes that the function cannot take."""
_EVERY = 0.5
_WIDTH, _HEIGHT = 1200, 900
_POISON = {"customer": "ada", "amount": -12.5}
"""An order without an id."""


async def main(seconds: float) -> None:
    """Run everything, look, and write the picture."""
    os.environ.update(CREDENTIALS)
    environ = dict(os.environ)
    async with server(environ) as address, aws_at(address) as aws:
        resources = await create(aws)
        port = free_port()
        environ |= {
            "POLLER_DEMO_ENDPOINT": address,
            "POLLER_DEMO_STREAM_ARN": resources.stream_arn,
            "POLLER_DEMO_FUNCTIONS": str(ROOT / "poller" / "demo" / "functions"),
            "POLLER_DEMO_PYTHON": sys.executable,
            "POLLER_DEMO_PORT": str(port),
        }
        command = [sys.executable, "-m", "poller", "run", str(ROOT / "config" / "demo.yaml")]
        async with child(command, environ, stderr=subprocess.DEVNULL), anyio.create_task_group() as tasks:
            for mapping in (STREAM, TABLE, QUEUE):
                tasks.start_soon(_produce, aws, resources, mapping)
            await anyio.sleep(seconds * _POISONED)
            kinesis = await aws.client("kinesis")
            await kinesis.put_record(StreamName=STREAM, PartitionKey="ada", Data=orjson.dumps(_POISON))
            await anyio.sleep(seconds * (1 - _POISONED))
            await _take(f"http://127.0.0.1:{port}/")
            tasks.cancel_scope.cancel()


async def _produce(aws: Aws, resources: Resources, mapping: str) -> None:
    for number in _numbers():
        await put(aws, resources, mapping, f"{mapping}-{number}")
        await anyio.sleep(_EVERY)


def _numbers() -> Iterator[int]:
    number = 0
    while True:
        yield (number := number + 1)


async def _take(address: str) -> None:
    with chromium() as browser:
        async with page(browser, address) as view:
            await view.prefer("light")
            await view.resize(_WIDTH, _HEIGHT)
            await view.send("Emulation.setScrollbarsHidden", hidden=True)
            await view.until("document.querySelectorAll('.blocked .plot .line').length > 0")
            await view.until("document.querySelector('.blocked .line').getAttribute('d').length > 20")
            PICTURE.parent.mkdir(exist_ok=True)
            PICTURE.write_bytes(await view.picture(whole=True))


if __name__ == "__main__":
    anyio.run(main, float(sys.argv[1]) if len(sys.argv) > 1 else _SECONDS)
