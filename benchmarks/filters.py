"""What filters cost: records per CPU second from a Kinesis answer to events of 100 records, with filters and without.

    python -m benchmarks.filters [--seconds 0.5] [--peers DIR]

One table for each share of records that pass: sizes of payloads down, kinds of filters across. A cell is the number of
records read per CPU second, and in brackets the same as a multiple of no filter. A filter that drops records saves the
building of their events, so the multiple can be above 1. Network, signatures and the function are not in it: whatever
they cost comes on top of both, so in the daemon the multiples lie nearer to 1. Writes nothing, asks no server.
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.scenarios import Target
from poller.mapping.filtering import Filters
from poller.model.record import TrimHorizon, event_of
from poller.sources.kinesis_event import cut_kinesis, kinesis_frame

_ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
_SIZES = (200, 1024, 10_240)
_PEERS = Path(__file__).parent / "peers"
_ROUNDS = 7
_TARGET = Target(must=0.12, want=0.06)
"""Of LocalStack's."""
_PAGE = 500
_BATCH = 100
_FILTERS = {
    "no filter": None,
    "metadata": '{"partitionKey":[{"prefix":"pass-"}]}',
    "payload": '{"data":{"type":["order"],"customer":{"tier":["gold",{"prefix":"plat"}]},"total":[{"numeric":[">",100]}]}}',
}


def _payload(size: int, *, passes: bool) -> bytes:
    """A plausible event whose fields that are looked at lie at its beginning, in its middle and at its end."""
    head = {"id": "5f2b6f0e-7d57-4d0e-9d0c-0f4f7a2c1b11", "type": "order", "customer": {"id": 17, "tier": "gold"}}
    tail = {"total": 250.5 if passes else 20}
    items: list[dict[str, object]] = []
    while len(json.dumps(head | {"items": items} | tail)) + 60 < size:
        items.append({"sku": f"sku-{len(items)}", "amount": len(items), "price": 9.75})
    text = json.dumps(head | {"items": items, "note": ""} | tail)
    return json.dumps(head | {"items": items, "note": "x" * max(0, size - len(text))} | tail).encode()


def _answer(size: int, share: float) -> bytes:
    """A GetRecords answer of which so many records pass, evenly mixed."""
    records = []
    for index in range(_PAGE):
        passes = int((index + 1) * share) > int(index * share)
        data = base64.b64encode(_payload(size, passes=passes)).decode()
        key = f"{'pass' if passes else 'drop'}-{index}"
        records.append(
            {
                "SequenceNumber": f"4966{index:050d}",
                "ApproximateArrivalTimestamp": 1_790_000_000.123,
                "Data": data,
                "PartitionKey": key,
            }
        )
    return json.dumps({"Records": records, "NextShardIterator": "next", "MillisBehindLatest": 0}).encode()


def _rate(answer: bytes, pattern: str | None, share: float, seconds: float) -> float:
    """Records per CPU second, the best of five runs."""
    frame = kinesis_frame(_ARN, None)
    filters = None if pattern is None else Filters("kinesis", (pattern,))
    best = 0.0
    for _ in range(5):
        began, count = time.process_time(), 0
        while time.process_time() - began < seconds / 5:
            page = cut_kinesis(answer, frame=frame, shard="s-0", position=TrimHorizon(), limit=_PAGE, now=0.0)
            kept = page.records if filters is None else filters.split(page.records)[0]
            for start in range(0, len(kept), _BATCH):
                event_of(kept[start : start + _BATCH])
            count += len(page.records)
            if filters is not None and len(kept) != int(_PAGE * share):
                raise SystemExit(f"{len(kept)} of {_PAGE} records passed, expected {int(_PAGE * share)}")
        best = max(best, count / (time.process_time() - began))
    return best


def _alone(answer: bytes, pattern: str, seconds: float) -> float:
    """CPU seconds for each record of the filter alone."""
    frame = kinesis_frame(_ARN, None)
    filters = Filters("kinesis", (pattern,))
    used, count = 0.0, 0
    while used < seconds:
        page = cut_kinesis(answer, frame=frame, shard="s-0", position=TrimHorizon(), limit=_PAGE, now=0.0)
        began = time.process_time()
        kept, _ = filters.split(page.records)
        used += time.process_time() - began
        count += len(kept)
    return used / count


def _beside(peers: Path, pattern: str, seconds: float) -> bool:
    """Our filter and LocalStack's in turns. Answers whether the target holds."""
    answer = _answer(1024, 1.0)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "answer.json"
        kept.write_bytes(answer)
        command = [str(peers / "localstack/bin/python"), str(_PEERS / "localstack_filter.py"), pattern, str(kept)]
        with subprocess.Popen(
            [*command, str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin
            assert process.stdout
            for _ in range(_ROUNDS):
                ours.append(_alone(answer, pattern, seconds))
                print("again", file=process.stdin, flush=True)
                theirs.append(float(process.stdout.readline()))
    ratios = [here / there for here, there in zip(ours, theirs, strict=True)]
    ratio = statistics.median(ratios)
    print(
        f"\npayload filter alone: {statistics.median(ours) * 1e6:.2f} us a record, LocalStack's"
        f" {statistics.median(theirs) * 1e6:.2f}; ratio {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f}), must be"
        f" {_TARGET.must}, wanted {_TARGET.want}: {'holds' if ratio <= _TARGET.must else 'DOES NOT HOLD'}"
    )
    return ratio <= _TARGET.must


def main() -> None:
    parser = argparse.ArgumentParser(description="What filters cost, in records per CPU second.")
    parser.add_argument("--seconds", type=float, default=0.5, help="CPU seconds for each cell")
    parser.add_argument("--peers", type=Path, help="where benchmarks/peers/install.sh has put LocalStack")
    asked = parser.parse_args()
    seconds = asked.seconds
    for share in (0.0, 0.5, 1.0):
        print(f"\n{share:.0%} pass".ljust(12), *(name.rjust(22) for name in _FILTERS))
        for size in _SIZES:
            answer = _answer(size, share)
            rates = {name: _rate(answer, pattern, share, seconds) for name, pattern in _FILTERS.items()}
            base = rates["no filter"]
            print(f"{size:>7} B  ", *(f"{rate:>13,.0f} (x{rate / base:.2f})" for rate in rates.values()))
    if asked.peers and not _beside(asked.peers, str(_FILTERS["payload"]), seconds):
        sys.exit(1)


if __name__ == "__main__":
    main()
