"""What every target promises, on each of them."""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import pytest
from aiohttp import web

from poller.aws.session import Aws, AwsSettings
from poller.model.errors import Denied
from poller.model.outcome import Failed, Replied, Unavailable
from poller.model.ports import Target
from poller.model.record import EVENT_LIMIT_BYTES
from poller.targets import TargetSettings
from poller.targets.http import HttpFunction
from poller.targets.local import LocalFunction

NOBODY = Aws(AwsSettings(), AsyncExitStack())
FUNCTIONS = str(Path(__file__).parents[1] / "functions")


def local(*command: str) -> LocalFunction:
    return LocalFunction(name="f", command=(sys.executable, *command), directory=FUNCTIONS)


@asynccontextmanager
async def opened(settings: TargetSettings) -> AsyncIterator[Target]:
    async with settings.open(NOBODY, lambda fact: None) as target:
        yield target


@asynccontextmanager
async def http() -> AsyncIterator[str]:
    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def fail(request: web.Request) -> web.Response:
        return web.json_response({"errorType": "ValueError", "errorMessage": "it is broken"}, status=500)

    async def sleep(request: web.Request) -> web.Response:
        await anyio.sleep(600)
        return web.Response()

    app = web.Application(client_max_size=2 * EVENT_LIMIT_BYTES)
    app.router.add_post("/echo", echo)
    app.router.add_post("/fail", fail)
    app.router.add_post("/sleep", sleep)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def a_target(kind: str, behaviour: str) -> AsyncIterator[Target]:
    if kind == "local":
        command = (
            ("custom_runtime.py", "echo") if behaviour == "echo" else ("-m", "awslambdaric", f"sample.{behaviour}")
        )
        async with opened(local(*command)) as target:
            yield target
    else:
        async with http() as url, opened(HttpFunction(name="f", url=f"{url}/{behaviour}")) as target:
            yield target


both = pytest.mark.parametrize("kind", ["local", "http"])


@both
@pytest.mark.parametrize("event", [b'{"Records":[]}', b' {"a" : "\xc3\xa9\\u00e9"}\n', b"", b"\x00\xff"])
async def test_event_and_reply_travel_byte_for_byte(kind, event):
    async with a_target(kind, "echo") as target:
        assert await target.invoke(event, "1") == Replied(body=event)


@both
async def test_largest_event_arrives_whole(kind):
    event = b'{"Records":["' + bytes(range(97, 123)) * (EVENT_LIMIT_BYTES // 26 - 1)
    event += b"z" * (EVENT_LIMIT_BYTES - len(event) - 3) + b'"]}'
    assert len(event) == EVENT_LIMIT_BYTES
    async with a_target(kind, "echo") as target:
        assert await target.invoke(event, "1") == Replied(body=event)


@both
async def test_failure_of_the_function_is_a_value(kind):
    async with a_target(kind, "fail") as target:
        outcome = await target.invoke(b"{}", "1")
        assert isinstance(outcome, Failed)
        assert (outcome.reason, outcome.timeout) == ("ValueError: it is broken", False)


@both
async def test_invocation_may_be_cancelled_and_the_target_goes_on(kind):
    async with a_target(kind, "sleep") as target:
        for _ in range(2):
            with anyio.move_on_after(0.3) as scope:
                await target.invoke(b'{"seconds": 600}', "1")
            assert scope.cancelled_caught


@both
async def test_check_of_a_good_target_is_silent(kind):
    async with a_target(kind, "echo") as target:
        await target.check()


@pytest.mark.parametrize(
    "settings",
    [LocalFunction(name="f", command=("no-such-command",)), HttpFunction(name="f", url="http://127.0.0.1:1/")],
    ids=["local", "http"],
)
async def test_target_that_is_not_there_is_unavailable_and_its_check_says_why(settings):
    async with opened(settings) as target:
        assert isinstance(await target.invoke(b"{}", "1"), Unavailable)
        with pytest.raises(Denied, match=r'^function "f": .+$'):
            await target.check()
