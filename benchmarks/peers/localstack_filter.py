"""LocalStack's filter alone, on records of Kinesis: CPU seconds for each. Runs in LocalStack's environment.

`python localstack_filter.py PATTERN ANSWER SECONDS`: ANSWER is a file with an answer of GetRecords. For each line on its
standard input it filters for so long, as its poller does between reading and sending, and prints one figure.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import sys
import time
from pathlib import Path

from localstack.services.lambda_.event_source_mapping.pollers.kinesis_poller import KinesisPoller

PATTERN, ANSWER, SECONDS = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])


def main() -> None:
    poller = KinesisPoller(
        source_arn="arn:aws:kinesis:eu-west-1:123456789012:stream/load",
        source_client=object(),
        processor=object(),
        source_parameters={"FilterCriteria": {"Filters": [{"Pattern": PATTERN}]}, "KinesisStreamParameters": {}},
        esm_uuid="load",
        invoke_identity_arn="arn:aws:iam::123456789012:role/poller",
        kinesis_namespace=True,
    )
    records = json.loads(ANSWER.read_bytes())["Records"]
    for record in records:  # as the SDK hands them over
        record["Data"] = base64.b64decode(record["Data"])
        record["ApproximateArrivalTimestamp"] = dt.datetime.fromtimestamp(
            record["ApproximateArrivalTimestamp"], tz=dt.UTC
        )
    events = poller.transform_into_events(records, "shardId-000000000000")
    for _ in sys.stdin:
        began, count = time.process_time(), 0
        while (used := time.process_time() - began) < SECONDS:
            kept = poller.post_filter(poller.filter_events(poller.pre_filter(events)))
            count += len(kept)
        print(used / count, flush=True)


if __name__ == "__main__":
    main()
