"""Holds the hot path to a budget of instructions: counted by valgrind, they are the same on a busy machine as on an idle one.

`python -m benchmarks.instructions [--write]`. What is counted is in `hot_path.py`; a figure is the difference between 25
rounds and 5, so that neither the start nor the counting is in it. Two runs differ by less than 0.01 %. Interpreters
differ by more than the budget allows: each kind has its own, and one without is told so and not judged.
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
from pathlib import Path

from benchmarks.hot_path import RECORDS, ROUNDS

BUDGETS = Path(__file__).with_name("instructions.json")
ALLOWED = 0.05
"""Of the budget, more or less: less, too, so that what was gained is written down and stays."""
_PATIENCE = 300.0


def interpreter() -> str:
    """What the count depends on besides the code: the interpreter, how it was built, and for which machine."""
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    built = "optimized" if "--enable-optimizations" in options else "plain"
    python = ".".join(platform.python_version_tuple()[:2])
    return f"{platform.python_implementation()} {python} {built} {platform.machine()}"


def count() -> dict[str, float]:
    """Instructions per record, by source.

    Raises:
        SystemExit: there is no valgrind, or it failed.
    """
    valgrind, control = shutil.which("valgrind"), shutil.which("callgrind_control")
    if valgrind is None or control is None:
        raise SystemExit("benchmarks.instructions needs valgrind: tests/servers/debian.sh installs it")
    with tempfile.TemporaryDirectory() as folder:
        command = [valgrind, "--tool=callgrind", "--instr-atstart=no", "--dump-before=getloadavg"]
        command += [f"--callgrind-out-file={folder}/out", sys.executable, "-m", "benchmarks.hot_path", *RECORDS]
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
        totals = [_total(Path(folder) / f"out.{number}") for number in range(2, 2 + 2 * len(RECORDS))]
    more = ROUNDS[1] - ROUNDS[0]
    return {
        source: round((totals[2 * place + 1] - totals[2 * place]) / (more * records), 1)
        for place, (source, records) in enumerate(RECORDS.items())
    }


def _total(dump: Path) -> int:
    for line in dump.read_text().splitlines():
        if line.startswith("totals: "):
            return int(line.split()[1])
    raise SystemExit(f"valgrind wrote no total: {dump.name}")


def judge(counted: dict[str, float], budget: dict[str, float]) -> list[str]:
    """A line for each source that is off its budget."""
    return [
        f"{source}: {counted[source]:,.0f} instructions per record, {counted[source] / allowed - 1:+.1%} of its budget"
        for source, allowed in budget.items()
        if abs(counted[source] / allowed - 1) > ALLOWED
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Instructions per record of the hot path, against their budget.")
    parser.add_argument("--write", action="store_true", help="make what is counted now the budget")
    asked = parser.parse_args()
    budgets: dict[str, dict[str, float]] = json.loads(BUDGETS.read_text())
    kind = interpreter()
    if kind not in budgets and not asked.write:
        print(f"not judged: there is no budget for {kind}, only for {', '.join(budgets)}; --write makes one")
        return
    counted = count()
    for source, instructions in counted.items():
        print(f"{source:<10} {instructions:>10,.0f} instructions per record")
    if asked.write:
        BUDGETS.write_text(json.dumps({**budgets, kind: counted}, indent=2) + "\n")
    elif wrong := judge(counted, budgets[kind]):
        sys.exit("\n".join([*wrong, "on purpose, or for the better? python -m benchmarks.instructions --write"]))


if __name__ == "__main__":
    main()
