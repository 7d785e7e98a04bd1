"""The daemon as a process: started, asked, signalled, and gone with the test that started it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

T = TypeVar("T")
_LOOK = 0.02
"""Seconds between two looks at something that is waited for."""


async def waited(what: str, look: Callable[[], T], within: float = 20.0) -> T:
    """What `look` answers, once that is true. Fails with `what`."""
    deadline = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        await asyncio.sleep(_LOOK)
    return found


def write(path: Path, document: Mapping[str, Any]) -> Path:
    """A configuration: JSON is YAML."""
    path.write_text(json.dumps(document, indent=1))
    return path


class Daemon:
    """A process of `poller run` that was started."""

    def __init__(self, process: subprocess.Popen[bytes], stdout: Path, stderr: Path, http: aiohttp.ClientSession):
        self.process = process
        self.began = time.time()
        self._stdout = stdout
        self._stderr = stderr
        self._http = http

    def output(self) -> str:
        """Everything it said so far."""
        return self._stderr.read_text(errors="replace") + self._stdout.read_text(errors="replace")

    def lines(self, message: str = "", **fields: Any) -> list[dict[str, Any]]:
        """The lines of its log that say this and have these fields."""
        *whole, _ = self._stderr.read_text(errors="replace").split("\n")
        parsed = [json.loads(line) for line in whole if line.startswith("{")]
        return [
            line
            for line in parsed
            if line["message"].startswith(message) and all(line.get(name) == value for name, value in fields.items())
        ]

    async def line(self, message: str, *, count: int = 1, within: float = 20.0, **fields: Any) -> dict[str, Any]:
        """The `count`th such line, which may be yet to come."""

        def look() -> list[dict[str, Any]]:
            found = self.lines(message, **fields)
            assert len(found) >= count or self.process.poll() is None, f"ended without {message!r}:\n{self.output()}"
            return found[count - 1 : count]

        return (await waited(f"the line {message!r} {fields}", look, within))[0]

    async def address(self) -> str:
        """Where it serves now."""
        await self.line("listening")
        return str(self.lines("listening")[-1]["address"]).rstrip("/")

    async def get(self, path: str, address: str = "") -> tuple[int, str]:
        """Status and body of an answer of its HTTP server."""
        async with self._http.get((address or await self.address()) + path) as answer:
            return answer.status, await answer.text()

    async def metrics(self) -> dict[tuple[str, ...], float]:
        """The series of /metrics: (name, then the labels' values in the order of their names)."""
        _, text = await self.get("/metrics")
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def metric(self, name: str, *labels: str, is_: Callable[[float], bool], within: float = 20.0) -> float:
        """The value of a series, once it is as asked for."""
        deadline = time.monotonic() + within
        while (value := (await self.metrics()).get((name, *labels))) is None or not is_(value):
            assert time.monotonic() < deadline, f"not within {within:g} s: {name} {labels}, it is {value}"
            await asyncio.sleep(_LOOK * 5)
        return value

    async def mapping(self, name: str) -> dict[str, Any]:
        """What /api/mappings says of a mapping."""
        _, text = await self.get("/api/mappings")
        found: dict[str, Any] = next(mapping for mapping in json.loads(text) if mapping["name"] == name)
        return found

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL, and nothing of it runs when this returns."""
        self.process.kill()
        await self.exit_code(within=10.0)

    async def exit_code(self, within: float = 30.0) -> int:
        """How it ended, once it has."""
        await waited("the end of the process", lambda: self.process.poll() is not None, within)
        return self.process.returncode

    async def stop(self, within: float = 30.0) -> None:
        """SIGTERM, and a clean end."""
        self.send(signal.SIGTERM)
        code = await self.exit_code(within)
        assert code == 0, f"exit code {code}:\n{self.output()}"


@asynccontextmanager
async def started(config: Path, *options: str, **environment: str) -> AsyncIterator[Daemon]:
    """Start `poller run CONFIG`; it is killed at the end. What it says lies beside CONFIG, and holds no traceback."""
    number = len(list(config.parent.glob("daemon-*.stderr")))
    stdout, stderr = (config.parent / f"daemon-{number}.{end}" for end in ("stdout", "stderr"))
    with stdout.open("wb") as out, stderr.open("wb") as err:
        process = subprocess.Popen(  # noqa: ASYNC220  # it returns at once, and is waited for by looking
            [sys.executable, "-m", "poller", "run", str(config), *options],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=os.environ | environment,
            start_new_session=True,
        )
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(force_close=True)) as http:
        daemon = Daemon(process, stdout, stderr, http)
        try:
            yield daemon
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    told = daemon.output()
    assert "Traceback" not in told, told
    assert '"exception"' not in told, told
    assert not stdout.read_text(), "standard output is not for the log"


def finished(*arguments: str, within: float = 30.0, **environment: str) -> subprocess.CompletedProcess[str]:
    """`poller ARGUMENTS`, run to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "poller", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
        env=os.environ | environment,
        start_new_session=True,
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done
