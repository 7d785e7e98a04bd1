"""async-kinesis's consumer as its readme says, with batches made by hand and the function behind aiobotocore's Invoke.

`python async_kinesis.py URL BATCH_SIZE`, in an environment that has it. Its consumer hands out payloads only, neither
sequence number nor key, so the event holds less than Lambda's. Its waits are as short as its options allow: it pauses
for 0.2 seconds between two rounds of its shards, and for each shard that had nothing.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from typing import Any

from aiobotocore.session import get_session
from kinesis import Consumer, StringProcessor

URL, BATCH_SIZE = sys.argv[1], int(sys.argv[2])


def event_of(messages: list[str]) -> bytes:
    records = [
        {
            "eventName": "aws:kinesis:record",
            "eventVersion": "1.0",
            "eventSource": "aws:kinesis",
            "awsRegion": "eu-west-1",
            "kinesis": {"kinesisSchemaVersion": "1.0", "data": base64.b64encode(message.encode()).decode()},
        }
        for message in messages
    ]
    return json.dumps({"Records": records}, separators=(",", ":")).encode()


async def follow(consumer: Any, function: Any) -> None:
    """Until nothing has come for a while: a batch goes when it is full, the last one as it is."""
    held: list[str] = []
    async for message in consumer:
        held.append(message)
        if len(held) == BATCH_SIZE:
            await invoke(function, held)
            held = []
    if held:
        await invoke(function, held)


async def invoke(function: Any, messages: list[str]) -> None:
    reply = await function.invoke(FunctionName="function", Payload=event_of(messages))
    await reply["Payload"].read()


async def main() -> None:
    place = {"region_name": "eu-west-1", "endpoint_url": URL}
    consumer = Consumer(
        stream_name="load",
        **place,
        processor=StringProcessor(),
        use_list_shards=True,
        shard_fetch_rate=5,
        sleep_time_no_records=0.1,
    )
    async with consumer, get_session().create_client("lambda", **place) as function:
        while True:
            await follow(consumer, function)


if __name__ == "__main__":
    asyncio.run(main())
