"""Whether the daemon grows: as many records as three hours bring, at full speed; how its memory stood along the way.

`python -m benchmarks.growth [--source kinesis] [--shards 20] [--per-second 50] [--seconds 10800]`

What is judged is the slope of the second half, in bytes for each record, and not time: an hour and a half of 20 shards
that bring 50 records a second each is 5.4 million records, which the daemon takes in a minute. The first half is for the
allocator: the heap goes up by some 14 MiB at whichever moment most pages happen to meet, and stays there. The records
come in waves, so that each look is at a daemon that holds none.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from tests.servers.growing import slope, waves
from tests.servers.loaded import configuration, daemon, load

WAVES = 40
MUST = 2.0
"""Bytes for each record of the second half; one step of the allocator, of 2.5 MiB, is one of them in three hours."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", choices=["kinesis", "dynamodb", "sqs"], default="kinesis")
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument(
        "--per-second", type=int, default=50, help="records of every shard, of the hours that are meant"
    )
    parser.add_argument("--seconds", type=int, default=10_800, help="of the hours that are meant")
    parser.add_argument("--waves", type=int, default=WAVES)
    asked = parser.parse_args()
    shards = 1 if asked.source == "sqs" else asked.shards
    records = asked.per_second * asked.seconds * asked.shards // shards
    batch_size = 10 if asked.source == "sqs" else 100
    began = time.monotonic()
    with (
        load(shards=shards, record_bytes=1024) as double,
        daemon(configuration(double, function="lambda", source=asked.source, batch_size=batch_size)) as process,
    ):
        looks = []
        for look in waves(double, process, shards=shards, records=records, count=asked.waves):
            looks.append(look)
            print(f"{look.records:>10,} records  {look.resident_bytes / 1024:>10,.0f} KiB", flush=True)
    grows = slope(looks[len(looks) // 2 :])
    holds = grows <= MUST
    print(
        f"{asked.source}: {looks[-1].records:,} records in {time.monotonic() - began:.0f} s, as {asked.seconds} s of"
        f" {asked.shards} times {asked.per_second} a second; second half {grows:+.3f} bytes for each record, must be at"
        f" most {MUST}: {'holds' if holds else 'DOES NOT HOLD'}"
    )
    print(
        json.dumps(
            {"schema": 1, "asked": vars(asked), "slope": grows, "kib": [e.resident_bytes // 1024 for e in looks]}
        )
    )
    sys.exit(not holds)


if __name__ == "__main__":
    main()
