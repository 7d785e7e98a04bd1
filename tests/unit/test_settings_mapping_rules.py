"""Every rule of a mapping's fields, each with the line that a mistake is answered with."""

from pathlib import Path

import pytest

from tests.unit.settings_file import DYNAMODB, FIFO, KINESIS, QUEUE, mapping, mistakes, settings

_SOURCES = (
    "the ARN of a Kinesis stream, a DynamoDB stream or an SQS queue, such as arn:aws:sqs:eu-west-1:123456789012:orders"
)
_KAFKA = "is only for Kafka sources, which are not supported"
_STREAM_ONLY = "is only for Kinesis streams and DynamoDB streams, this source is an SQS queue"
_QUEUE_ONLY = "is only for SQS queues, this source is a Kinesis stream"
_DLQ = "arn:aws:sqs:eu-west-1:123456789012:dlq"
_TOPIC = "arn:aws:sns:eu-west-1:123456789012:failed"
_BUCKET = "arn:aws:s3:::failed.orders"
_DESTINATIONS = "the ARN of an SQS queue, an SNS topic or an S3 bucket"

# (id, source, further lines of the mapping, the mistake behind "poller.yaml:")
# Further lines start at line 7 for a stream, at line 6 for a queue.
WRONG = [
    ("batch size above its range", KINESIS, ["BatchSize: 10001"], "7: mappings.m.BatchSize: 10001 is out of range, allowed: 1 to 10000"),
    ("batch size below its range", QUEUE, ["BatchSize: 0"], "6: mappings.m.BatchSize: 0 is out of range, allowed: 1 to 10000"),
    ("batch size as text", QUEUE, ['BatchSize: "10"'], '6: mappings.m.BatchSize: "10" is text, allowed: a whole number, 1 to 10000'),
    ("batch size as a boolean", QUEUE, ["BatchSize: true"], "6: mappings.m.BatchSize: true is a boolean, allowed: a whole number, 1 to 10000"),
    ("batch size as a fraction", QUEUE, ["BatchSize: 1.5"], "6: mappings.m.BatchSize: 1.5 is a number, allowed: a whole number, 1 to 10000"),
    ("batch size as a date", QUEUE, ["BatchSize: 2026-01-01"], "6: mappings.m.BatchSize: 2026-01-01 is a date, allowed: a whole number, 1 to 10000"),
    ("batch size without a value", QUEUE, ["BatchSize:"], "6: mappings.m.BatchSize: has no value, give one or leave the key out"),
    ("large batch of a FIFO queue", FIFO, ["BatchSize: 11"], "6: mappings.m.BatchSize: 11 is out of range, allowed for a FIFO queue: 1 to 10"),
    ("large batch of a queue without a window", QUEUE, ["BatchSize: 11"], "6: mappings.m.BatchSize: 11 needs MaximumBatchingWindowInSeconds of 1 or more, allowed without: 1 to 10"),
    ("window of a FIFO queue", FIFO, ["MaximumBatchingWindowInSeconds: 1"], "6: mappings.m.MaximumBatchingWindowInSeconds: 1 is out of range, allowed for a FIFO queue: 0"),
    ("window above its range", QUEUE, ["MaximumBatchingWindowInSeconds: 301"], "6: mappings.m.MaximumBatchingWindowInSeconds: 301 is out of range, allowed: 0 to 300"),
    ("enabled as text", QUEUE, ['Enabled: "yes"'], '6: mappings.m.Enabled: "yes" is text, allowed: true or false'),
    ("starting position of a queue", QUEUE, ["StartingPosition: LATEST"], f"6: mappings.m.StartingPosition: {_STREAM_ONLY}"),
    ("timestamp of a table's stream", DYNAMODB, ["StartingPositionTimestamp: 1"], "7: mappings.m.StartingPositionTimestamp: is only for Kinesis streams, this source is a DynamoDB stream"),
    ("timestamp without AT_TIMESTAMP", KINESIS, ["StartingPositionTimestamp: 1"], "7: mappings.m.StartingPositionTimestamp: is only for StartingPosition AT_TIMESTAMP, leave it out"),
    ("parallelization of a queue", QUEUE, ["ParallelizationFactor: 1"], f"6: mappings.m.ParallelizationFactor: {_STREAM_ONLY}"),
    ("parallelization above its range", KINESIS, ["ParallelizationFactor: 11"], "7: mappings.m.ParallelizationFactor: 11 is out of range, allowed: 1 to 10"),
    ("retries of a queue", QUEUE, ["MaximumRetryAttempts: 3"], f"6: mappings.m.MaximumRetryAttempts: {_STREAM_ONLY}"),
    ("retries below their range", KINESIS, ["MaximumRetryAttempts: -2"], "7: mappings.m.MaximumRetryAttempts: -2 is out of range, allowed: -1 to 10000"),
    ("record age within the gap", KINESIS, ["MaximumRecordAgeInSeconds: 59"], "7: mappings.m.MaximumRecordAgeInSeconds: 59 is out of range, allowed: -1 (never too old) or 60 to 604800"),
    ("record age of zero", KINESIS, ["MaximumRecordAgeInSeconds: 0"], "7: mappings.m.MaximumRecordAgeInSeconds: 0 is out of range, allowed: -1 (never too old) or 60 to 604800"),
    ("record age as text", KINESIS, ['MaximumRecordAgeInSeconds: "60"'], '7: mappings.m.MaximumRecordAgeInSeconds: "60" is text, allowed: -1 or 60 to 604800'),
    ("record age of a queue", QUEUE, ["MaximumRecordAgeInSeconds: 60"], f"6: mappings.m.MaximumRecordAgeInSeconds: {_STREAM_ONLY}"),
    ("bisecting of a queue", QUEUE, ["BisectBatchOnFunctionError: false"], f"6: mappings.m.BisectBatchOnFunctionError: {_STREAM_ONLY}"),
    ("tumbling window of a queue", QUEUE, ["TumblingWindowInSeconds: 0"], f"6: mappings.m.TumblingWindowInSeconds: {_STREAM_ONLY}"),
    ("tumbling window above its range", KINESIS, ["TumblingWindowInSeconds: 901"], "7: mappings.m.TumblingWindowInSeconds: 901 is out of range, allowed: 0 to 900"),
    ("unknown response type", QUEUE, ["FunctionResponseTypes: [Report]"], '6: mappings.m.FunctionResponseTypes[0]: "Report" is not one of the choices, allowed: ReportBatchItemFailures'),
    ("destination of a queue", QUEUE, [f"DestinationConfig: {{OnFailure: {{Destination: {_DLQ}}}}}"], f"6: mappings.m.DestinationConfig: {_STREAM_ONLY}"),
    ("role for the destination of a queue", QUEUE, ["destination_role_arn: arn:aws:iam::123456789012:role/r"], f"6: mappings.m.destination_role_arn: {_STREAM_ONLY}"),
    ("role for no destination", KINESIS, ["DestinationConfig: {OnFailure: {Destination: ''}}", "destination_role_arn: arn:aws:iam::123456789012:role/r"], "8: mappings.m.destination_role_arn: says who writes to the destination, needed: DestinationConfig.OnFailure.Destination"),
    ("destination on success", KINESIS, ["DestinationConfig: {OnSuccess: {}}"], "7: mappings.m.DestinationConfig.OnSuccess: is not for event source mappings, allowed: OnFailure"),
    ("filter that is no JSON", KINESIS, ["FilterCriteria: {Filters: [{Pattern: '{'}]}"], '7: mappings.m.FilterCriteria.Filters[0].Pattern: "{" is not JSON, allowed: an object or the JSON text of one'),
    ("filter that is a list", KINESIS, ["FilterCriteria: {Filters: [{Pattern: [1]}]}"], "7: mappings.m.FilterCriteria.Filters[0].Pattern: [1] is not a pattern, allowed: an object or the JSON text of one"),
    ("filter with a bare value", KINESIS, ["FilterCriteria: {Filters: [{Pattern: {data: {type: order}}}]}"], '7: mappings.m.FilterCriteria.Filters[0].Pattern.data.type: is "order", allowed: a list of alternatives, or an object of keys'),
    ("filter with an empty list", KINESIS, ["FilterCriteria: {Filters: [{Pattern: {data: []}}]}"], "7: mappings.m.FilterCriteria.Filters[0].Pattern.data: is an empty list, allowed: a list of alternatives, not empty"),
    ("filter that is empty", KINESIS, ["FilterCriteria: {Filters: [{Pattern: {}}]}"], "7: mappings.m.FilterCriteria.Filters[0].Pattern: the pattern is an empty object, allowed: keys with lists of alternatives"),
    ("filter with an unknown operator", QUEUE, ["FilterCriteria:", "  Filters:", "    - Pattern:", "        body:", "          type: [{regex: x}]"], "10: mappings.m.FilterCriteria.Filters[0].Pattern.body.type[0].regex: is not an operator, allowed: one of exists, prefix, suffix, equals-ignore-case, wildcard, anything-but, numeric, cidr, exactly"),
    ("filter with a wrong range in AWS's text", QUEUE, ["""FilterCriteria: {Filters: [{Pattern: '{"body":{"n":[{"numeric":[">","1"]}]}}'}]}"""], '6: mappings.m.FilterCriteria.Filters[0].Pattern.body.n[0].numeric[1]: is "1", allowed: a number'),
    ("filter of a stream on plain text", KINESIS, ["FilterCriteria: {Filters: [{Pattern: {partitionKey: [a]}}, {Pattern: {data: [a]}}]}"], "7: mappings.m.FilterCriteria.Filters[1].Pattern.data: is a list of alternatives, but data of this source is matched as JSON, allowed: an object of its keys"),
    ("filter of a table on plain text", DYNAMODB, ["FilterCriteria: {Filters: [{Pattern: {dynamodb: [a]}}]}"], "7: mappings.m.FilterCriteria.Filters[0].Pattern.dynamodb: is a list of alternatives, but dynamodb of this source is matched as JSON, allowed: an object of its keys"),
    ("filter that is too long", QUEUE, ["FilterCriteria: {Filters: [{Pattern: {body: [" + "x" * 4096 + "]}}]}"], "6: mappings.m.FilterCriteria.Filters[0].Pattern: is 4109 characters long, allowed: at most 4096"),
    ("more filters than AWS allows", QUEUE, ["FilterCriteria: {Filters: [" + ", ".join(["{Pattern: {a: [1]}}"] * 6) + "]}"], "6: mappings.m.FilterCriteria.Filters: is 6 entries long, allowed: at most 5, or up to 10 with limits.filters"),
    ("too many filters", QUEUE, ["FilterCriteria: {Filters: [" + ", ".join(["{Pattern: {a: [1]}}"] * 11) + "]}"], "6: mappings.m.FilterCriteria.Filters: is 11 entries long, allowed: a list of a block with Pattern, at most 10 entries"),
    ("key that is no key", QUEUE, ["KMSKeyArn: key"], '6: mappings.m.KMSKeyArn: "key" is not the ARN of a key, allowed: arn:aws:kms:REGION:ACCOUNT:key/ID'),
    ("scaling of a stream", KINESIS, ["ScalingConfig: {MaximumConcurrency: 2}"], f"7: mappings.m.ScalingConfig: {_QUEUE_ONLY}"),
    ("concurrency of one", QUEUE, ["ScalingConfig: {MaximumConcurrency: 1}"], "6: mappings.m.ScalingConfig.MaximumConcurrency: 1 is out of range, allowed: 2 to 1000"),
    ("pollers of a stream", KINESIS, ["ProvisionedPollerConfig: {MinimumPollers: 2}"], f"7: mappings.m.ProvisionedPollerConfig: {_QUEUE_ONLY}"),
    ("pollers without a number", QUEUE, ["ProvisionedPollerConfig: {}"], "6: mappings.m.ProvisionedPollerConfig: is empty, needed: MinimumPollers (2 to 200) or MaximumPollers (2 to 10000), or both"),
    ("fewer pollers at most than at least", QUEUE, ["ProvisionedPollerConfig: {MinimumPollers: 9, MaximumPollers: 8}"], "6: mappings.m.ProvisionedPollerConfig: MaximumPollers 8 is less than MinimumPollers 9, allowed: at least as many"),
    ("pollers above their range", QUEUE, ["ProvisionedPollerConfig: {MinimumPollers: 201}"], "6: mappings.m.ProvisionedPollerConfig.MinimumPollers: 201 is out of range, allowed: 2 to 200"),
    ("poller group", QUEUE, ["ProvisionedPollerConfig: {MinimumPollers: 2, PollerGroupName: g}"], f"6: mappings.m.ProvisionedPollerConfig.PollerGroupName: {_KAFKA}"),
    ("metric of Kafka", KINESIS, ["MetricsConfig: {Metrics: [KafkaMetrics]}"], '7: mappings.m.MetricsConfig.Metrics[0]: "KafkaMetrics" is not one of the choices, allowed: EventCount'),
    ("metric named twice", KINESIS, ["MetricsConfig: {Metrics: [EventCount, EventCount]}"], '7: mappings.m.MetricsConfig.Metrics: names "EventCount" twice, allowed: once'),
    ("tag that is a number", QUEUE, ["Tags: {cost: 12}"], '6: mappings.m.Tags.cost: 12 is a number, allowed: text, at most 256 characters (put it in quotes: "...")'),
    ("tag whose Key is a number", QUEUE, ["Tags: [{Key: 12, Value: a}]"], "6: mappings.m.Tags: is a list, allowed: a block of names and values or a list of a block with Key and Value"),
    ("tag given twice", QUEUE, ["Tags: [{Key: a, Value: b}, {Key: a, Value: c}]"], '6: mappings.m.Tags: has the Key "a" twice, allowed: once'),
    ("topics", KINESIS, ["Topics: [orders]"], f"7: mappings.m.Topics: {_KAFKA}"),
    ("topics as Terraform spells them", KINESIS, ["topics: [orders]"], f"7: mappings.m.topics: {_KAFKA}"),
    ("queues", QUEUE, ["Queues: [orders]"], "6: mappings.m.Queues: is only for Amazon MQ sources, which are not supported"),
    ("DocumentDB", QUEUE, ["DocumentDBEventSourceConfig: {}"], "6: mappings.m.DocumentDBEventSourceConfig: is only for DocumentDB sources, which are not supported"),
    ("extended visibility of a stream", KINESIS, ["extend_visibility: true"], f"7: mappings.m.extend_visibility: {_QUEUE_ONLY}"),
    ("role that is no role", QUEUE, ["role_arn: reader"], '6: mappings.m.role_arn: "reader" is not the ARN of a role, allowed: arn:aws:iam::ACCOUNT:role/NAME'),
    ("poll interval too short", QUEUE, ["poll_interval: 0.01"], "6: mappings.m.poll_interval: 0.01 is out of range, allowed: 0.05 to 3600"),
    ("misspelled key", QUEUE, ["BatchSzie: 1"], "6: mappings.m.BatchSzie: is not a known key, did you mean BatchSize?"),
    ("misspelled key of Terraform's", QUEUE, ["batch_szie: 1"], "6: mappings.m.batch_szie: is not a known key, did you mean batch_size?"),
    ("key of ours in the wrong case", QUEUE, ["Poll_Interval: 1"], "6: mappings.m.Poll_Interval: is not a known key, did you mean poll_interval?"),
    ("both spellings of a key", QUEUE, ["BatchSize: 1", "batch_size: 1"], "7: mappings.m.batch_size: is given twice, first as BatchSize on line 6, allowed: one spelling of it"),
    ("the same key twice", QUEUE, ["BatchSize: 1", "BatchSize: 1"], "7: mappings.m.BatchSize: is given twice, first on line 6, allowed: once"),
]  # fmt: skip

# (id, source, further lines): as AWS takes it, but not built. The dotted field and what is said about it.
NOT_YET = [
    ("KMSKeyArn", QUEUE, ["KMSKeyArn: arn:aws:kms:eu-west-1:123456789012:key/1"], "KMSKeyArn: is not supported yet, leave it out"),
]  # fmt: skip

# (id, EventSourceArn, what is said about it)
WRONG_SOURCES = [
    ("a name", "orders", f'"orders" is not an ARN, allowed: {_SOURCES}'),
    ("a queue's URL", "https://sqs.eu-west-1.amazonaws.com/123456789012/orders", f'"https://sqs.eu-west-1.amazonaws.com/123456789012/orders" is not an ARN, allowed: {_SOURCES}'),
    ("a table", "arn:aws:dynamodb:eu-west-1:123456789012:table/t", '"arn:aws:dynamodb:eu-west-1:123456789012:table/t" is a table, allowed: its stream, arn:aws:dynamodb:REGION:ACCOUNT:table/NAME/stream/LABEL'),
    ("a consumer", f"{KINESIS}/consumer/c:1", f'"{KINESIS}/consumer/c:1" is a consumer (enhanced fan-out), not supported yet, allowed: its stream'),
    ("a stream without its kind", "arn:aws:kinesis:eu-west-1:123456789012:orders", '"arn:aws:kinesis:eu-west-1:123456789012:orders" is malformed, allowed: arn:aws:kinesis:REGION:ACCOUNT:stream/NAME'),
    ("a queue without a region", "arn:aws:sqs::123456789012:orders", '"arn:aws:sqs::123456789012:orders" is malformed, allowed: arn:aws:sqs:REGION:ACCOUNT:NAME'),
    ("a queue with a short account", "arn:aws:sqs:eu-west-1:12345:orders", f'"arn:aws:sqs:eu-west-1:12345:orders" is not an ARN, allowed: {_SOURCES}'),
    ("a Kafka cluster", "arn:aws:kafka:eu-west-1:123456789012:cluster/a/b", f"Kafka sources are not supported, allowed: {_SOURCES}"),
    ("a broker", "arn:aws:mq:eu-west-1:123456789012:broker:a:b", f"Amazon MQ sources are not supported, allowed: {_SOURCES}"),
    ("a DocumentDB cluster", "arn:aws:rds:eu-west-1:123456789012:cluster:a", f"DocumentDB sources are not supported, allowed: {_SOURCES}"),
    ("a topic", "arn:aws:sns:eu-west-1:123456789012:t", f'"arn:aws:sns:eu-west-1:123456789012:t" names sns, which is no event source, allowed: {_SOURCES}'),
]  # fmt: skip

# (id, Destination, what is said about it)
WRONG_DESTINATIONS = [
    ("a name", "dlq", f'"dlq" is no destination, allowed: {_DESTINATIONS}'),
    ("a function", "arn:aws:lambda:eu-west-1:123456789012:function:f", f'"arn:aws:lambda:eu-west-1:123456789012:function:f" is no destination, allowed: {_DESTINATIONS}'),
    ("a Kafka topic", "kafka://t", f'"kafka://t" is a Kafka topic, not supported yet, allowed: {_DESTINATIONS}'),
    ("a FIFO queue", f"{_DLQ}.fifo", f'"{_DLQ}.fifo" is FIFO, allowed: a standard queue or topic'),
    ("a FIFO topic", f"{_TOPIC}.fifo", f'"{_TOPIC}.fifo" is FIFO, allowed: a standard queue or topic'),
    ("a queue without a region", "arn:aws:sqs::123456789012:dlq", '"arn:aws:sqs::123456789012:dlq" is malformed, allowed: arn:aws:sqs:REGION:ACCOUNT:NAME'),
    ("a queue without an account", "arn:aws:sqs:eu-west-1::dlq", '"arn:aws:sqs:eu-west-1::dlq" is malformed, allowed: arn:aws:sqs:REGION:ACCOUNT:NAME'),
    ("a subscription", f"{_TOPIC}:9c7e", f'"{_TOPIC}:9c7e" is malformed, allowed: arn:aws:sns:REGION:ACCOUNT:NAME'),
    ("a folder of a bucket", f"{_BUCKET}/failed", f'"{_BUCKET}/failed" is malformed, allowed: arn:aws:s3:::BUCKET'),
    ("an access point", "arn:aws:s3:eu-west-1:123456789012:accesspoint/a", '"arn:aws:s3:eu-west-1:123456789012:accesspoint/a" is malformed, allowed: arn:aws:s3:::BUCKET'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arn", "expected"), [case[1:] for case in WRONG_DESTINATIONS], ids=[case[0] for case in WRONG_DESTINATIONS]
)
def test_a_destination_that_cannot_be_written_is_named_with_what_is_right(tmp_path: Path, arn: str, expected: str):
    text = mapping(KINESIS, f'DestinationConfig: {{OnFailure: {{Destination: "{arn}"}}}}')
    assert mistakes(tmp_path, text) == [
        f"poller.yaml:7: mappings.m.DestinationConfig.OnFailure.Destination: {expected}"
    ]


@pytest.mark.parametrize(("arn", "more", "expected"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_rule_that_is_broken_is_named_with_its_line(tmp_path: Path, arn: str, more: list[str], expected: str):
    assert mistakes(tmp_path, mapping(arn, *more)) == [f"poller.yaml:{expected}"]


@pytest.mark.parametrize(("arn", "more", "expected"), [case[1:] for case in NOT_YET], ids=[case[0] for case in NOT_YET])
def test_what_is_not_built_is_refused(tmp_path: Path, arn: str, more: list[str], expected: str):
    line = 6 if arn == QUEUE else 7
    assert mistakes(tmp_path, mapping(arn, *more)) == [f"poller.yaml:{line}: mappings.m.{expected}"]


@pytest.mark.parametrize(
    ("arn", "expected"), [case[1:] for case in WRONG_SOURCES], ids=[case[0] for case in WRONG_SOURCES]
)
def test_a_source_that_cannot_be_read_is_named_with_what_is_right(tmp_path: Path, arn: str, expected: str):
    text = f"mappings:\n  m:\n    EventSourceArn: {arn}\n    FunctionName: f\n"
    assert mistakes(tmp_path, text) == [f"poller.yaml:3: mappings.m.EventSourceArn: {expected}"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["StartingPosition: AT_TIMESTAMP"], "6: mappings.m.StartingPositionTimestamp: is missing, needed with StartingPosition AT_TIMESTAMP: unix seconds or a time such as 2026-11-20T10:00:00Z"),
        (["StartingPosition: AT_TIMESTAMP", "StartingPositionTimestamp: 1800000001"], "7: mappings.m.StartingPositionTimestamp: lies in the future, allowed: a time that has passed"),
        (["StartingPosition: AT_TIMESTAMP", "StartingPositionTimestamp: yesterday"], '7: mappings.m.StartingPositionTimestamp: "yesterday" is not a time, allowed: unix seconds or a time such as 2026-11-20T10:00:00Z'),
        (["StartingPosition: AT_TIMESTAMP", "StartingPositionTimestamp: true"], "7: mappings.m.StartingPositionTimestamp: true is not a time, allowed: unix seconds or a time such as 2026-11-20T10:00:00Z"),
        (["StartingPosition: EARLIEST"], '6: mappings.m.StartingPosition: "EARLIEST" is not one of the choices, allowed: TRIM_HORIZON, LATEST or AT_TIMESTAMP'),
        (["Enabled: true"], "3: mappings.m.StartingPosition: is missing, allowed: TRIM_HORIZON, LATEST or AT_TIMESTAMP"),
    ],
    ids=["no timestamp", "in the future", "no time", "a boolean", "unknown position", "no position"],
)  # fmt: skip
def test_a_kinesis_stream_needs_a_start(tmp_path: Path, lines: list[str], expected: str):
    text = mapping(KINESIS).replace("    StartingPosition: TRIM_HORIZON\n", "".join(f"    {line}\n" for line in lines))
    expected = expected.replace(
        "6: mappings.m.StartingPositionTimestamp: is missing", "3: mappings.m.StartingPositionTimestamp: is missing"
    )
    assert mistakes(tmp_path, text) == [f"poller.yaml:{expected}"]


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ("StartingPosition: AT_TIMESTAMP", "6: mappings.m.StartingPosition: AT_TIMESTAMP is only for Kinesis streams, allowed: TRIM_HORIZON or LATEST"),
        ("Enabled: true", "3: mappings.m.StartingPosition: is missing, allowed: TRIM_HORIZON or LATEST"),
    ],
    ids=["at a timestamp", "no position"],
)  # fmt: skip
def test_a_table_stream_starts_at_one_of_its_ends(tmp_path: Path, position: str, expected: str):
    text = mapping(DYNAMODB).replace("StartingPosition: TRIM_HORIZON", position)
    assert mistakes(tmp_path, text) == [f"poller.yaml:{expected}"]


def test_a_tumbling_window_has_one_lane_and_no_filters(tmp_path: Path):
    lines = [
        "TumblingWindowInSeconds: 9",
        "ParallelizationFactor: 2",
        "FilterCriteria: {Filters: [{Pattern: {a: [1]}}]}",
    ]
    assert mistakes(tmp_path, mapping(KINESIS, *lines)) == [
        "poller.yaml:8: mappings.m.ParallelizationFactor: 2 is out of range, allowed with TumblingWindowInSeconds: 1",
        "poller.yaml:9: mappings.m.FilterCriteria: is not allowed together with TumblingWindowInSeconds",
    ]


def test_provisioned_pollers_exclude_maximum_concurrency(tmp_path: Path):
    lines = ["ScalingConfig: {MaximumConcurrency: 5}", "ProvisionedPollerConfig: {MinimumPollers: 2}"]
    assert mistakes(tmp_path, mapping(QUEUE, *lines)) == [
        "poller.yaml:7: mappings.m.ProvisionedPollerConfig: is not allowed together with ScalingConfig.MaximumConcurrency",
    ]


def test_a_mapping_names_its_source_and_its_function(tmp_path: Path):
    assert mistakes(tmp_path, "mappings:\n  m:\n    BatchSize: 1\n") == [
        f"poller.yaml:2: mappings.m.EventSourceArn: is missing, allowed: {_SOURCES}",
        "poller.yaml:2: mappings.m.FunctionName: is missing, allowed: a name in functions, or the name or ARN of a Lambda function",
    ]  # fmt: skip


def test_a_rule_that_reads_a_broken_field_keeps_silent(tmp_path: Path):
    lines = ["BatchSize: 11", "MaximumBatchingWindowInSeconds: none"]
    assert mistakes(tmp_path, mapping(QUEUE, *lines)) == [
        'poller.yaml:7: mappings.m.MaximumBatchingWindowInSeconds: "none" is text, allowed: a whole number, 0 to 300'
    ]


@pytest.mark.parametrize(
    ("arn", "more"),
    [
        (KINESIS, ["BatchSize: 10000", "MaximumBatchingWindowInSeconds: 300"]),
        (DYNAMODB, ["BatchSize: 101"]),
        (QUEUE, ["BatchSize: 10000", "MaximumBatchingWindowInSeconds: 1"]),
        (FIFO, ["BatchSize: 10", "MaximumBatchingWindowInSeconds: 0"]),
        (KINESIS, ["ParallelizationFactor: 1", "MaximumRetryAttempts: -1", "MaximumRecordAgeInSeconds: -1"]),
        (KINESIS, ["BisectBatchOnFunctionError: false", "TumblingWindowInSeconds: 0", "FunctionResponseTypes: []"]),
        (KINESIS, ["DestinationConfig: {OnFailure: {Destination: ''}}", "FilterCriteria: {}"]),
        (QUEUE, ["ScalingConfig: {}", "FilterCriteria: {Filters: []}", "MetricsConfig: {Metrics: [EventCount]}"]),
        ("arn:aws-cn:sqs:cn-north-1:000000000000:a", []),
    ],
    ids=["stream's limits", "table's large batch", "queue's limits", "FIFO limits", "idle", "idle flags", "cleared", "empty", "China"],
)  # fmt: skip
def test_what_aws_takes_and_asks_for_nothing_unbuilt_is_taken(tmp_path: Path, arn: str, more: list[str]):
    assert [found.source.arn for found in settings(tmp_path, mapping(arn, *more)).mappings] == [arn]


def test_more_filters_are_allowed_by_a_limit(tmp_path: Path):
    text = mapping(QUEUE, "FilterCriteria: {Filters: [" + ", ".join(["{Pattern: {a: [1]}}"] * 10) + "]}")
    assert len(settings(tmp_path, text + "limits: {filters: 10}\n").mappings) == 1
    (line,) = mistakes(tmp_path, text + "limits: {filters: 9}\n")
    assert line.endswith("Filters: is 10 entries long, allowed: at most 9, or up to 10 with limits.filters")
    assert mistakes(tmp_path, mapping(QUEUE) + "limits: {filters: 11}\n") == [
        "poller.yaml:6: limits.filters: 11 is out of range, allowed: 5 to 10"
    ]
