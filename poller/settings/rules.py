"""AWS's rules between the fields of a mapping, each in one place. Decisions only: no I/O, no clock.

Source: semantics, sections 1.1 and 1.2. A rule is not asked when a field that it reads is broken already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from poller.mapping.filtering import compile_pattern, mistakes_for
from poller.settings.arns import SOURCES_ALLOWED, EventSource, Kind, lambda_function
from poller.settings.mapping_shape import MOST_FILTERS, MappingShape
from poller.settings.tree import listed, quoted

_STREAMS: frozenset[Kind] = frozenset({"kinesis", "dynamodb"})
_QUEUES: frozenset[Kind] = frozenset({"sqs"})
_NAMES: Mapping[Kind, str] = {"kinesis": "Kinesis streams", "dynamodb": "DynamoDB streams", "sqs": "SQS queues"}
_ONE: Mapping[Kind, str] = {"kinesis": "a Kinesis stream", "dynamodb": "a DynamoDB stream", "sqs": "an SQS queue"}

APPLIES: Mapping[str, frozenset[Kind]] = {
    "StartingPosition": _STREAMS,
    "StartingPositionTimestamp": frozenset({"kinesis"}),
    "ParallelizationFactor": _STREAMS,
    "MaximumRetryAttempts": _STREAMS,
    "MaximumRecordAgeInSeconds": _STREAMS,
    "BisectBatchOnFunctionError": _STREAMS,
    "TumblingWindowInSeconds": _STREAMS,
    "DestinationConfig": _STREAMS,
    "destination_role_arn": _STREAMS,
    "ScalingConfig": _QUEUES,
    "ProvisionedPollerConfig": _QUEUES,
    "extend_visibility": _QUEUES,
}
"""Fields that not every source has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What the rules look at."""

    shape: MappingShape
    source: EventSource | None
    """None when the EventSourceArn says nothing."""
    given: frozenset[str]
    """The fields that the file gives."""
    functions: frozenset[str]
    """The names in `functions`."""
    most_filters: int
    """`limits.filters`."""
    now: float

    @property
    def is_stream(self) -> bool:
        """Whether the source is known to be a stream."""
        return self.source is not None and self.source.kind in _STREAMS

    @property
    def is_queue(self) -> bool:
        """Whether the source is known to be a queue."""
        return self.source is not None and self.source.kind in _QUEUES

    @property
    def is_fifo(self) -> bool:
        """Whether the source is known to be a FIFO queue."""
        return self.source is not None and self.source.fifo


Check = Callable[[Case], str | None]
"""What is wrong, None when nothing is."""


def broken_rules(case: Case, broken: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Every mistake between the fields: the dotted field, and what is wrong, what is allowed."""
    for field in sorted(case.given & APPLIES.keys()):
        if case.source is not None and case.source.kind not in APPLIES[field]:
            kinds = listed((_NAMES[kind] for kind in sorted(APPLIES[field], reverse=True)), last="and")
            yield field, f"is only for {kinds}, this source is {_ONE[case.source.kind]}"
    if "FilterCriteria" not in broken:
        yield from _wrong_filters(case)
    for field, reads, check in RULES:
        if broken.isdisjoint({field.partition(".")[0], *reads}) and (text := check(case)):
            yield field, text


def _wrong_filters(case: Case) -> Iterator[tuple[str, str]]:
    """Filters beyond AWS's quota, and patterns that AWS refuses for this source."""
    filters = case.shape.filter_criteria.filter if case.shape.filter_criteria else []
    if len(filters) > case.most_filters:
        allowed = f"at most {case.most_filters}, or up to {MOST_FILTERS} with limits.filters"
        yield "FilterCriteria.Filters", f"is {len(filters)} entries long, allowed: {allowed}"
    for index, each in enumerate(filters):
        if case.source is not None:
            for error in mistakes_for(case.source.kind, compile_pattern(each.pattern)):
                inner = "".join(f".{key}" for key in error.path)
                yield f"FilterCriteria.Filters.{index}.Pattern{inner}", str(error)


def _source_is_named(case: Case) -> str | None:
    return None if "EventSourceArn" in case.given else f"is missing, allowed: {SOURCES_ALLOWED}"


def _function_is_named(case: Case) -> str | None:
    if "FunctionName" not in case.given:
        return "is missing, allowed: a name in functions, or the name or ARN of a Lambda function"
    if case.shape.function_name in case.functions:
        return None
    try:
        lambda_function(case.shape.function_name)
    except ValueError as error:
        return str(error)
    return None


def _stream_has_a_start(case: Case) -> str | None:
    if case.is_stream and "StartingPosition" not in case.given:
        at = ", LATEST or AT_TIMESTAMP" if case.source and case.source.kind == "kinesis" else " or LATEST"
        return f"is missing, allowed: TRIM_HORIZON{at}"
    return None


def _dynamodb_has_no_timestamp(case: Case) -> str | None:
    is_dynamodb = case.source is not None and case.source.kind == "dynamodb"
    if is_dynamodb and case.shape.starting_position == "AT_TIMESTAMP":
        return "AT_TIMESTAMP is only for Kinesis streams, allowed: TRIM_HORIZON or LATEST"
    return None


def _timestamp_goes_with_at_timestamp(case: Case) -> str | None:
    if case.source is None or case.source.kind != "kinesis":
        return None
    is_at = case.shape.starting_position == "AT_TIMESTAMP"
    moment = case.shape.starting_position_timestamp
    if is_at and moment is None:
        return (
            "is missing, needed with StartingPosition AT_TIMESTAMP: unix seconds or a time such as 2026-11-20T10:00:00Z"
        )
    if moment is not None and not is_at:
        return "is only for StartingPosition AT_TIMESTAMP, leave it out"
    return None


def _timestamp_is_past(case: Case) -> str | None:
    moment = case.shape.starting_position_timestamp
    return "lies in the future, allowed: a time that has passed" if moment is not None and moment > case.now else None


def _fifo_batch_is_small(case: Case) -> str | None:
    size = case.shape.batch_size
    return f"{size} is out of range, allowed for a FIFO queue: 1 to 10" if case.is_fifo and size and size > 10 else None


def _large_queue_batch_has_a_window(case: Case) -> str | None:
    size, window = case.shape.batch_size or 0, case.shape.maximum_batching_window_in_seconds
    if case.is_queue and not case.is_fifo and size > 10 and window < 1:
        return f"{size} needs MaximumBatchingWindowInSeconds of 1 or more, allowed without: 1 to 10"
    return None


def _fifo_has_no_window(case: Case) -> str | None:
    window = case.shape.maximum_batching_window_in_seconds
    return f"{window} is out of range, allowed for a FIFO queue: 0" if case.is_fifo and window else None


def _tumbling_window_has_one_lane(case: Case) -> str | None:
    factor = case.shape.parallelization_factor
    if case.is_stream and factor > 1 and case.shape.tumbling_window_in_seconds:
        return f"{factor} is out of range, allowed with TumblingWindowInSeconds: 1"
    return None


def _tumbling_window_has_no_filters(case: Case) -> str | None:
    criteria = case.shape.filter_criteria
    if case.is_stream and case.shape.tumbling_window_in_seconds and criteria and criteria.filter:
        return "is not allowed together with TumblingWindowInSeconds"
    return None


def _destination_role_has_a_destination(case: Case) -> str | None:
    config = case.shape.destination_config
    on_failure = config.on_failure if config else None
    if case.is_stream and case.shape.destination_role_arn and not (on_failure and on_failure.destination_arn):
        return "says who writes to the destination, needed: DestinationConfig.OnFailure.Destination"
    return None


def _provisioned_pollers_have_a_number(case: Case) -> str | None:
    config = case.shape.provisioned_poller_config
    if not case.is_queue or config is None:
        return None
    low, high = config.minimum_pollers, config.maximum_pollers
    if low is None and high is None:
        return "is empty, needed: MinimumPollers (2 to 200) or MaximumPollers (2 to 10000), or both"
    if low is not None and high is not None and high < low:
        return f"MaximumPollers {high} is less than MinimumPollers {low}, allowed: at least as many"
    return None


def _provisioned_pollers_stand_alone(case: Case) -> str | None:
    scaling = case.shape.scaling_config
    if case.is_queue and case.shape.provisioned_poller_config and scaling and scaling.maximum_concurrency:
        return "is not allowed together with ScalingConfig.MaximumConcurrency"
    return None


def _metric_names_differ(case: Case) -> str | None:
    metrics = case.shape.metrics_config.metrics if case.shape.metrics_config else []
    twice = next((metric for metric in metrics if metrics.count(metric) > 1), None)
    return f"names {quoted(twice)} twice, allowed: once" if twice else None


RULES: tuple[tuple[str, tuple[str, ...], Check], ...] = (
    ("EventSourceArn", (), _source_is_named),
    ("FunctionName", (), _function_is_named),
    ("StartingPosition", (), _stream_has_a_start),
    ("StartingPosition", (), _dynamodb_has_no_timestamp),
    ("StartingPositionTimestamp", ("StartingPosition",), _timestamp_goes_with_at_timestamp),
    ("StartingPositionTimestamp", (), _timestamp_is_past),
    ("BatchSize", (), _fifo_batch_is_small),
    ("BatchSize", ("MaximumBatchingWindowInSeconds",), _large_queue_batch_has_a_window),
    ("MaximumBatchingWindowInSeconds", (), _fifo_has_no_window),
    ("ParallelizationFactor", ("TumblingWindowInSeconds",), _tumbling_window_has_one_lane),
    ("FilterCriteria", ("TumblingWindowInSeconds",), _tumbling_window_has_no_filters),
    ("destination_role_arn", ("DestinationConfig",), _destination_role_has_a_destination),
    ("ProvisionedPollerConfig", (), _provisioned_pollers_have_a_number),
    ("ProvisionedPollerConfig", ("ScalingConfig",), _provisioned_pollers_stand_alone),
    ("MetricsConfig.Metrics", (), _metric_names_differ),
)
"""Where the mistake is, which other fields the rule reads, the rule."""
