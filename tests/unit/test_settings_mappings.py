"""What becomes of a mapping that is right: the frozen values, their equality, and what is shown of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from poller.destinations import DestinationSettings
from poller.destinations.s3 import S3Destination
from poller.destinations.sns import SnsDestination
from poller.destinations.sqs import SqsDestination
from poller.mapping.filtering import Filters
from poller.model.policy import Latest, Policy
from poller.model.record import At, TrimHorizon
from poller.settings import MappingSettings
from poller.sources import SourceSettings
from poller.sources.dynamodb import DynamoDBStream
from poller.sources.kinesis import KinesisStream
from poller.sources.sqs import SqsQueue
from tests.unit.settings_file import DYNAMODB, KINESIS, QUEUE, mapping, mistakes, settings

_ROLE = "arn:aws:iam::123456789012:role/read"


def _only(folder: Path, text: str) -> MappingSettings:
    (found,) = settings(folder, text).mappings
    return found


@pytest.mark.parametrize(
    ("arn", "more", "expected"),
    [
        (KINESIS, [f"role_arn: {_ROLE}"], KinesisStream(arn=KINESIS, role_arn=_ROLE)),
        (DYNAMODB, [], DynamoDBStream(arn=DYNAMODB)),
        (QUEUE, [], SqsQueue(arn=QUEUE, wait=1)),
        (QUEUE, ["poll_interval: 0.25"], SqsQueue(arn=QUEUE, wait=1)),
        (QUEUE, ["poll_interval: 1.1"], SqsQueue(arn=QUEUE, wait=2)),
        (QUEUE, ["poll_interval: 3600"], SqsQueue(arn=QUEUE, wait=20)),
        (QUEUE, ["MaximumBatchingWindowInSeconds: 1"], SqsQueue(arn=QUEUE, windowed=True)),
    ],
    ids=["kinesis with a role", "dynamodb", "queue", "short wait", "wait rounded up", "longest wait", "window"],
)
def test_the_arn_says_which_source_it_is(tmp_path: Path, arn: str, more: list[str], expected: SourceSettings):
    assert _only(tmp_path, mapping(arn, *more)).source == expected


@pytest.mark.parametrize(
    ("arn", "more", "expected"),
    [
        (KINESIS, [], Policy(batch_size=100, start=TrimHorizon())),
        (QUEUE, [], Policy(batch_size=10, start=TrimHorizon())),
        (QUEUE, ["BatchSize: 7", "MaximumBatchingWindowInSeconds: 9", "poll_interval: 2"], Policy(batch_size=7, window=9.0, start=TrimHorizon(), poll_interval=2.0)),
    ],
    ids=["stream's defaults", "queue's defaults", "all given"],
)  # fmt: skip
def test_the_policy_holds_the_mapping_rules(tmp_path: Path, arn: str, more: list[str], expected: Policy):
    assert _only(tmp_path, mapping(arn, *more)).policy == expected


@pytest.mark.parametrize(
    ("arn", "aws", "expected"),
    [
        (KINESIS, "", False),
        (KINESIS, "aws: {endpoint_url: 'http://127.0.0.1:4566'}\n", True),
        (DYNAMODB, "aws: {endpoint_url: 'http://localstack:4566'}\n", True),
        (DYNAMODB, "aws: {endpoints: {dynamodbstreams: 'http://127.0.0.1:8000'}}\n", True),
        (DYNAMODB, "aws: {endpoints: {lambda: 'http://127.0.0.1:3001'}}\n", False),
        (KINESIS, "aws: {endpoint_url: 'https://vpce-1.kinesis.eu-west-1.vpce.amazonaws.com'}\n", False),
        (KINESIS, "aws: {endpoint_url: 'https://kinesis.eu-west-1.api.aws'}\n", False),
        (KINESIS, "aws: {endpoint_url: 'https://kinesis.cn-north-1.amazonaws.com.cn'}\n", False),
        (QUEUE, "aws: {endpoint_url: 'http://127.0.0.1:4566'}\n", False),
    ],
    ids=["aws", "emulator", "by name", "one service", "another", "endpoint of a vpc", "dual stack", "china", "queue"],
)
def test_a_stream_is_read_eagerly_only_where_somebody_stands_in_for_aws(
    tmp_path: Path, arn: str, aws: str, expected: bool
):
    assert settings(tmp_path, aws + mapping(arn)).mappings[0].policy.eager is expected


def test_a_mapping_polls_as_often_as_the_file_says_unless_it_says_so_itself(tmp_path: Path):
    text = f"poll_interval: 5\n{mapping(QUEUE)}  n: {{EventSourceArn: '{QUEUE}', FunctionName: g, poll_interval: 2}}\n"
    found = settings(tmp_path, text).mappings
    assert [each.policy.poll_interval for each in found] == [5.0, 2.0]
    assert [each.source for each in found] == [SqsQueue(arn=QUEUE, wait=5), SqsQueue(arn=QUEUE, wait=2)]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["StartingPosition: LATEST"], Latest()),
        (["StartingPosition: AT_TIMESTAMP", "StartingPositionTimestamp: 1700000000"], At(time=1_700_000_000.0)),
        (["StartingPosition: AT_TIMESTAMP", "StartingPositionTimestamp: 1700000000.5"], At(time=1_700_000_000.5)),
        (["StartingPosition: AT_TIMESTAMP", "StartingPositionTimestamp: 2023-11-14T22:13:20Z"], At(time=1_700_000_000.0)),
        (["StartingPosition: AT_TIMESTAMP", "StartingPositionTimestamp: '2023-11-14T23:13:20+01:00'"], At(time=1_700_000_000.0)),
        (["StartingPosition: AT_TIMESTAMP", "StartingPositionTimestamp: 2023-11-14 22:13:20"], At(time=1_700_000_000.0)),
        (["StartingPosition: AT_TIMESTAMP", "StartingPositionTimestamp: 2023-11-14"], At(time=1_699_920_000.0)),
    ],
    ids=["latest", "seconds", "fraction", "YAML time", "text with a zone", "no zone is UTC", "date"],
)  # fmt: skip
def test_a_stream_starts_where_the_mapping_says(tmp_path: Path, lines: list[str], expected: object):
    text = mapping(KINESIS).replace("    StartingPosition: TRIM_HORIZON\n", "".join(f"    {line}\n" for line in lines))
    assert _only(tmp_path, text).policy.start == expected


def test_a_uuid_follows_from_the_name_alone(tmp_path: Path):
    stream, queue = _only(tmp_path, mapping(KINESIS)), _only(tmp_path, mapping(QUEUE))
    other = _only(tmp_path, mapping(QUEUE).replace("  m:", "  n:"))
    assert stream.uuid == queue.uuid == "59004163-e744-5d20-acdc-01d51c799621"
    assert other.uuid != queue.uuid


_STREAM_ECHO: dict[str, Any] = {
    "EventSourceArn": KINESIS,
    "FunctionName": "f",
    "BatchSize": 100,
    "MaximumBatchingWindowInSeconds": 0,
    "ParallelizationFactor": 1,
    "MaximumRecordAgeInSeconds": -1,
    "MaximumRetryAttempts": -1,
    "BisectBatchOnFunctionError": False,
    "TumblingWindowInSeconds": 0,
    "DestinationConfig": {"OnFailure": {}},
    "FunctionResponseTypes": [],
    "StartingPosition": "TRIM_HORIZON",
}
_QUEUE_ECHO: dict[str, Any] = {
    "EventSourceArn": QUEUE,
    "FunctionName": "f",
    "BatchSize": 10,
    "MaximumBatchingWindowInSeconds": 0,
    "FunctionResponseTypes": [],
}


@pytest.mark.parametrize(
    ("arn", "more", "expected"),
    [
        (KINESIS, [], _STREAM_ECHO),
        (KINESIS, ["Enabled: false", "FilterCriteria: {Filters: []}", "DestinationConfig: {}"], _STREAM_ECHO),
        (KINESIS, ["DestinationConfig: {OnFailure: {Destination: ''}}"], _STREAM_ECHO),
        (QUEUE, [], _QUEUE_ECHO),
        (QUEUE, ["ScalingConfig: {}", "Tags: {}"], _QUEUE_ECHO),
        (QUEUE, ["Tags: {team: a}", "batch_size: 3"], _QUEUE_ECHO | {"BatchSize": 3, "Tags": {"team": "a"}}),
        (QUEUE, [f"role_arn: {_ROLE}", "poll_interval: 2"], _QUEUE_ECHO | {"role_arn": _ROLE, "poll_interval": 2.0}),
    ],
    ids=["stream", "stream with empty blocks", "cleared destination", "queue", "queue with empty blocks", "given", "ours"],
)  # fmt: skip
def test_the_document_shows_what_aws_would_echo(tmp_path: Path, arn: str, more: list[str], expected: dict[str, Any]):
    assert json.loads(_only(tmp_path, mapping(arn, *more)).document) == expected


@pytest.mark.parametrize("source", [KINESIS, DYNAMODB], ids=["kinesis", "dynamodb"])
@pytest.mark.parametrize("spelled", ["DestinationConfig: {OnFailure: {Destination: '%s'}}", "destination_config: {on_failure: {destination_arn: '%s'}}"], ids=["AWS", "Terraform"])  # fmt: skip
@pytest.mark.parametrize(
    "expected",
    [
        SqsDestination(arn="arn:aws:sqs:eu-west-1:123456789012:dlq"),
        SnsDestination(arn="arn:aws-us-gov:sns:us-gov-west-1:123456789012:failed_orders"),
        S3Destination(arn="arn:aws:s3:::failed.orders.fifo"),
    ],
    ids=["queue", "topic", "bucket"],
)
def test_a_streams_destination_is_a_queue_a_topic_or_a_bucket(
    tmp_path: Path, source: str, spelled: str, expected: DestinationSettings
):
    found = _only(tmp_path, mapping(source, spelled % expected.arn))
    assert found.destination == expected
    assert json.loads(found.document)["DestinationConfig"] == {"OnFailure": {"Destination": expected.arn}}


@pytest.mark.parametrize(
    "more",
    [[], ["DestinationConfig: {}"], ["DestinationConfig: {OnFailure: {Destination: ''}}"]],
    ids=["left out", "empty", "cleared"],
)
def test_a_destination_that_is_left_out_or_cleared_is_none(tmp_path: Path, more: list[str]):
    assert _only(tmp_path, mapping(KINESIS, *more)).destination is None


@pytest.mark.parametrize("arn", ["arn:aws:sqs:eu-west-1:123456789012:dlq", "arn:aws:sns:eu-west-1:123456789012:failed", "arn:aws:s3:::failed"])  # fmt: skip
def test_a_destination_is_written_to_as_the_role_of_its_own(tmp_path: Path, arn: str):
    written = "arn:aws:iam::123456789012:role/write"
    lines = [f"DestinationConfig: {{OnFailure: {{Destination: '{arn}'}}}}", f"destination_role_arn: {written}"]
    found = _only(tmp_path, mapping(KINESIS, *lines, f"role_arn: {_ROLE}"))
    assert found.destination is not None
    assert (found.source, found.destination.role_arn) == (KinesisStream(arn=KINESIS, role_arn=_ROLE), written)
    assert json.loads(found.document)["destination_role_arn"] == written


def test_a_changed_destination_asks_for_a_restart(tmp_path: Path):
    line = "DestinationConfig: {OnFailure: {Destination: 'arn:aws:s3:::one'}}"
    text = mapping(KINESIS, line)
    assert _only(tmp_path, text) != _only(tmp_path, text.replace("one", "two"))


def test_the_document_is_compact(tmp_path: Path):
    document = _only(tmp_path, mapping(QUEUE)).document
    assert document == json.dumps(json.loads(document), separators=(",", ":"))


_PASCAL = f"""\
store: memory://
mappings:
  s:
    EventSourceArn: {KINESIS}
    FunctionName: f
    Enabled: false
    BatchSize: 7
    MaximumBatchingWindowInSeconds: 3
    StartingPosition: AT_TIMESTAMP
    StartingPositionTimestamp: 1700000000
    ParallelizationFactor: 1
    MaximumRetryAttempts: -1
    MaximumRecordAgeInSeconds: -1
    BisectBatchOnFunctionError: false
    TumblingWindowInSeconds: 0
    FunctionResponseTypes: []
    DestinationConfig: {{OnFailure: {{Destination: ""}}}}
    FilterCriteria: {{Filters: []}}
    MetricsConfig: {{Metrics: [EventCount]}}
    Tags: {{team: orders}}
  q:
    EventSourceArn: {QUEUE}
    FunctionName: f
    ScalingConfig: {{}}
"""
_SNAKE = f"""\
store: memory://
mappings:
  s:
    event_source_arn: {KINESIS}
    function_name: f
    enabled: false
    batch_size: 7
    maximum_batching_window_in_seconds: 3
    starting_position: AT_TIMESTAMP
    starting_position_timestamp: 1700000000
    parallelization_factor: 1
    maximum_retry_attempts: -1
    maximum_record_age_in_seconds: -1
    bisect_batch_on_function_error: false
    tumbling_window_in_seconds: 0
    function_response_types: []
    destination_config: {{on_failure: {{destination_arn: ""}}}}
    filter_criteria: {{filter: []}}
    metrics_config: {{metrics: [EventCount]}}
    tags: {{team: orders}}
  q:
    event_source_arn: {QUEUE}
    function_name: f
    scaling_config: {{}}
"""


def test_terraform_spellings_mean_the_same(tmp_path: Path):
    pascal, snake = settings(tmp_path, _PASCAL), settings(tmp_path, _SNAKE)
    assert pascal == snake
    assert [each.document for each in pascal.mappings] == [each.document for each in snake.mappings]


def test_terraform_nested_blocks_are_looked_into_and_named_as_they_are_spelled(tmp_path: Path):
    lines = [
        "filter_criteria: {filter: {pattern: '{\"body\": 1}'}}",
        "scaling_config: {maximum_concurrency: 1}",
        "provisioned_poller_config: {minimum_pollers: 1}",
        "kms_key_arn: key",
    ]
    places = [line.split(": ")[1] for line in mistakes(tmp_path, mapping(QUEUE, *lines))]
    assert places == [
        "mappings.m.filter_criteria.filter.pattern.body",
        "mappings.m.scaling_config.maximum_concurrency",
        "mappings.m.provisioned_poller_config.minimum_pollers",
        "mappings.m.kms_key_arn",
    ]


def test_cloudformation_tags_mean_the_same(tmp_path: Path):
    block = _only(tmp_path, mapping(QUEUE, "Tags: {team: orders}"))
    listed = _only(tmp_path, mapping(QUEUE, "Tags: [{Key: team, Value: orders}]"))
    assert block.document == listed.document


def test_a_file_read_again_asks_for_no_restart(tmp_path: Path):
    assert settings(tmp_path, _PASCAL) == settings(tmp_path, _PASCAL)


def test_what_is_only_for_people_asks_for_no_restart(tmp_path: Path):
    plain, tagged = _only(tmp_path, mapping(QUEUE)), _only(tmp_path, mapping(QUEUE, "Tags: {team: orders}"))
    assert plain == tagged
    assert plain.document != tagged.document


@pytest.mark.parametrize(
    "line",
    [
        "BatchSize: 9",
        "FilterCriteria: {Filters: [{Pattern: {body: [a]}}]}",
        "MaximumBatchingWindowInSeconds: 1",
        "Enabled: false",
        f"role_arn: {_ROLE}",
        "poll_interval: 2",
    ],
)
def test_what_changes_the_work_asks_for_a_restart(tmp_path: Path, line: str):
    assert _only(tmp_path, mapping(QUEUE)) != _only(tmp_path, mapping(QUEUE, line))


def test_a_changed_function_asks_for_a_restart(tmp_path: Path):
    text = mapping(QUEUE) + "functions: {f: {url: 'http://a', headers: {Authorization: one}}}\n"
    assert _only(tmp_path, text) != _only(tmp_path, text.replace("one", "two"))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("f", "f"),
        ("arn:aws:lambda:eu-west-1:123456789012:function:f", "arn:aws:lambda:eu-west-1:123456789012:function:f"),
        ("listed", "listed"),
        ("bill", "f:1"),
    ],
    ids=["by name", "by ARN", "in functions", "once in functions"],
)
def test_two_mappings_of_one_source_and_function_conflict(tmp_path: Path, one: str, two: str):
    text = f"""\
functions: {{listed: {{url: "http://a"}}, bill: {{lambda: "f:1"}}}}
mappings:
  m: {{EventSourceArn: "{QUEUE}", FunctionName: "{one}"}}
  n: {{EventSourceArn: "{QUEUE}", FunctionName: "{two}"}}
"""
    assert mistakes(tmp_path, text) == [
        f"poller.yaml:4: mappings.n: has the source and the function of m (at {tmp_path}/poller.yaml:3), "
        "allowed: one mapping for both".replace(f"{tmp_path}/", "")
    ]


def test_two_versions_of_one_function_may_read_one_source(tmp_path: Path):
    names = ["f", "f:1", "f:live", "f:$LATEST"]
    lines = [f"  m{i}: {{EventSourceArn: '{QUEUE}', FunctionName: '{name}'}}" for i, name in enumerate(names)]
    assert len(settings(tmp_path, "\n".join(["mappings:", *lines])).mappings) == 4


def test_filters_are_compiled_for_their_source(tmp_path: Path):
    found = _only(tmp_path, mapping(QUEUE, "FilterCriteria: {Filters: [{Pattern: {body: {type: [order]}}}]}"))
    assert found.policy.filters == Filters("sqs", ('{"body":{"type":["order"]}}',))
    assert json.loads(found.document)["FilterCriteria"] == {"Filters": [{"Pattern": '{"body":{"type":["order"]}}'}]}


@pytest.mark.parametrize(
    "line",
    [
        "FilterCriteria: {Filters: [{Pattern: {body: {type: [order, 5, null]}}}]}",
        """FilterCriteria: {Filters: [{Pattern: '{"body":{"type":["order",5,null]}}'}]}""",
        """filter_criteria: {filter: {pattern: '{ "body": {"type" : ["order", 5, null]} }'}}""",
    ],
    ids=["an object", "AWS's text", "Terraform's block with spaces in the text"],
)
def test_a_pattern_means_the_same_however_it_is_written(tmp_path: Path, line: str):
    assert _only(tmp_path, mapping(QUEUE, line)).policy.filters == Filters(
        "sqs", ('{"body":{"type":["order",5,null]}}',)
    )


def test_no_filters_are_none(tmp_path: Path):
    for line in ("FilterCriteria: {}", "FilterCriteria: {Filters: []}"):
        assert _only(tmp_path, mapping(QUEUE, line)).policy.filters is None
