"""`poller demo`, as somebody who has just installed it runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_SUMMARY = re.compile(r"^demo-(orders|table|mail): produced (\d+), delivered (\d+)$", re.MULTILINE)


@contextmanager
def _demo(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The demo and the file it writes to; killed with everything it started, should it not have ended."""
    output = folder / "daemon-demo.output"
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "poller", "demo", *options],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            start_new_session=True,
        )
    try:
        yield process, output
    finally:
        if process.poll() is None:
            left = _family(process.pid)
            process.kill()
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        process.wait()


def _family(parent: int) -> dict[int, str]:
    """All processes below one that run, and what they are."""
    of: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue  # it has ended while we looked
        of.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found, todo = dict[int, str](), [parent]
    while todo:
        children = of.get(todo.pop(), [])
        found |= {child: command for child in children if (command := _command(child))}
        todo += children
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def _watch(process: subprocess.Popen[bytes], until: str, output: Path, within: float) -> dict[int, str]:
    """Collect every process that the demo starts, until its output holds a text or it ends."""
    family: dict[int, str] = {}
    deadline = time.monotonic() + within
    while process.poll() is None and not (until and until in output.read_text()):
        assert time.monotonic() < deadline, output.read_text()
        family |= _family(process.pid)
        time.sleep(0.1)
    return family


def _nobody_is_left(family: dict[int, str]) -> None:
    kinds = ("moto.server", "poller run", "awslambdaric")
    assert all(any(kind in command for command in family.values()) for kind in kinds), family
    deadline = time.monotonic() + 5.0
    while left := {pid: command for pid, command in family.items() if _command(pid) == command}:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.1)


def _delivered(text: str) -> dict[str, int]:
    told = {name: (int(produced), int(delivered)) for name, produced, delivered in _SUMMARY.findall(text)}
    assert told.keys() == {"orders", "table", "mail"}, text
    assert all(produced == delivered > 0 for produced, delivered in told.values()), text
    return {name: delivered for name, (_, delivered) in told.items()}


@pytest.mark.timeout(120)
def test_the_demo_ends_after_its_seconds_says_what_was_delivered_and_leaves_nobody_behind(tmp_path: Path):
    with _demo(tmp_path, "--seconds", "5") as (process, output):
        family = _watch(process, "", output, within=90.0)
        text = output.read_text()
    assert process.returncode == 0, text
    assert min(_delivered(text).values()) >= 5
    assert "status page: http://127.0.0.1:" in text
    assert "every record produced was delivered" in text
    assert "Traceback" not in text
    _nobody_is_left(family)


@pytest.mark.timeout(120)
def test_an_interrupt_ends_the_demo_with_a_summary_and_leaves_nobody_behind(tmp_path: Path):
    with _demo(tmp_path) as (process, output):
        family = _watch(process, "status page", output, within=60.0)
        began = time.monotonic()
        while time.monotonic() < began + 5.0:
            family |= _family(process.pid)
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
        family |= _watch(process, "", output, within=60.0)
        text = output.read_text()
    assert process.returncode == 0, text
    _delivered(text)
    assert "Traceback" not in text
    _nobody_is_left(family)
