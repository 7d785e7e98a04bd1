"""The ceiling that `memory:` states, held by the real process under more data than fits it.

What is counted: the resident memory that the daemon takes *more* than the same process, on the same 200 shards, when
they are empty; at its highest point, as the kernel kept it (VmHWM). So it is everything that records cost: answers,
records, events, the buffers of connections, what the allocator wastes or does not hand back. What is not counted: the
interpreter and the libraries (some 90 MB), what the kernel holds in the buffers of sockets, and the function's reply.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest

from tests.servers.growing import slope, waves
from tests.servers.loaded import Daemon, Double, configuration, daemon, load, of_queues, until

MIB = 1_048_576
_SETTLED = 3.0
"""Seconds of reading empty shards before the idle process is measured: three polls of each."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One run under load."""

    totals: dict[str, Any]
    grown_bytes: int
    """The peak above the idle process."""
    least_at_first_end: int
    """Records delivered of the shard that was last, when the shard that was first had all of its own delivered."""


def watch(double: Double, process: Daemon, *, records: int) -> Seen:
    """Fill every shard, and look on until all is delivered."""
    time.sleep(_SETTLED)
    idle = process.resident_bytes()
    double.fill(records)
    least: list[int] = []

    def over() -> bool:
        reached = double.totals()["reached"].values()
        if max(reached) == records:
            least.append(min(reached))
        return bool(min(reached) == records)

    until(over, patience=70, every=0.2)
    return Seen(totals=double.totals(), grown_bytes=process.peak_bytes() - idle, least_at_first_end=least[0])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("ceiling", [128, 256])
def test_200_shards_full_of_large_records_stay_under_the_ceiling_and_all_move(ceiling):
    with (
        load(shards=200, record_bytes=MIB, latency=0.3) as double,
        daemon(configuration(double, memory=f"{ceiling}MiB")) as process,
    ):
        seen = watch(double, process, records=10)  # 10 MiB: a full answer of GetRecords
    assert seen.grown_bytes < ceiling * MIB
    assert seen.totals["gaps"] == 0
    assert set(seen.totals["reached"].values()) == {10}
    assert seen.least_at_first_end > 0, "a shard waited for another's whole page"


@pytest.mark.timeout(120)
def test_40_shards_full_of_small_records_stay_under_the_ceiling_and_all_move():
    with (
        load(shards=40, record_bytes=1024, latency=0.3) as double,
        daemon(configuration(double, memory="128MiB", batch_size=1000)) as process,
    ):
        seen = watch(double, process, records=10_000)  # 10 MiB again
    assert seen.grown_bytes < 128 * MIB
    assert seen.totals["gaps"] == 0
    assert set(seen.totals["reached"].values()) == {10_000}
    assert seen.least_at_first_end > 0, "a shard waited for another's whole page"
    assert seen.totals["most_at_once"] == 40, "the ceiling made shards wait for one another"


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("source", "shards"), [("kinesis", 8), ("sqs", 1)])
def test_the_daemon_does_not_grow_with_what_it_delivers(source, shards):
    """A record that is kept would be ten times what is allowed; `benchmarks/growth.py` looks closer, for longer."""
    with (
        load(shards=shards, record_bytes=1024) as double,
        daemon(configuration(double, function="lambda", source=source, batch_size=10)) as process,
    ):
        looks = list(waves(double, process, shards=shards, records=96_000 // shards, count=12))
    assert slope(looks[1:]) < 100, [look.resident_bytes // 1024 for look in looks]


def resident_with_queues(count: int) -> int:
    """What a daemon has in RAM whose receives are all held, not for the first time."""
    with load(shards=1, record_bytes=1024, long_poll=2.0) as double, daemon(of_queues(double, count)) as process:
        until(lambda: double.totals()["reads"] >= 2 * count and bool(double.totals()["waiting"] >= count))
        return process.resident_bytes()


@pytest.mark.timeout(120)
def test_a_mapping_of_an_empty_queue_costs_less_than_a_fifth_of_a_mebibyte():
    """It takes 85 KiB; what it must not have for itself is a copy of the certificates that the system trusts."""
    assert (resident_with_queues(60) - resident_with_queues(10)) / 50 < MIB / 5
