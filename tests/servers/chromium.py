"""Debian's Chromium as a child process, and a page in it that is driven through the DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.servers.processes import Program, Server, serving

_LOOK = 0.03
"""Seconds between two looks at something that is waited for."""
_QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--user-data-dir=profile",
]
_KEYS = {"Enter": (13, "\r"), "Tab": (9, ""), " ": (32, " "), "Escape": (27, "")}
"""The keys that are not letters: code and text."""


@contextmanager
def chromium() -> Iterator[Server]:
    """Start a browser without a window, in a folder of its own that is gone with it."""
    program = shutil.which("chromium")
    if program is None:
        raise RuntimeError("Chromium is not installed: run tests/servers/debian.sh")
    command = [program, *_QUIET]
    started = Program(
        name="chromium",
        command=lambda port: [*command, f"--remote-debugging-port={port}", "about:blank"],
        path="/json/version",
    )
    with serving(started) as server:
        yield server


@dataclass(slots=True)
class Page:
    """A page of the browser."""

    _socket: aiohttp.ClientWebSocketResponse
    problems: list[str] = field(default_factory=list)
    """What the browser complained of: the script's errors, and what the page's policy forbade."""
    _answers: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    _sent: int = 0

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A call of the protocol, and its result."""
        self._sent += 1
        answer = self._answers[self._sent] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._sent, "method": method, "params": parameters})
        async with asyncio.timeout(20):
            told = await answer
        assert "error" not in told, f"{method}: {told['error']}"
        result: dict[str, Any] = told["result"]
        return result

    async def listen(self) -> None:
        """Take what the browser says, until it is closed."""
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told)
                continue
            match told["method"], told["params"]:
                case "Runtime.exceptionThrown", {"exceptionDetails": details}:
                    self.problems.append(str(details.get("exception", {}).get("description", details["text"])))
                case "Log.entryAdded", {"entry": {"level": "error", "source": source, "text": text}}:
                    if source != "network":  # a daemon that is stopped on purpose
                        self.problems.append(f"{source}: {text}")
                case "Runtime.consoleAPICalled", {"type": "error", "args": arguments}:
                    self.problems.append(str(arguments))
                case _:
                    pass

    async def open(self, url: str) -> None:
        """Go there."""
        for domain in ("Page", "Runtime", "Log"):
            await self.send(f"{domain}.enable")
        await self.send("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def ask(self, expression: str) -> Any:
        """What an expression is in the page, as JSON."""
        told = await self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, f"{expression}: {told['exceptionDetails']}"
        return told["result"].get("value")

    async def until(self, expression: str, within: float = 15.0) -> Any:
        """The same, once it is true."""
        deadline = time.monotonic() + within
        while not (found := await self.ask(expression)):
            assert time.monotonic() < deadline, f"not within {within:g} s: {expression}\n{await self.text()}"
            await asyncio.sleep(_LOOK)
        return found

    async def text(self, selector: str = "body") -> str:
        """What a reader sees of an element."""
        return str(await self.ask(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    async def press(self, *keys: str, shift: bool = False) -> None:
        """Press keys, one after the other."""
        for key in keys:
            code, text = _KEYS[key] if key in _KEYS else (ord(key.upper()), key)
            told = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
            await self.send("Input.dispatchKeyEvent", type="keyDown", **told, **({"text": text} if text else {}))
            await self.send("Input.dispatchKeyEvent", type="keyUp", **told)

    async def resize(self, width: int, height: int, *, scale: float = 1.0, mobile: bool = False) -> None:
        """Make the window so large, in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile}
        await self.send("Emulation.setDeviceMetricsOverride", **size)

    async def prefer(self, scheme: str) -> None:
        """Say that the reader prefers `dark` or `light`."""
        await self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def hide(self) -> None:
        """Nobody sees the page, as when another tab is before it."""
        window = (await self.send("Browser.getWindowForTarget"))["windowId"]
        await self.send("Browser.setWindowBounds", windowId=window, bounds={"windowState": "minimized"})

    async def reveal(self) -> None:
        """It is seen again."""
        window = (await self.send("Browser.getWindowForTarget"))["windowId"]
        await self.send("Browser.setWindowBounds", windowId=window, bounds={"windowState": "normal"})

    async def picture(self, *, whole: bool = False) -> bytes:
        """A PNG of what is seen, or of the whole page."""
        told = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(told["data"])


@asynccontextmanager
async def page(browser: Server, url: str) -> AsyncIterator[Page]:
    """Open a page; it is closed at the end."""
    async with aiohttp.ClientSession() as http:
        async with http.put(f"{browser.url}/json/new?about:blank") as answer:
            target = await answer.json()
        async with http.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            opened = Page(socket)
            listening = asyncio.create_task(opened.listen())
            try:
                await opened.open(url)
                yield opened
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
        async with http.get(f"{browser.url}/json/close/{target['id']}"):
            pass
