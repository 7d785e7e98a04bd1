"""A process that hosts a local function, for tests that kill it: `hosting.py FILE` invokes `sample.breed` with FILE."""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from poller.aws.session import Aws, AwsSettings
from poller.targets.local import LocalFunction


async def host(file: str) -> None:
    function = LocalFunction(
        name="sample",
        command=(sys.executable, "-m", "awslambdaric", "sample.breed"),
        directory=str(Path(__file__).parent),
        timeout=600,
    )
    async with function.open(Aws(AwsSettings(), AsyncExitStack()), lambda fact: None) as target:
        await target.invoke(json.dumps({"file": file, "seconds": 600}).encode(), "hosted")


if __name__ == "__main__":
    asyncio.run(host(sys.argv[1]))
