"""What a scrape costs the event loop: its CPU as a ratio to the client library writing the same samples, in turns.

`python -m benchmarks.scrape [--mappings 100] [--shards 20] [--rounds 9]`
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from poller.model.facts import BatchInvoked, BatchSent, Fact, MappingMoved, ShardMoved, SourceListed, SourceRead
from poller.model.outcome import Replied
from poller.service.observers import Observers


class _Ready(Collector):
    """Samples that only have to be written: nothing is counted, computed or looked up."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


def facts(mappings: int, shards: int) -> Iterator[Fact]:
    """A batch of every shard of every mapping."""
    for mapping in (f"mapping-{number}" for number in range(mappings)):
        yield MappingMoved(mapping=mapping, state="Enabled", reason="")
        yield SourceListed(mapping=mapping, retention=86_400.0)
        for number in range(shards):
            shard = f"shardId-{number:012}"
            yield ShardMoved(mapping=mapping, shard=shard, to="owned")
            yield SourceRead(
                mapping=mapping, shard=shard, outcome="records", records=100, seconds=0.02, behind=number / 10
            )
            yield BatchSent(mapping=mapping, shard=shard, records=100, age=number / 3)
            yield BatchInvoked(
                mapping=mapping,
                shard=shard,
                records=100,
                outcome=Replied(),
                seconds=number / 7,
                request_id="r",
                attempt=1,
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mappings", type=int, default=100)
    parser.add_argument("--shards", type=int, default=20, help="of every mapping")
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    observers = Observers(lambda: 1_800_000_000.0)
    for fact in facts(asked.mappings, asked.shards):
        observers.observe(fact)
    text = observers.metrics.scrape()[0].decode()
    library = CollectorRegistry()
    library.register(_Ready(list(text_string_to_metric_families(text))))
    ratios = []
    for _ in range(asked.rounds):
        began = time.process_time()
        generate_latest(library)
        between = time.process_time()
        observers.metrics.scrape()
        ratios.append((between - began) / (time.process_time() - between))
    median = statistics.median(ratios)
    spread = statistics.median(abs(ratio - median) for ratio in ratios)
    print(f"{text.count(chr(10))} lines: {median:.1f} times as fast as the library's writing alone, MAD {spread:.2f}")


if __name__ == "__main__":
    main()
