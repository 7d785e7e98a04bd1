"""Filters on the running daemon: what matches is delivered as it was sent, the rest is settled and never seen again."""

from __future__ import annotations

import json
from pathlib import Path

from tests.system.cloud import Cloud
from tests.system.daemon import started, write
from tests.system.functions import Functions
from tests.system.settings import checkpoints, queue, settings, stream

_TEXTS = [json.dumps({"type": kind, "price": price}) for price in (50, 150) for kind in ("order", "note", "order")]
_WANTED = [text for text in _TEXTS if '"order"' in text and "150" in text]
"""The fourth and the sixth: what does not match stands before, between and behind them."""


async def test_only_what_matches_is_delivered_and_the_rest_is_settled_without_the_function(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    payload = {"type": ["order"], "price": [{"numeric": [">", 100]}]}
    change = {"eventName": ["INSERT"], "dynamodb": {"NewImage": {"id": {"S": [{"prefix": "order"}]}}}}
    mappings = {
        "kinesis": stream(await cloud.stream("filtered"), "k", FilterCriteria=matching({"data": payload})),
        "table": stream(await cloud.table("filtered"), "t", FilterCriteria=matching(change)),
        "queue": queue(await cloud.queue("filtered"), "q", FilterCriteria=matching({"body": payload})),
    }
    sent = await cloud.put_many("filtered", [*_TEXTS, "no JSON"])
    for text in ("note-1", "order-1", "order-2", "note-2"):
        await cloud.put_item("filtered", text)
    await cloud.send("filtered", *_TEXTS, "no JSON")
    config = write(tmp_path / "c.yaml", settings(cloud, called, mappings))
    async with started(config) as daemon:
        filtered = "poller_records_filtered_total"
        await daemon.metric(filtered, "kinesis", is_=lambda value: value == 5)
        await daemon.metric(filtered, "table", is_=lambda value: value == 2)
        await daemon.metric(filtered, "queue", is_=lambda value: value == 5)
        await called.given("k", *_WANTED)
        await called.given("t", "order-1", "order-2")
        await called.given("q", *_WANTED)
        await daemon.metric("poller_messages_deleted_total", "queue", is_=lambda value: value == len(_TEXTS) + 1)
        await daemon.stop()
    assert await cloud.left("filtered") == 0
    assert called.texts("k", status=None) == _WANTED
    assert called.texts("t", status=None) == ["order-1", "order-2"]
    assert sorted(called.texts("q", status=None)) == sorted(_WANTED)
    assert list(checkpoints(tmp_path, "kinesis").values()) == [sent["no JSON"][1]]


def matching(pattern: object) -> dict[str, object]:
    """A mapping's FilterCriteria of one filter."""
    return {"Filters": [{"Pattern": pattern}]}
