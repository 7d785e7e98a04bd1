"""What ARNs and function names say, and what is wrong with them. No I/O, no clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from poller.settings.tree import quoted

Kind: TypeAlias = Literal["kinesis", "dynamodb", "sqs"]

_ARN = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):(?P<service>[a-z0-9-]+):(?P<region>[a-z0-9-]*):(?P<account>[0-9]{12}|):(?P<resource>.+)"
)
_STREAM = re.compile(r"stream/[A-Za-z0-9_.-]{1,128}")
_CONSUMER = re.compile(r"stream/[A-Za-z0-9_.-]{1,128}/consumer/[A-Za-z0-9_.:-]+")
_TABLE = re.compile(r"table/[A-Za-z0-9_.-]{1,255}")
_TABLE_STREAM = re.compile(r"table/[A-Za-z0-9_.-]{1,255}/stream/[A-Za-z0-9_.:-]+")
_QUEUE = re.compile(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo")
_FUNCTION = re.compile(
    r"(?:(?:arn:aws[a-z-]*:lambda:(?P<region>[a-z0-9-]+):)?(?P<account>[0-9]{12}):function:)?"
    r"(?P<name>[A-Za-z0-9_-]{1,64})(?::(?P<qualifier>\$LATEST|[A-Za-z0-9_-]{1,128}))?"
)
_SHAPES: dict[Kind, str] = {
    "kinesis": "arn:aws:kinesis:REGION:ACCOUNT:stream/NAME",
    "dynamodb": "arn:aws:dynamodb:REGION:ACCOUNT:table/NAME/stream/LABEL",
    "sqs": "arn:aws:sqs:REGION:ACCOUNT:NAME",
}
SOURCES_ALLOWED = (
    "the ARN of a Kinesis stream, a DynamoDB stream or an SQS queue, such as arn:aws:sqs:eu-west-1:123456789012:orders"
)
DESTINATIONS_ALLOWED = "the ARN of an SQS queue, an SNS topic or an S3 bucket"
_DESTINATIONS = {
    "sqs": (re.compile(r"[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,80}"), _SHAPES["sqs"]),
    "sns": (re.compile(r"[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}"), "arn:aws:sns:REGION:ACCOUNT:NAME"),
    "s3": (re.compile(r"::[A-Za-z0-9_.-]{3,255}"), "arn:aws:s3:::BUCKET"),
}
"""By service: what follows its name in the ARN, and the whole shape for people."""
_FOREIGN = {"kafka": "Kafka", "mq": "Amazon MQ", "rds": "DocumentDB"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSource:
    """What an EventSourceArn names."""

    arn: str
    kind: Kind
    fifo: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionId:
    """What the name or ARN of a Lambda function says."""

    region: str | None
    account: str | None
    name: str
    qualifier: str | None


def event_source(arn: str) -> EventSource:
    """Read an EventSourceArn. Raises `ValueError` with a line for people."""
    match = _ARN.fullmatch(arn)
    if match is None:
        raise ValueError(f"{quoted(arn)} is not an ARN, allowed: {SOURCES_ALLOWED}")
    resource = match["resource"]
    match match["service"]:
        case "kinesis":
            if _CONSUMER.fullmatch(resource):
                raise ValueError(
                    f"{quoted(arn)} is a consumer (enhanced fan-out), not supported yet, allowed: its stream"
                )
            return _source(match, "kinesis", right=_STREAM.fullmatch(resource))
        case "dynamodb":
            if _TABLE.fullmatch(resource):
                raise ValueError(f"{quoted(arn)} is a table, allowed: its stream, {_SHAPES['dynamodb']}")
            return _source(match, "dynamodb", right=_TABLE_STREAM.fullmatch(resource))
        case "sqs":
            return _source(match, "sqs", right=_QUEUE.fullmatch(resource))
        case "kafka" | "mq" | "rds" as service:
            raise ValueError(f"{_FOREIGN[service]} sources are not supported, allowed: {SOURCES_ALLOWED}")
        case service:
            raise ValueError(f"{quoted(arn)} names {service}, which is no event source, allowed: {SOURCES_ALLOWED}")


def _source(arn: re.Match[str], kind: Kind, *, right: object) -> EventSource:
    if not right or not arn["region"] or not arn["account"]:
        raise ValueError(f"{quoted(arn.string)} is malformed, allowed: {_SHAPES[kind]}")
    return EventSource(arn=arn.string, kind=kind, fifo=kind == "sqs" and arn.string.endswith(".fifo"))


def lambda_function(text: str) -> FunctionId:
    """Read a function's name, partial ARN or ARN. Raises `ValueError` with a line for people."""
    match = _FUNCTION.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{quoted(text)} is no function, allowed: a name in functions, a Lambda function's name (letters, digits, "
            "- and _, at most 64), or its ARN arn:aws:lambda:REGION:ACCOUNT:function:NAME, each with :VERSION or :ALIAS"
        )
    return FunctionId(
        region=match["region"], account=match["account"], name=match["name"], qualifier=match["qualifier"]
    )


def role(text: str) -> str:
    """The ARN of a role, unchanged. Raises `ValueError` with a line for people."""
    match = _ARN.fullmatch(text)
    if not (match and match["service"] == "iam" and match["account"] and match["resource"].startswith("role/")):
        raise ValueError(f"{quoted(text)} is not the ARN of a role, allowed: arn:aws:iam::ACCOUNT:role/NAME")
    return text


def kms_key(text: str) -> str:
    """The ARN of a key, unchanged. Raises `ValueError` with a line for people."""
    match = _ARN.fullmatch(text)
    if not (match and match["service"] == "kms" and match["resource"].startswith(("key/", "alias/"))):
        raise ValueError(f"{quoted(text)} is not the ARN of a key, allowed: arn:aws:kms:REGION:ACCOUNT:key/ID")
    return text


def destination(text: str) -> str:
    """An on-failure destination, unchanged; "" clears it. Raises `ValueError` with a line for people."""
    if not text:
        return text
    if text.startswith("kafka://"):
        raise ValueError(f"{quoted(text)} is a Kafka topic, not supported yet, allowed: {DESTINATIONS_ALLOWED}")
    match = _ARN.fullmatch(text)
    if match is None or match["service"] not in _DESTINATIONS:
        raise ValueError(f"{quoted(text)} is no destination, allowed: {DESTINATIONS_ALLOWED}")
    if match["service"] != "s3" and text.endswith(".fifo"):
        raise ValueError(f"{quoted(text)} is FIFO, allowed: a standard queue or topic")
    place, shape = _DESTINATIONS[match["service"]]
    if not place.fullmatch(text.split(":", 3)[3]):
        raise ValueError(f"{quoted(text)} is malformed, allowed: {shape}")
    return text
