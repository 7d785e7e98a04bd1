"""One mapping as `CreateEventSourceMapping` takes it: names, types, ranges and plain defaults. No I/O, no clock.

What depends on the source or on another field is in `rules`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema

from poller.mapping.filtering import LONGEST_PATTERN
from poller.settings import arns, values
from poller.settings.shape import AwsShape, PollInterval, RoleArn, Timestamp
from poller.settings.tree import quoted

_KAFKA = "is only for Kafka sources, which are not supported"
_MQ = "is only for Amazon MQ sources, which are not supported"
_DOCUMENTDB = "is only for DocumentDB sources, which are not supported"
_KAFKA_OR_MQ = "is only for Kafka, Amazon MQ and DocumentDB sources, which are not supported"
MOST_FILTERS = 10
"""Filters of a mapping after AWS has raised its quota."""

_TAG_BLOCK = {"type": "object", "additionalProperties": {"type": "string", "maxLength": 256}}
_TAG_LIST = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"Key": {"type": "string"}, "Value": {"type": "string"}},
        "required": ["Key", "Value"],
        "additionalProperties": False,
    },
}
"""CloudFormation's way."""


def _record_age(value: int) -> int:
    if value != -1 and not 60 <= value <= 604_800:
        raise ValueError(f"{value} is out of range, allowed: -1 (never too old) or 60 to 604800")
    return value


def _tags(value: object) -> object:
    """CloudFormation's list of Key and Value, as a block."""
    if not isinstance(value, list) or not all(
        isinstance(item, dict) and item.keys() == {"Key", "Value"} and isinstance(item["Key"], str) for item in value
    ):
        return value
    found: dict[str, object] = {}
    for item in value:
        if item["Key"] in found:
            raise ValueError(f"has the Key {quoted(item['Key'])} twice, allowed: once")
        found[item["Key"]] = item["Value"]
    return found


class Filter(AwsShape):
    """One filter; a record that matches any of them is delivered."""

    pattern: Annotated[
        str,
        BeforeValidator(values.pattern),
        WithJsonSchema({"anyOf": [{"type": "object"}, {"type": "string", "maxLength": LONGEST_PATTERN}]}),
    ] = Field(alias="Pattern")
    """An object, or AWS's JSON text of it: keys with lists of alternatives."""


class FilterCriteria(AwsShape):
    """Which records are delivered; the others are settled without an invocation."""

    filter: list[Filter] = Field(default_factory=list, alias="Filters", max_length=MOST_FILTERS)
    """At most 5, or as many as limits.filters says."""


class OnFailure(AwsShape):
    """Where the account of given-up records goes."""

    destination_arn: Annotated[str, AfterValidator(arns.destination)] = Field(
        default="", alias="Destination", max_length=350
    )
    """The ARN of a standard SQS queue, a standard SNS topic or an S3 bucket."""


class DestinationConfig(AwsShape):
    """Where the account of given-up records goes."""

    hints: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("OnSuccess", "on_success"), "is not for event source mappings, allowed: OnFailure"
    )
    on_failure: OnFailure | None = Field(default=None, alias="OnFailure")
    """For records that the function failed with for too often or too long."""


class ScalingConfig(AwsShape):
    """Limits of a queue's concurrency."""

    maximum_concurrency: int | None = Field(default=None, alias="MaximumConcurrency", ge=2, le=1000)
    """Invocations at the same time, at the most."""


class ProvisionedPollerConfig(AwsShape):
    """Pollers kept ready for a queue."""

    hints: ClassVar[Mapping[str, str]] = dict.fromkeys(("PollerGroupName", "poller_group_name"), _KAFKA)
    minimum_pollers: int | None = Field(default=None, alias="MinimumPollers", ge=2, le=200)
    """Pollers at the least."""
    maximum_pollers: int | None = Field(default=None, alias="MaximumPollers", ge=2, le=10_000)
    """Pollers at the most."""


class MetricsConfig(AwsShape):
    """AWS's switch for metrics; all of poller's are always exported."""

    metrics: list[Literal["EventCount"]] = Field(default_factory=list, alias="Metrics", max_length=3)
    """Only EventCount exists for these sources."""


class MappingShape(AwsShape):
    """An event source mapping, by AWS's names or Terraform's."""

    model_config = ConfigDict(json_schema_extra={"required": ["EventSourceArn", "FunctionName"]})
    hints: ClassVar[Mapping[str, str]] = {
        "Topics": _KAFKA,
        "topics": _KAFKA,
        "Queues": _MQ,
        "queues": _MQ,
        "SelfManagedEventSource": _KAFKA,
        "self_managed_event_source": _KAFKA,
        "SourceAccessConfigurations": _KAFKA_OR_MQ,
        "source_access_configuration": _KAFKA_OR_MQ,
        "source_access_configurations": _KAFKA_OR_MQ,
        "AmazonManagedKafkaEventSourceConfig": _KAFKA,
        "amazon_managed_kafka_event_source_config": _KAFKA,
        "SelfManagedKafkaEventSourceConfig": _KAFKA,
        "self_managed_kafka_event_source_config": _KAFKA,
        "DocumentDBEventSourceConfig": _DOCUMENTDB,
        "document_db_event_source_config": _DOCUMENTDB,
        "LoggingConfig": _KAFKA,
        "logging_config": _KAFKA,
    }

    event_source_arn: str = Field(default="", alias="EventSourceArn", min_length=1)
    """The ARN of a Kinesis stream, of a DynamoDB table's stream, or of an SQS queue."""
    function_name: str = Field(default="", alias="FunctionName", min_length=1, max_length=256)
    """A name in `functions`, or the name or ARN of an AWS Lambda function, with :VERSION or :ALIAS if wanted."""
    enabled: bool = Field(default=True, alias="Enabled")
    """False: configured, but not polled."""
    batch_size: int | None = Field(default=None, alias="BatchSize", ge=1, le=10_000)
    """Records an event holds at most. Default: 100 for streams, 10 for queues. FIFO queues: at most 10."""
    maximum_batching_window_in_seconds: int = Field(default=0, alias="MaximumBatchingWindowInSeconds", ge=0, le=300)
    """Seconds a batch is gathered for. A queue with BatchSize above 10 needs 1; a FIFO queue has none."""
    starting_position: Literal["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"] | None = Field(
        default=None, alias="StartingPosition"
    )
    """Where a stream without checkpoints begins. Streams need it; AT_TIMESTAMP is for Kinesis only."""
    starting_position_timestamp: Timestamp | None = Field(default=None, alias="StartingPositionTimestamp")
    """With AT_TIMESTAMP: unix seconds or an ISO 8601 time, not in the future."""
    parallelization_factor: int = Field(default=1, alias="ParallelizationFactor", ge=1, le=10)
    """Batches of one shard at the same time, in order for each partition key. Streams only."""
    maximum_retry_attempts: int = Field(default=-1, alias="MaximumRetryAttempts", ge=-1, le=10_000)
    """Retries of a failing batch; -1: until the stream drops it. Streams only."""
    maximum_record_age_in_seconds: Annotated[
        int,
        AfterValidator(_record_age),
        WithJsonSchema({"type": "integer", "anyOf": [{"const": -1}, {"minimum": 60, "maximum": 604_800}]}),
    ] = Field(default=-1, alias="MaximumRecordAgeInSeconds")
    """Older records are given up; -1: never. Streams only."""
    bisect_batch_on_function_error: bool = Field(default=False, alias="BisectBatchOnFunctionError")
    """Halve a failing batch before it is retried. Streams only."""
    tumbling_window_in_seconds: int = Field(default=0, alias="TumblingWindowInSeconds", ge=0, le=900)
    """Seconds of a window over which the function aggregates; 0: none. Streams only."""
    function_response_types: list[Literal["ReportBatchItemFailures"]] = Field(
        default_factory=list, alias="FunctionResponseTypes", max_length=1
    )
    """[ReportBatchItemFailures]: the function says which records failed."""
    destination_config: DestinationConfig | None = Field(default=None, alias="DestinationConfig")
    """Where the account of given-up records goes. Streams only."""
    filter_criteria: FilterCriteria | None = Field(default=None, alias="FilterCriteria")
    """Which records are delivered."""
    kms_key_arn: Annotated[str, AfterValidator(arns.kms_key)] | None = Field(default=None, alias="KMSKeyArn")
    """The key that encrypts the filters at AWS."""
    scaling_config: ScalingConfig | None = Field(default=None, alias="ScalingConfig")
    """Limits of the concurrency. Queues only."""
    provisioned_poller_config: ProvisionedPollerConfig | None = Field(default=None, alias="ProvisionedPollerConfig")
    """Pollers kept ready. Queues only."""
    metrics_config: MetricsConfig | None = Field(default=None, alias="MetricsConfig")
    """AWS's switch for metrics; all of poller's are always exported."""
    tags: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=128)], Annotated[str, Field(max_length=256)]],
        BeforeValidator(_tags),
        WithJsonSchema({"anyOf": [_TAG_BLOCK, _TAG_LIST]}),
    ] = Field(default_factory=dict, alias="Tags")
    """Names and values for people."""
    role_arn: RoleArn | None = None
    """Ours: the role to assume for reading the source."""
    destination_role_arn: RoleArn | None = None
    """Ours: the role to assume for writing to the destination of DestinationConfig. Streams only."""
    poll_interval: PollInterval | None = None
    """Ours: seconds between reads of an idle shard; a queue is long-polled, waiting this long (at most 20)."""
    extend_visibility: bool = False
    """Ours: keep a queue's messages hidden as long as the function has them, up to 12 hours. Queues only."""


def echoed(shape: AwsShape) -> dict[str, Any]:
    """The fields that were given, under AWS's names."""
    return shape.model_dump(by_alias=True, exclude_unset=True, mode="json")
