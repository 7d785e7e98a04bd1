"""CPU of the real daemon beside what else moves records, as ratios of one run.

`python -m benchmarks.run [SCENARIO ...] [--rounds 5] [--quick] [--peers DIR] [--client botocore] [--without-sha] [--json FILE]`

Each variant is a process of its own with a load double of its own, and lives through all rounds of a scenario. They take
turns, in an order that is turned round every second round, so that what else the machine does hits all alike. Only
ratios of one round are compared; a ratio whose spread is wide is said to be worth nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.variants import Variant, variants
from tests.servers.loaded import Double, cpu, load, until

_SETTLED = 3.0
"""Seconds of reading empty shards before anything is measured."""
_WIDE = 0.15
"""Of the median: a median absolute deviation beyond which a ratio means nothing."""
_QUICK = ("kin-b100-1k", "sqs-b10-1k", "idle-200")
_WITHOUT_SHA = {"OPENSSL_ia32cap": ":~0x20000000"}
"""Has OpenSSL not use them. Source: its manual, OPENSSL_ia32cap: bit 29 of the second vector."""
_SOURCES = ("aiobotocore", "botocore", "httptools", "msgspec", "uvloop")


@dataclass(frozen=True)
class Running:
    """A variant between two of its turns."""

    double: Double
    pids: Sequence[int]

    def measure(self, scenario: Scenario) -> tuple[float, float]:
        """The scenario's figure, and the CPU of the double in the same unit (0.0 for a delay)."""
        totals = self.double.totals()
        used, served = sum(map(cpu, self.pids)), totals["cpu"]
        if scenario.rate:
            self.double.trickle(scenario.rate)
            time.sleep(scenario.seconds)
            delays = self.double.totals()["delays"]
            self.double.fill(0)  # or it trickles on while another has its turn
            return statistics.median(delays) * 1e3, 0.0
        self.double.fill(scenario.records)
        whole = scenario.shards * scenario.records
        if whole:
            until(lambda: bool(self.double.totals()["records"] >= whole), patience=300, every=0.02)
        else:
            time.sleep(scenario.seconds)
        used = sum(map(cpu, self.pids)) - used
        totals = self.double.totals()
        count = int(totals["records"] if whole else totals["reads"])
        return used * 1e6 / count, (totals["cpu"] - served) * 1e6 / count


def compare(scenario: Scenario, chosen: dict[str, Variant], rounds: int) -> dict[str, Any]:
    """All rounds of one scenario."""
    seen: dict[str, list[float]] = {name: [] for name in chosen}
    served: dict[str, list[float]] = {name: [] for name in chosen}
    with ExitStack() as stack:
        running = {}
        for name, start in chosen.items():
            double = stack.enter_context(load(**scenario.served))
            running[name] = Running(double, stack.enter_context(start(double, scenario)))
        time.sleep(_SETTLED)
        for name in chosen:  # compilers and caches warm up, and connections are opened
            if not scenario.rate:
                running[name].measure(scenario)
        for turn in range(rounds):
            for name in list(chosen) if turn % 2 else reversed(chosen):
                value, double_value = running[name].measure(scenario)
                seen[name].append(value)
                served[name].append(double_value)
    told = {name: _told(scenario, seen, name) for name in chosen if name != "poller"}
    return {
        "scenario": scenario.name,
        "says": scenario.says,
        "unit": scenario.unit,
        "median": {name: round(statistics.median(values), 3) for name, values in seen.items()},
        "double": {name: round(statistics.median(values), 3) for name, values in served.items()},
        "rounds": {name: [round(value, 3) for value in values] for name, values in seen.items()},
        "ratio": told,
    }


def _told(scenario: Scenario, seen: dict[str, list[float]], name: str) -> dict[str, Any]:
    """The daemon to another, or a feature of the daemon to the daemon without it."""
    above, below = (seen[name], seen["poller"]) if name in scenario.features else (seen["poller"], seen[name])
    ratios = [ours / theirs for ours, theirs in zip(above, below, strict=True)]
    median = statistics.median(ratios)
    deviation = statistics.median([abs(ratio - median) for ratio in ratios])
    target = scenario.targets.get(name)
    found = {
        "median": round(median, 4),
        "mad": round(deviation, 4),
        "rounds": [round(ratio, 4) for ratio in ratios],
        "steady": deviation <= _WIDE * median,
    }
    return found | ({"must": target.must, "want": target.want, "holds": median <= target.must} if target else {})


def show(result: dict[str, Any]) -> None:
    """One scenario as lines of the table."""
    print(f"\n{result['scenario']}: {result['says']}, {result['unit']}")
    print(f"  {'':<20} {'median':>9} {'double':>8} {'ratio':>7} {'MAD':>7} {'must':>7} {'want':>7}")
    for name, median in result["median"].items():
        line = f"  {name:<20} {median:>9.2f} {result['double'][name]:>8.2f}"
        ratio = result["ratio"].get(name)
        if ratio:
            line += f" {ratio['median']:>7.3f} {ratio['mad']:>7.3f}"
            if "must" in ratio:
                holds = "holds" if ratio["holds"] else "DOES NOT HOLD"
                line += f" {ratio['must']:>7.3f} {ratio['want']:>7.3f}  {holds}"
            if not ratio["steady"]:
                line += "  too unsteady to mean anything: run again"
        print(line, flush=True)


def main() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser()
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="three scenarios in less than a minute")
    parser.add_argument("--peers", type=Path, help="where benchmarks/peers/install.sh has put them")
    parser.add_argument("--client", choices=["fast", "botocore"], help="how the daemon's hot calls travel")
    parser.add_argument("--without-sha", action="store_true", help="as on a processor without instructions for SHA-256")
    parser.add_argument("--only", nargs="+", default=[], metavar="VARIANT", help="these, besides the daemon")
    parser.add_argument("--json", type=Path, help="write everything there")
    asked = parser.parse_args()
    wanted = asked.scenarios or (_QUICK if asked.quick else names)
    if unknown := set(wanted) - set(names):
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if asked.without_sha:
        os.environ.update(_WITHOUT_SHA)  # of every variant; the double makes no digest
    told = []
    for scenario in SCENARIOS:
        if scenario.name not in wanted:
            continue
        chosen = variants(scenario, asked.peers, asked.client)
        if asked.quick:
            fewer = (
                scenario.records // 4 // scenario.batch_size * scenario.batch_size
            )  # the floor knows full batches only
            scenario = replace(scenario, records=fewer, seconds=2.0)
            asked.only = ["naive", "floor_sha"]
        if asked.only:
            chosen = {name: start for name, start in chosen.items() if name in ("poller", *asked.only)}
        told.append(compare(scenario, chosen, 2 if asked.quick else asked.rounds))
        show(told[-1])
    if asked.json:
        asked.json.write_text(json.dumps({"schema": 2, "machine": _machine(), "runs": told}, indent=2) + "\n")
    if any(ratio.get("holds") is False for result in told for ratio in result["ratio"].values()):
        sys.exit(1)


def _machine() -> dict[str, Any]:
    information = Path("/proc/cpuinfo")
    flags = information.read_text().split() if information.exists() else []
    return {
        "cpu": platform.machine(),
        "sha_ni": "sha_ni" in flags and not _WITHOUT_SHA.items() <= os.environ.items(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _SOURCES},
    }


if __name__ == "__main__":
    main()
