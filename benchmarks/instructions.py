"""Holds the hot path to a budget of instructions: counted by valgrind, they are the same on a busy machine as on an idle one.

`python -m benchmarks.instructions [--write] [--only NAME ...]`. What is counted is in `hot_path.py`, which only computes,
per record; in `inside.py`, all that a mapping does besides sockets, per batch and its part of a read; and in `calls.py`,
the hot calls over sockets, per call, without the kernel's part (and without large events, whose digest would be all there
is). A figure is the difference between a long stretch and a short one, so that neither the start nor the counting is in
it. Two runs differ by less than 0.01 % where there is only computing, and by less than 1 % where there is an event loop.
Interpreters differ by more than the budget allows: each kind has its own, and one without is told so and not judged.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import calls, inside
from benchmarks.calls import COUNTED
from benchmarks.hot_path import RECORDS, ROUNDS
from benchmarks.inside import PATHS

BUDGETS = Path(__file__).with_name("instructions.json")
ALLOWED = 0.05
"""Of the budget, more or less: less, too, so that what was gained is written down and stays."""
_PATIENCE = 300.0
_AT_ONCE = 2
_PER = dict.fromkeys(RECORDS, "record") | dict.fromkeys(PATHS, "batch and its read") | dict.fromkeys(COUNTED, "call")
"""What each name is counted for."""


def interpreter() -> str:
    """What the count depends on besides the code: the interpreter, how it was built, and for which machine."""
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    built = "optimized" if "--enable-optimizations" in options else "plain"
    python = ".".join(platform.python_version_tuple()[:2])
    return f"{platform.python_implementation()} {python} {built} {platform.machine()}"


def count(only: Sequence[str] = ()) -> dict[str, float]:
    """Instructions by name: per record of what only computes, per batch of a mapping's whole path, per call.

    Raises:
        SystemExit: there is no valgrind, or it failed.
    """
    computing = not only or set(only) & set(RECORDS)
    paths = [(module, name) for module, names in ((inside, PATHS), (calls, COUNTED)) for name in names]
    with ThreadPoolExecutor(_AT_ONCE) as runs:
        computed = runs.submit(_totals, "benchmarks.hot_path", [*RECORDS], 2 * len(RECORDS)) if computing else None
        walked = {
            name: (module, runs.submit(_totals, module.__name__, [name], 2))
            for module, name in paths
            if not only or name in only
        }
    counted: dict[str, float] = {}
    if computed:
        totals, more = computed.result(), ROUNDS[1] - ROUNDS[0]
        for place, (source, records) in enumerate(RECORDS.items()):
            counted[source] = (totals[2 * place + 1] - totals[2 * place]) / (more * records)
    for name, (module, done) in walked.items():
        short, long = done.result()
        counted[name] = (long - short) / (module.STRETCHES[1] - module.STRETCHES[0])
    return {name: round(value, 1) for name, value in counted.items()}


def _totals(module: str, arguments: Sequence[str], stretches: int) -> list[int]:
    """Instructions between every two calls of `getloadavg`, of which the module makes one before and behind each stretch."""
    valgrind, control = shutil.which("valgrind"), shutil.which("callgrind_control")
    if valgrind is None or control is None:
        raise SystemExit("benchmarks.instructions needs valgrind: tests/servers/debian.sh installs it")
    with tempfile.TemporaryDirectory() as folder:
        command = [valgrind, "--tool=callgrind", "--instr-atstart=no", "--dump-before=getloadavg"]
        command += [f"--callgrind-out-file={folder}/out", sys.executable, "-m", module, *arguments]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(
            [*command, "--control", control],
            cwd=Path(__file__).parents[1],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"valgrind failed: {done.stderr[-2000:]}")
        return [_total(Path(folder) / f"out.{number}") for number in range(2, 2 + stretches)]


def _total(dump: Path) -> int:
    for line in dump.read_text().splitlines():
        if line.startswith("totals: "):
            return int(line.split()[1])
    raise SystemExit(f"valgrind wrote no total: {dump.name}")


def judge(counted: dict[str, float], budget: dict[str, float]) -> list[str]:
    """A line for each name that is off its budget; what has none yet is not judged."""
    return [
        f"{name}: {value:,.0f} instructions, {value / budget[name] - 1:+.1%} of its budget"
        for name, value in counted.items()
        if name in budget and abs(value / budget[name] - 1) > ALLOWED
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Instructions per record of the hot path, against their budget.")
    parser.add_argument("--only", nargs="+", default=[], choices=[*_PER], metavar="NAME")
    parser.add_argument("--write", action="store_true", help="make what is counted now the budget")
    asked = parser.parse_args()
    budgets: dict[str, dict[str, float]] = json.loads(BUDGETS.read_text())
    kind = interpreter()
    if kind not in budgets and not asked.write:
        print(f"not judged: there is no budget for {kind}, only for {', '.join(budgets)}; --write makes one")
        return
    counted = count(asked.only)
    for name, instructions in counted.items():
        print(f"{name:<15} {instructions:>12,.0f} instructions per {_PER[name]}")
    if asked.write:
        BUDGETS.write_text(json.dumps({**budgets, kind: budgets.get(kind, {}) | counted}, indent=2) + "\n")
    elif wrong := judge(counted, budgets[kind]):
        sys.exit("\n".join([*wrong, "on purpose, or for the better? python -m benchmarks.instructions --write"]))


if __name__ == "__main__":
    main()
