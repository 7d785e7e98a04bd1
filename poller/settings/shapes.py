"""The file's outer shape, around the mappings: names, types, ranges and defaults. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema

from poller.settings import values
from poller.settings.mapping_shape import MOST_FILTERS, MappingShape
from poller.settings.shape import PollInterval, RoleArn, Shape, Url

_FOR_URL = "is only for a function with url"
_FOR_AWS = "is only for a function with lambda, or with url and sigv4"
_SIGNING = dict.fromkeys(("sigv4", "service", "region", "ca"), _FOR_URL)
_PROCESS = dict.fromkeys(
    ("directory", "concurrency", "environment", "memory_size", "idle_timeout"), "is only for a function with command"
)
Timeout = Annotated[float, Field(gt=0, le=86_400)]


class EndpointsShape(Shape):
    """An address for each service that is not where `endpoint_url` says."""

    kinesis: Url | None = None
    """Address of Kinesis."""
    dynamodb: Url | None = None
    """Address of DynamoDB."""
    dynamodbstreams: Url | None = None
    """Address of DynamoDB Streams."""
    sqs: Url | None = None
    """Address of SQS."""
    sns: Url | None = None
    """Address of SNS."""
    s3: Url | None = None
    """Address of S3."""
    lambda_: Url | None = Field(default=None, alias="lambda")
    """Address of Lambda."""
    sts: Url | None = None
    """Address of STS, which answers when a role is assumed."""


class AwsSection(Shape):
    """How AWS is reached. Credentials come from the standard chain, never from this file."""

    hints: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("access_key_id", "secret_access_key", "session_token", "aws_access_key_id", "aws_secret_access_key"),
        "has no place in this file: credentials come from the standard AWS chain (environment, profile, role)",
    )
    region: str | None = Field(default=None, pattern=r"^[a-z0-9-]{1,32}$")
    """Region of what has no ARN, such as a Lambda function given by name."""
    profile: str | None = Field(default=None, min_length=1)
    """Profile of the AWS configuration to take credentials from."""
    endpoint_url: Url | None = None
    """Address of every service, for emulators and private endpoints."""
    endpoints: EndpointsShape = Field(default_factory=EndpointsShape)
    """Addresses of single services; they win over endpoint_url."""
    client: Literal["fast", "botocore"] = "fast"
    """How the hot calls travel: fast, or by botocore, which knows proxies."""


class ServerShape(Shape):
    """Where metrics, health and the status page are served."""

    hints: ClassVar[Mapping[str, str]] = {"token": "is not supported yet, leave it out"}
    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on; 0.0.0.0 in a container."""
    port: int = Field(default=9464, ge=0, le=65_535)
    """Port to listen on; 0 takes a free one."""


class FleetShape(Shape):
    """This replica among those that share its store."""

    id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    """Its name, which no other replica has. Default: the name of the machine."""
    profile: Literal["default", "fast"] = "default"
    """What a crash costs: shards are taken over within 10 s, or within 4 s for three times as many writes."""


class LimitsShape(Shape):
    """Quotas that AWS raises when it is asked to."""

    filters: int = Field(default=5, ge=5, le=MOST_FILTERS)
    """Filters of a mapping, at the most."""


class HttpShape(Shape):
    """A function that takes the event as the body of a POST."""

    hints: ClassVar[Mapping[str, str]] = _PROCESS
    url: Url
    """Where the event is posted to."""
    timeout: Timeout = 60.0
    """Seconds until an invocation counts as timed out."""
    headers: Annotated[dict[str, str], AfterValidator(values.headers)] = Field(default_factory=dict)
    """Sent with every request."""
    ca: str | None = Field(default=None, min_length=1)
    """File of the certificates (PEM) that the server's must be signed by, in place of those that the system trusts."""
    sigv4: bool = False
    """Sign each request, as function URLs with AWS_IAM need it."""
    role_arn: RoleArn | None = None
    """With sigv4: the role to assume for invoking. Default: the credentials of the standard chain sign."""
    service: str | None = Field(default=None, pattern=r"^[a-z0-9-]{1,64}$")
    """The service to sign for. Default: what the URL says, else lambda."""
    region: str | None = Field(default=None, pattern=r"^[a-z0-9-]{1,32}$")
    """The region to sign for. Default: what the URL says, else that of the aws section."""


class LocalShape(Shape):
    """A command on this machine that speaks the Lambda Runtime API."""

    hints: ClassVar[Mapping[str, str]] = _SIGNING | {"headers": _FOR_URL, "role_arn": _FOR_AWS}
    command: list[str] = Field(min_length=1)
    """The program and its arguments, such as [python3, -m, awslambdaric, app.handler]."""
    directory: str | None = Field(default=None, min_length=1)
    """Where the command runs; a relative one starts at the folder of this file. Default: where poller runs."""
    timeout: Timeout = 60.0
    """Seconds an invocation may take."""
    concurrency: int = Field(default=1, ge=1, le=1000)
    """Processes at the most, each with one invocation at a time."""
    environment: Annotated[dict[str, str], AfterValidator(values.environment)] = Field(default_factory=dict)
    """Added to the environment of the command."""
    memory_size: int | None = Field(default=None, ge=128, le=10_240)
    """MiB that a process and all it starts may have resident before they are killed (Linux). Default: no limit."""
    idle_timeout: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """Seconds after which a process without work is ended."""


class LambdaShape(Shape):
    """A function at AWS Lambda."""

    hints: ClassVar[Mapping[str, str]] = _PROCESS | _SIGNING | {"headers": _FOR_URL}
    lambda_: str = Field(alias="lambda", min_length=1, max_length=256)
    """The function's name or ARN, with :VERSION or :ALIAS if wanted."""
    role_arn: RoleArn | None = None
    """The role to assume for invoking."""
    timeout: Timeout = 900.0
    """Seconds to wait for an answer; above the function's own timeout."""


FUNCTION_KINDS: Mapping[str, type[HttpShape | LocalShape | LambdaShape]] = {
    "url": HttpShape,
    "command": LocalShape,
    "lambda": LambdaShape,
}
"""The key that says what a function is. Exactly one of them is given."""


class FileShape(Shape):
    """The configuration of poller."""

    model_config = ConfigDict(json_schema_extra={"required": ["mappings"]})

    aws: AwsSection = Field(default_factory=AwsSection)
    """How AWS is reached."""
    store: str | None = None
    """Where positions are kept: memory://, sqlite:///PATH, dynamodb://TABLE or postgresql://... Streams need it."""
    server: ServerShape = Field(default_factory=ServerShape)
    """Metrics, health and the status page."""
    shutdown_grace: float = Field(default=30.0, ge=0, le=3600)
    """Seconds given to work in flight after SIGTERM."""
    memory: Annotated[
        int,
        BeforeValidator(values.size_bytes),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": values.LEAST_MEMORY}, {"type": "string"}]}),
    ] = 256 * values.MIB
    """Ceiling for records held, all mappings together: bytes, or a size such as 256MiB; at least 32MiB."""
    poll_interval: PollInterval = 1.0
    """Seconds between reads of an idle shard; a queue is long-polled, waiting this long (rounded up, at most 20)."""
    fleet: FleetShape = Field(default_factory=FleetShape)
    """What this replica is called by those that share its store, and how fast they take over."""
    limits: LimitsShape = Field(default_factory=LimitsShape)
    """AWS's quotas, as far as AWS raises them."""
    functions: dict[str, HttpShape | LocalShape | LambdaShape] = Field(default_factory=dict)
    """Functions by name. A FunctionName that is not here is an AWS Lambda name or ARN."""
    mappings: dict[str, MappingShape] = Field(default_factory=dict)
    """Event source mappings by name; the name is the `mapping` label of every metric."""
