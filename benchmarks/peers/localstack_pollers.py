"""LocalStack's own pollers, without the second that its worker waits after each poll. Runs in LocalStack's environment.

`python localstack_pollers.py URL SOURCE BATCH_SIZE SHARDS [PATTERN]`: put together as its `EsmWorkerFactory` does it, with
clients of its own factory. When nothing is found in any shard it waits for a second, as its worker does after each read.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any
from urllib.parse import urlsplit

URL, SOURCE, BATCH_SIZE, SHARDS, *PATTERN = sys.argv[1:]
os.environ["GATEWAY_LISTEN"] = urlsplit(URL).netloc  # read when LocalStack is imported

from localstack.aws.connect import connect_to  # noqa: E402
from localstack.services.lambda_.event_source_mapping.esm_event_processor import EsmEventProcessor  # noqa: E402
from localstack.services.lambda_.event_source_mapping.pipe_loggers.noops_pipe_logger import NoOpsPipeLogger  # noqa: E402
from localstack.services.lambda_.event_source_mapping.pollers.dynamodb_poller import DynamoDBPoller  # noqa: E402
from localstack.services.lambda_.event_source_mapping.pollers.kinesis_poller import KinesisPoller  # noqa: E402
from localstack.services.lambda_.event_source_mapping.pollers.poller import EmptyPollResultsException  # noqa: E402
from localstack.services.lambda_.event_source_mapping.pollers.sqs_poller import SqsPoller  # noqa: E402
from localstack.services.lambda_.event_source_mapping.senders.lambda_sender import LambdaSender  # noqa: E402

REGION, ACCOUNT = "eu-west-1", "123456789012"
ARNS = {
    "kinesis": f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/load",
    "dynamodb": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/load/stream/2026-01-01T00:00:00.000",
    "sqs": f"arn:aws:sqs:{REGION}:{ACCOUNT}:load",
}


def main() -> None:
    clients = connect_to(region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test")
    sender = LambdaSender(
        target_arn=f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:function",
        target_parameters={"LambdaFunctionParameters": {"InvocationType": "REQUEST_RESPONSE"}},
        target_client=clients.lambda_,
        payload_dict=True,
    )
    processor = EsmEventProcessor(sender=sender, logger=NoOpsPipeLogger())
    filters = {"Filters": [{"Pattern": pattern} for pattern in PATTERN]}
    stream = {
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": int(BATCH_SIZE),
        "MaximumBatchingWindowInSeconds": 0,
        "MaximumRetryAttempts": -1,
        "MaximumRecordAgeInSeconds": -1,
    }
    found: list[bool] = []

    def look(parsed: dict[str, Any], **_: Any) -> None:
        found.append(bool(parsed.get("Records")))

    around = {"source_arn": ARNS[SOURCE], "processor": processor}
    if SOURCE == "sqs":
        queue = {"BatchSize": int(BATCH_SIZE), "MaximumBatchingWindowInSeconds": 1}
        parameters = {"FilterCriteria": filters, "SqsQueueParameters": queue}
        poller = SqsPoller(**around, source_client=clients.sqs, source_parameters=parameters)
    elif SOURCE == "dynamodb":
        parameters = {"FilterCriteria": filters, "DynamoDBStreamParameters": stream}
        client = clients.dynamodbstreams
        client.meta.events.register("after-call.dynamodb-streams.GetRecords", look)
        poller = DynamoDBPoller(**around, source_client=client, source_parameters=parameters, esm_uuid="load")
    else:
        parameters = {"FilterCriteria": filters, "KinesisStreamParameters": stream}
        client = clients.kinesis
        client.meta.events.register("after-call.kinesis.GetRecords", look)
        poller = KinesisPoller(
            **around,
            source_client=client,
            source_parameters=parameters,
            esm_uuid="load",
            invoke_identity_arn="arn:aws:iam::123456789012:role/poller",
            kinesis_namespace=True,
        )
    while True:
        try:
            poller.poll_events()
        except EmptyPollResultsException:
            continue  # a queue was polled long
        if len(found) >= int(SHARDS):
            if not any(found):
                time.sleep(1.0)
            found.clear()


if __name__ == "__main__":
    main()
