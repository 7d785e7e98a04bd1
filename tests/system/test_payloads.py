"""What records hold, and what functions return, is nowhere in the log: at debug, whatever becomes of them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from tests.system.cloud import Cloud
from tests.system.daemon import started, write
from tests.system.functions import Delivery, Functions
from tests.system.settings import queue, settings, stream

MARK = "Xylophon-4711-Zw"[:15]
"""Fifteen characters: what is encoded behind them leaves their base64 as it is."""
ENCODED = base64.b64encode(MARK.encode()).decode()
_NOBODY = "arn:aws:sqs:eu-west-1:000000000000:is-not-there"


async def test_no_payload_reaches_the_log(cloud: Cloud, called: Functions, tmp_path: Path):
    async def behave(delivery: Delivery) -> int | dict[str, Any]:
        match delivery.function:
            case "failing":
                return 500
            case "partial":
                return {"batchItemFailures": [{"itemIdentifier": delivery.records[0].id}], "note": MARK}
            case "garbled":
                return {"batchItemFailures": [{"itemIdentifier": MARK}]}
            case _:
                return {"note": MARK}

    called.behave = behave
    partial = {"FunctionResponseTypes": ["ReportBatchItemFailures"]}
    given_up = {"MaximumRetryAttempts": 0, "DestinationConfig": {"OnFailure": {"Destination": _NOBODY}}}
    mappings = {
        "good": queue(await cloud.queue("marked-good"), "good"),
        "failing": stream(await cloud.stream("marked-failing"), "failing", **given_up),
        "partial": queue(await cloud.queue("marked-partial"), "partial", **partial),
        "garbled": stream(await cloud.stream("marked-garbled"), "garbled", MaximumRetryAttempts=0, **partial),
        "bytes": stream(await cloud.stream("marked-bytes"), "bytes"),
        "filtered": queue(
            await cloud.queue("marked-filtered"),
            "filtered",
            FilterCriteria={"Filters": [{"Pattern": {"body": ["something else"]}}]},
        ),
    }
    for name in ("failing", "garbled"):
        await cloud.put(f"marked-{name}", MARK)
    garbage = base64.b64encode(MARK.encode() + b"\xff\x00\n\xfe").decode()
    await cloud.kinesis("PutRecord", StreamName="marked-bytes", PartitionKey=MARK, Data=garbage)
    for name in ("good", "partial", "filtered"):
        await cloud.send(f"marked-{name}", MARK)
    config = write(tmp_path / "c.yaml", settings(cloud, called, mappings))
    async with started(config, "--log-level", "debug") as daemon:
        await daemon.line("function succeeded", mapping="good")
        await daemon.line("messages deleted", mapping="good")
        await daemon.line("the on-failure destination could not be told", mapping="failing")
        await daemon.line("records dropped", mapping="failing")
        await daemon.line("function reported failed records", mapping="partial")
        await daemon.line("records dropped", mapping="garbled")
        await daemon.line("function succeeded", mapping="bytes")
        await daemon.line("records filtered out", mapping="filtered")
        await daemon.stop()
    log = daemon.output()
    assert MARK in str(called.deliveries), "it went through all of them"
    assert MARK not in log
    assert ENCODED not in log
