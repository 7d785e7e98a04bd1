"""The kinds of targets with the same handler behind each: what their common suite runs on."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
from aiohttp import web

from poller.aws.session import Aws, AwsSettings, open_aws
from poller.model.ports import Target
from poller.model.record import EVENT_LIMIT_BYTES
from poller.targets.aws_lambda import LambdaFunction
from poller.targets.http import HttpFunction
from poller.targets.local import LocalFunction
from tests.servers.npm import HERE, NODE

NOBODY = Aws(AwsSettings(), AsyncExitStack())
FUNCTIONS = Path(__file__).parents[1] / "functions"
RUNTIMES = {
    "python": (sys.executable, "-m", "awslambdaric", "contract.handler"),
    "node": (str(NODE), str(HERE / "node_modules" / "aws-lambda-ric" / "index.mjs"), "contract.handler"),
}
KINDS = ("python", "node", "http", "lambda")


@asynccontextmanager
async def a_target(
    kind: str, *, lambda_url: str, timeout: float = 20.0, concurrency: int = 1, slow_start: float = 0.0
) -> AsyncIterator[Target]:
    """A function of one kind, alone with its handler."""
    match kind:
        case "http":
            async with (
                _http_server(slow_start) as url,
                HttpFunction(name="f", url=url, timeout=timeout).open(NOBODY, _ignore) as target,
            ):
                yield target
        case "lambda":
            settings = AwsSettings(region="eu-west-1", endpoint_url=lambda_url)
            async with (
                open_aws(settings) as aws,
                _uploaded(aws, timeout, slow_start) as name,
                LambdaFunction(name="f", function=name, timeout=timeout + 20).open(aws, _ignore) as target,
            ):
                yield target
        case _:
            function = LocalFunction(
                name="f",
                command=RUNTIMES[kind],
                directory=str(FUNCTIONS),
                timeout=timeout,
                concurrency=concurrency,
                environment=(("SLOW_START", str(slow_start)),),
            )
            async with function.open(NOBODY, _ignore) as target:
                yield target


@asynccontextmanager
async def _uploaded(aws: Aws, timeout: float, slow_start: float) -> AsyncIterator[str]:
    client, name = await aws.client("lambda"), f"contract-{uuid4().hex[:8]}"
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.write(FUNCTIONS / "contract.py", "contract.py")
    await client.create_function(
        FunctionName=name,
        Runtime=f"python{sys.version_info.major}.{sys.version_info.minor}",
        Role="arn:aws:iam::000000000000:role/f",
        Handler="contract.handler",
        Code={"ZipFile": package.getvalue()},
        Timeout=max(1, int(timeout)),
        Environment={"Variables": {"SLOW_START": str(slow_start)}},
    )
    try:
        yield name
    finally:
        await client.delete_function(FunctionName=name)


@asynccontextmanager
async def _http_server(slow_start: float) -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal slow_start
        event = await request.json()
        delay, slow_start = slow_start, 0.0
        await anyio.sleep(delay)
        return await _answer(event, request)

    app = web.Application(client_max_size=2 * EVENT_LIMIT_BYTES)
    app.router.add_post("/", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def _answer(event: dict[str, Any], request: web.Request) -> web.StreamResponse:
    match event["do"]:
        case "partial":
            return web.json_response({"batchItemFailures": [{"itemIdentifier": "2"}]})
        case "fail":
            return web.json_response({"errorType": "ValueError", "errorMessage": "it is broken"}, status=500)
        case "hang":
            await anyio.sleep(600)
        case "crash":
            assert request.transport is not None
            request.transport.abort()
        case "garbage":
            assert request.transport is not None
            request.transport.write(b"this is not HTTP\r\n\r\n")
            request.transport.close()
        case "count":
            return web.json_response(len(event["value"]))
        case "large":
            return web.json_response(["x" * event["size"]])
        case "slow":
            await anyio.sleep(0.05)
        case _:
            pass
    return web.json_response(event.get("value"))


def _ignore(fact: object) -> None:
    """The suite looks at outcomes alone."""
