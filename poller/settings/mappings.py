"""One mapping of the file: checked against its shape, AWS's rules and what is built, then made into frozen values.

No I/O, no clock.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from poller.aws.session import AwsSettings, Service
from poller.destinations import DestinationSettings
from poller.destinations.s3 import S3Destination
from poller.destinations.sns import SnsDestination
from poller.destinations.sqs import SqsDestination
from poller.mapping import lease
from poller.mapping.filtering import Filters
from poller.model.policy import Latest, Policy, Scaling
from poller.model.record import At, TrimHorizon
from poller.settings import values
from poller.settings.arns import EventSource, FunctionId, event_source, lambda_function
from poller.settings.checking import Checked, checked
from poller.settings.mapping_shape import MappingShape, echoed
from poller.settings.not_yet import refused
from poller.settings.rules import Case, broken_rules
from poller.settings.sections import MappingSettings
from poller.settings.tree import Mistake, Place, Report, Tree
from poller.sources import SourceSettings
from poller.sources.dynamodb import DynamoDBStream
from poller.sources.kinesis import KinesisStream
from poller.sources.sqs import SqsQueue
from poller.targets import TargetSettings
from poller.targets.aws_lambda import LambdaFunction
from poller.targets.local import LocalFunction

NAMESPACE = uuid.UUID("6f0d8c52-3a77-5d0e-9b6c-0c1f5a2e7d41")
"""Of the mappings' UUIDs. It never changes: AWS's tools know a mapping by its UUID."""
LONGEST_NAME = 128
LONGEST_LAMBDA = 900.0
"""Seconds: AWS's longest timeout of a function, and how long an answer is waited for where the file says nothing."""
_EACH_POLLER = 10
"""Invocations at the same time of one provisioned poller."""
_LEAST_POLLERS, _MOST_POLLERS = 2, 200
"""Of ProvisionedPollerConfig, where it leaves one out. Source: semantics 1.1."""
_PROVISIONED_PER_MINUTE = 1000
_SERVICES: Mapping[str, Service] = {"kinesis": "kinesis", "dynamodb": "dynamodbstreams"}
"""Who answers the reads of a stream."""
_STREAM_ECHO: Mapping[str, Any] = {
    "ParallelizationFactor": 1,
    "MaximumRecordAgeInSeconds": -1,
    "MaximumRetryAttempts": -1,
    "BisectBatchOnFunctionError": False,
    "TumblingWindowInSeconds": 0,
    "DestinationConfig": {"OnFailure": {}},
}
"""What AWS echoes for a stream whether it was given or not. Source: semantics 1.3."""
_OMITTED_EMPTY = frozenset({"FilterCriteria", "ScalingConfig", "MetricsConfig", "Tags"})
"""What AWS does not echo when nothing is in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a mapping takes from the rest of the file."""

    functions: Mapping[str, TargetSettings | None]
    """By name; None where the function's own block is broken."""
    poll_interval: float
    aws: AwsSettings
    most_filters: int
    """Filters of a mapping, at the most."""
    now: float


def mapping_of(name: str, tree: Tree, around: Around, report: Report) -> MappingSettings | None:
    """The mapping, None when something is wrong with it, all of which is reported."""
    found: list[Mistake] = []
    try:
        values.name(name, longest=LONGEST_NAME)
    except ValueError as error:
        found.append(Mistake(place=tree.place, text=str(error)))
    block = checked(MappingShape, tree, found.append)
    shape, source = block.shape, None
    if shape is not None:
        source = _check_fields(shape, block, around, found)
    for mistake in found:
        report(mistake)
    if found or block.broken or shape is None or source is None:
        return None
    return _settings(name, shape, source, around)


def _check_fields(
    shape: MappingShape, block: Checked[MappingShape], around: Around, found: list[Mistake]
) -> EventSource | None:
    """Ask the rules, then what is built; a field that a rule has refused is not refused again."""
    broken, source = block.broken, None
    if shape.event_source_arn:
        try:
            source = event_source(shape.event_source_arn)
        except ValueError as error:
            found.append(Mistake(place=block.tree.find(("EventSourceArn",)), text=str(error)))
            broken |= {"EventSourceArn"}
    case = Case(
        shape=shape,
        source=source,
        given=frozenset(block.tree.entries()),
        functions=frozenset(around.functions),
        most_filters=around.most_filters,
        now=around.now,
    )
    wrong = list(broken_rules(case, broken))
    found.extend(Mistake(place=block.tree.find(_path(field)), text=text) for field, text in wrong)
    reported = {mistake.place.path[len(block.tree.place.path) :][:1] for mistake in found}
    for field, text in refused(echoed(shape)):
        place = block.tree.find(field.split("."))
        if place.path[len(block.tree.place.path) :][:1] not in reported:
            found.append(Mistake(place=place, text=text))
    return source


def _path(field: str) -> list[str | int]:
    """The keys of a dotted field; a number is an entry of a list."""
    return [int(key) if key.isdecimal() else key for key in field.split(".")]


def _settings(name: str, shape: MappingShape, source: EventSource, around: Around) -> MappingSettings | None:
    known = shape.function_name in around.functions
    target = around.functions[shape.function_name] if known else _lambda(shape.function_name)
    if target is None:
        return None
    batch_size = shape.batch_size or (10 if source.kind == "sqs" else 100)
    poll_interval = shape.poll_interval or around.poll_interval
    return MappingSettings(
        name=name,
        uuid=str(uuid.uuid5(NAMESPACE, name)),
        enabled=shape.enabled,
        source=_source(shape, source, poll_interval, target),
        target=target,
        destination=_destination(shape),
        policy=Policy(
            batch_size=batch_size,
            window=float(shape.maximum_batching_window_in_seconds),
            start=_start(shape),
            poll_interval=poll_interval,
            eager=source.kind != "sqs" and around.aws.stands_in(_SERVICES[source.kind]),
            retry_attempts=None if shape.maximum_retry_attempts < 0 else shape.maximum_retry_attempts,
            record_age=None if shape.maximum_record_age_in_seconds < 0 else float(shape.maximum_record_age_in_seconds),
            bisect=shape.bisect_batch_on_function_error,
            partial=bool(shape.function_response_types),
            lanes=shape.parallelization_factor,
            scaling=_scaling(shape, target),
            function_timeout=_timeout(target),
            extend_visibility=shape.extend_visibility,
            tumbling=float(shape.tumbling_window_in_seconds),
            filters=_filters(shape, source),
        ),
        document=_document(shape, source, batch_size),
    )


def _filters(shape: MappingShape, source: EventSource) -> Filters | None:
    criteria = shape.filter_criteria
    patterns = tuple(each.pattern for each in criteria.filter) if criteria else ()
    return Filters(source.kind, patterns) if patterns else None


def _scaling(shape: MappingShape, target: TargetSettings) -> Scaling:
    """How many batches of a queue may be in flight: as many as AWS allows, and as a command has processes for."""
    pollers = shape.provisioned_poller_config
    total = shape.scaling_config.maximum_concurrency if shape.scaling_config else None
    scaling = Scaling(most=total or Scaling().most, total=total)
    if pollers is not None:
        least = _EACH_POLLER * (pollers.minimum_pollers or _LEAST_POLLERS)
        most = max(least, _EACH_POLLER * (pollers.maximum_pollers or _MOST_POLLERS))
        scaling = Scaling(least=least, start=least, most=most, per_minute=_PROVISIONED_PER_MINUTE)
    most = min(scaling.most, target.concurrency) if isinstance(target, LocalFunction) else scaling.most
    return replace(scaling, least=min(scaling.least, most), start=min(scaling.start, most), most=most)


def _timeout(target: TargetSettings) -> float | None:
    """The function's timeout; None for a Lambda function of which only the longest time to wait is known."""
    known = not isinstance(target, LambdaFunction) or target.timeout < LONGEST_LAMBDA
    return target.timeout if known else None


def _source(shape: MappingShape, source: EventSource, poll_interval: float, target: TargetSettings) -> SourceSettings:
    match source.kind:
        case "kinesis":
            return KinesisStream(arn=source.arn, role_arn=shape.role_arn)
        case "dynamodb":
            return DynamoDBStream(arn=source.arn, role_arn=shape.role_arn)
        case "sqs":
            return SqsQueue(
                arn=source.arn,
                role_arn=shape.role_arn,
                wait=min(20, max(1, math.ceil(poll_interval))),
                hold=0
                if shape.extend_visibility
                else lease.needed(window=float(shape.maximum_batching_window_in_seconds), timeout=_timeout(target)),
                windowed=shape.maximum_batching_window_in_seconds > 0,
            )


def _destination(shape: MappingShape) -> DestinationSettings | None:
    on_failure = shape.destination_config.on_failure if shape.destination_config else None
    arn = on_failure.destination_arn if on_failure else ""
    role_arn = shape.destination_role_arn
    match arn.split(":")[2:3]:
        case ["sqs"]:
            return SqsDestination(arn=arn, role_arn=role_arn)
        case ["sns"]:
            return SnsDestination(arn=arn, role_arn=role_arn)
        case ["s3"]:
            return S3Destination(arn=arn, role_arn=role_arn)
        case _:  # left out, or "", which clears it
            return None


def _lambda(function: str) -> LambdaFunction:
    return LambdaFunction(name=function, function=function, region=lambda_function(function).region)


def _start(shape: MappingShape) -> TrimHorizon | Latest | At:
    match shape.starting_position:
        case "LATEST":
            return Latest()
        case "AT_TIMESTAMP" if shape.starting_position_timestamp is not None:
            return At(time=shape.starting_position_timestamp)
        case _:  # a queue has no start
            return TrimHorizon()


def _document(shape: MappingShape, source: EventSource, batch_size: int) -> str:
    """The mapping as GetEventSourceMapping echoes it, and our own keys where they were given."""
    given = echoed(shape)
    defaults = {} if source.kind == "sqs" else _STREAM_ECHO
    echo: dict[str, Any] = {
        "EventSourceArn": given.pop("EventSourceArn"),
        "FunctionName": given.pop("FunctionName"),
        "BatchSize": batch_size,
        "MaximumBatchingWindowInSeconds": 0,
        **defaults,
        "FunctionResponseTypes": [],
    }
    given.pop("Enabled", None)  # never echoed, it shows in State alone
    echo |= {key: value for key, value in given.items() if key not in _OMITTED_EMPTY or any(value.values())}
    if source.kind != "sqs" and not any(echo["DestinationConfig"].get("OnFailure", {}).values()):
        echo["DestinationConfig"] = {"OnFailure": {}}
    return json.dumps(echo, ensure_ascii=False, separators=(",", ":"))


def report_conflicts(mappings: Mapping[str, MappingSettings], places: Mapping[str, Place], report: Report) -> None:
    """Report every mapping that has the source and the function of one before it: AWS answers 409 to that."""
    first: dict[tuple[str, str | FunctionId], str] = {}
    for name, mapping in mappings.items():
        target = mapping.target
        is_lambda = isinstance(target, LambdaFunction)
        function = lambda_function(target.function) if isinstance(target, LambdaFunction) and is_lambda else target.name
        known = first.setdefault((mapping.source.arn, function), name)
        if known != name:
            text = f"has the source and the function of {known} (at {places[known]}), allowed: one mapping for both"
            report(Mistake(place=places[name], text=text))
