"""CPU of the real daemon, as a ratio to a naive aiobotocore loop in the same run.

`python -m benchmarks.run [SCENARIO ...] [--rounds 5] [--json FILE]`

Both are processes of their own that read from the same load double and invoke its function through Lambda's Invoke,
signed. They take turns, in an order that is turned round every second round, so that what else the machine does hits
both. Only ratios of one round are compared; a ratio whose spread is wide is said to be worth nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.loaded import CREDENTIALS, Double, configuration, cpu, daemon, load, until

_SETTLED = 3.0
"""Seconds of reading empty shards before anything is measured."""
_WIDE = 0.15
"""Of the median: a median absolute deviation beyond which a ratio means nothing."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is measured."""

    name: str
    shards: int
    records: int = 0
    """In every shard, or the queue; 0 measures the reading of empty shards."""
    record_bytes: int = 1024
    batch_size: int = 100
    source: str = "kinesis"
    seconds: float = 8.0
    """For how long empty shards are read."""

    @property
    def unit(self) -> str:
        return "us CPU per record" if self.records else "us CPU per read"


SCENARIOS = (
    Scenario(name="idle-kinesis", shards=200),
    Scenario(name="kin-b100-1k", shards=8, records=5000),
    Scenario(name="kin-b1000-1k", shards=8, records=5000, batch_size=1000),
    Scenario(name="kin-b10-1k", shards=8, records=500, batch_size=10),
    Scenario(name="sqs-b10-1k", shards=1, records=10_000, batch_size=10, source="sqs"),
)


@contextmanager
def poller(double: Double, scenario: Scenario) -> Iterator[int]:
    """The real daemon. Yields its process id."""
    settings = configuration(double, batch_size=scenario.batch_size, function="lambda", source=scenario.source)
    with daemon(settings) as running:
        yield running.process.pid


@contextmanager
def naive(double: Double, scenario: Scenario) -> Iterator[int]:
    """The naive loop. Yields its process id."""
    command = [sys.executable, "-m", "benchmarks.baseline", double.url, "--source", scenario.source]
    command += ["--batch-size", str(scenario.batch_size)]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=root, env={**os.environ, **CREDENTIALS}) as process:
        try:
            until(lambda: double.totals()["reads"] >= scenario.shards)
            yield process.pid
        finally:
            process.kill()


VARIANTS: dict[str, Callable[[Double, Scenario], AbstractContextManager[int]]] = {"poller": poller, "naive": naive}


def measure(variant: str, scenario: Scenario) -> float:
    """Microseconds of CPU per record, or per read."""
    with (
        load(shards=scenario.shards, record_bytes=scenario.record_bytes) as double,
        VARIANTS[variant](double, scenario) as pid,
    ):
        time.sleep(_SETTLED)
        whole = scenario.shards * scenario.records
        double.fill(scenario.records)
        before = cpu(pid)
        if whole:
            until(lambda: double.totals()["records"] >= whole, patience=300)
        else:
            time.sleep(scenario.seconds)
        used = cpu(pid) - before
        totals = double.totals()
    return used * 1e6 / int(totals["records"] if whole else totals["reads"])


def compare(scenario: Scenario, rounds: int) -> dict[str, Any]:
    """All rounds of one scenario."""
    seen: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for turn in range(rounds):
        for variant in list(VARIANTS) if turn % 2 else reversed(VARIANTS):
            seen[variant].append(measure(variant, scenario))
    ratios = [ours / theirs for ours, theirs in zip(seen["poller"], seen["naive"], strict=True)]
    median = statistics.median(ratios)
    deviation = statistics.median([abs(ratio - median) for ratio in ratios])
    return {
        "scenario": scenario.name,
        "unit": scenario.unit,
        "poller": [round(value, 2) for value in seen["poller"]],
        "naive": [round(value, 2) for value in seen["naive"]],
        "ratio": round(median, 4),
        "mad": round(deviation, 4),
        "rounds": [round(ratio, 4) for ratio in ratios],
        "steady": deviation <= _WIDE * median,
    }


def main() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser()
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write everything there")
    asked = parser.parse_args()
    if unknown := set(asked.scenarios) - set(names):
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    chosen = [scenario for scenario in SCENARIOS if not asked.scenarios or scenario.name in asked.scenarios]
    print(f"{'scenario':<14} {'ratio':>7} {'MAD':>7}   rounds")
    told = []
    for scenario in chosen:
        result = compare(scenario, asked.rounds)
        told.append(result)
        doubt = "" if result["steady"] else "   too unsteady to mean anything: run again"
        rounds = " ".join(f"{ratio:.3f}" for ratio in result["rounds"])
        print(f"{scenario.name:<14} {result['ratio']:>7.3f} {result['mad']:>7.3f}   {rounds}{doubt}", flush=True)
    document = {"schema": 1, "machine": _machine(), "runs": told}
    if asked.json:
        asked.json.write_text(json.dumps(document, indent=2) + "\n")


def _machine() -> dict[str, Any]:
    information = Path("/proc/cpuinfo")
    flags = information.read_text().split() if information.exists() else []
    return {
        "cpu": platform.machine(),
        "sha_ni": "sha_ni" in flags,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
