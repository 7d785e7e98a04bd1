"""Where the daemon's CPU goes under load, by the file that it is spent in and by the function.

`python -m benchmarks.profile SCENARIO [--lines 40] [--seconds 10]`: the real daemon under cProfile, which makes calls of
Python functions dearer than they are; what C code does is charged to the function that called it. It sends nobody
anywhere else: the scenario's load is repeated until the seconds are over.
"""

from __future__ import annotations

import argparse
import pstats
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.scenarios import SCENARIOS, Scenario
from tests.servers.loaded import configuration, daemon, load, until


def record(scenario: Scenario, seconds: float, into: Path) -> int:
    """Profile; how many records were moved, or empty shards read."""
    count = 0
    with load(**scenario.served) as double:
        settings = configuration(
            double, batch_size=scenario.batch_size, function="lambda", source=scenario.source, **scenario.mapping
        )
        with daemon(settings, through=("-m", "cProfile", "-o", str(into)), environment=double.environment):
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                double.fill(scenario.records)
                if whole := scenario.shards * scenario.records:
                    until(lambda: bool(double.totals()["records"] >= whole), patience=300)  # it ends here
                    count += whole
                else:
                    time.sleep(seconds)
                    count += double.totals()["reads"]
    return count


def show(profile: Path, count: int, lines: int) -> None:
    """Self time: of files and folders, then of functions."""
    stats: Any = pstats.Stats(str(profile))
    files: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    calls: dict[str, int] = {}
    for (file, line, name), (_, called, own, _, callers) in stats.stats.items():
        if file == "~":  # C code: charged to whoever called it
            for (caller, at, by), (_, _, spent, _) in callers.items():
                files[_short(caller)] += spent
                functions[f"{_short(caller)}:{at} {by}"] += spent
                functions[f"    {name} from {_short(caller)}:{at}"] += spent
            continue
        files[_short(file)] += own
        key = f"{_short(file)}:{line} {name}"
        functions[key] += own
        calls[key] = called
    whole = sum(files.values())
    print(f"{whole * 1e6 / count:.2f} us each, under the profiler")
    for counted in (files, functions):
        for key, spent in counted.most_common(lines):
            print(f"{spent * 1e6 / count:9.3f} us {spent / whole:6.1%} {calls.get(key, 0) / count:8.3f}  {key}")
        print()


def _short(file: str) -> str:
    for part in ("site-packages/", "/lib/python3.11/", "/poller/"):
        if part in file:
            return file.rpartition(part)[2]
    return file


def main() -> None:
    names = {scenario.name: scenario for scenario in SCENARIOS}
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=list(names))
    parser.add_argument("--lines", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "profile"
        count = record(names[asked.scenario], asked.seconds, into)
        show(into, count, asked.lines)


if __name__ == "__main__":
    main()
