"""What a memory ceiling costs: the same load under several ceilings, in turns; records per second as ratios.

`python -m benchmarks.memory [--shards 200] [--record-bytes 1024] [--records 2000] [--latency 0.5] [--rounds 3]`
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

from tests.servers.loaded import configuration, daemon, load, until

MIB = 1_048_576
CEILINGS = {"64MiB": 64, "256MiB": 256, "2GiB": 2048}
_SETTLED = 3.0
"""Seconds of reading empty shards before the idle process is measured."""


def measure(asked: argparse.Namespace, ceiling: str) -> tuple[float, float]:
    """Records per second, and the peak above the idle process, in MiB."""
    with (
        load(shards=asked.shards, record_bytes=asked.record_bytes, latency=asked.latency) as double,
        daemon(configuration(double, memory=ceiling, batch_size=asked.batch_size)) as process,
    ):
        time.sleep(_SETTLED)
        idle = process.resident_bytes()
        double.fill(asked.records)
        until(lambda: double.totals()["records"] >= asked.shards * asked.records, patience=600, every=0.2)
        totals = double.totals()
        grown = process.peak_bytes() - idle
    return totals["records"] / (totals["last_at"] - totals["first_at"]), grown / MIB


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=int, default=200)
    parser.add_argument("--record-bytes", type=int, default=1024)
    parser.add_argument("--records", type=int, default=2000, help="in every shard")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--latency", type=float, default=1.0, help="seconds the function takes")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    seen: dict[str, list[tuple[float, float]]] = {ceiling: [] for ceiling in CEILINGS}
    for turn in range(asked.rounds):
        for ceiling in list(CEILINGS) if turn % 2 else reversed(CEILINGS):
            seen[ceiling].append(measure(asked, ceiling))
    document = {
        ceiling: {
            "records_per_second_to_2GiB": [
                round(here[0] / largest[0], 3) for here, largest in zip(values, seen["2GiB"], strict=True)
            ],
            "peak_to_ceiling": round(max(grown for _, grown in values) / CEILINGS[ceiling], 3),
        }
        for ceiling, values in seen.items()
    }
    print(f"{'ceiling':>8} {'records/s to 2GiB':>18} {'spread':>14} {'peak/ceiling':>13}")
    for ceiling, told in document.items():
        ratios = told["records_per_second_to_2GiB"]
        assert isinstance(ratios, list)
        spread = f"{min(ratios):.2f}..{max(ratios):.2f}"
        print(f"{ceiling:>8} {statistics.median(ratios):>18.2f} {spread:>14} {told['peak_to_ceiling']:>13.2f}")
    print(json.dumps({"schema": 1, "asked": vars(asked), "ceilings": document}))


if __name__ == "__main__":
    main()
