"""Error code → our error: the one place where the SDK's exceptions are translated. No I/O, no clock.

Source: `Error → action`, and the error lists of the Kinesis, DynamoDB Streams, SQS, STS and Lambda API references.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from json import JSONDecodeError
from typing import Any

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004  -- botocore's own name
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
)
from botocore.parsers import ResponseParserError

from poller.model.errors import (
    Denied,
    IteratorExpired,
    NotFound,
    PollerError,
    ShardGone,
    Superseded,
    Throttled,
    Transient,
    Trimmed,
)

_THROTTLES = frozenset(
    {
        "BandwidthLimitExceeded",
        "KMSThrottlingException",
        "KmsThrottled",
        "LimitExceededException",
        "OverLimit",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_ABSENT = frozenset(
    {
        "404",  # the answer to a HEAD has no body, so S3 cannot say more
        "NoSuchBucket",
        "NonExistentQueue",
        "NotFound",
        "NotFoundException",
        "QueueDeletedRecently",
        "QueueDoesNotExist",
        "ResourceNotFoundException",
    }
)
_PASSING = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "InternalFailureException",
        "InternalServerError",
        "RequestTimeout",
        "RequestTimeoutException",
        "ResourceInUseException",
        "ServiceUnavailable",
        "TransactionInProgressException",
    }
)
_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_CLOCK = frozenset({"RequestExpired", "RequestTimeTooSkewed"})
_ENDED_ALREADY = "refreshed credentials are still expired"
"""What botocore says of new credentials whose end has passed by this machine's clock; it has no error of its own for it."""
_WRITES = frozenset({"SendMessage", "Publish", "PutObject"})
_READS = frozenset({"GetRecords", "GetShardIterator"})
_IAM_ACTIONS = {"Invoke": "InvokeFunction", "HeadBucket": "ListBucket"}
_KINESIS_PAUSE = 1.0
"""Seconds: a shard answers five reads and 2 MiB a second, counted by the second."""


def error_of(service: str, operation: str, code: str, message: str, status: int, *, after: float = 0.0) -> PollerError:
    """What an error answer means for us.

    Args:
        service: the SDK's name of the service: kinesis, dynamodbstreams, sqs, lambda, sts, ...
        operation: the API's name of the call.
        code: as the service wrote it; query prefixes ("AWS.SimpleQueueService.") do not matter.
        message: for people, "" when there is none.
        status: of the HTTP answer.
        after: seconds of the Retry-After header, 0.0 when there was none.
    """
    code = code.rsplit(".", 1)[-1].rsplit("#", 1)[-1]
    line = f"{service} {operation}: {code}" + (f": {_one_line(message)}" if message else "")
    if code in _THROTTLES or status == 429:
        return Throttled(line, after=max(after, _KINESIS_PAUSE if service == "kinesis" else 0.0))
    if operation in _READS and (found := _read_error(operation, code, line)):
        return found
    if code in _ABSENT:
        return NotFound(f"{line} (check the name, region and account of the ARN)")
    if code == "ExpiredNextTokenException":
        return IteratorExpired(line)
    if code == "ConditionalCheckFailedException":
        return Superseded(line)
    if code in _PASSING or status >= 500 or status == 408:
        return Transient(line)
    return Denied(line + _hint(service, operation, code))


def _read_error(operation: str, code: str, line: str) -> PollerError | None:
    """The errors that mean something of their own while a shard is read."""
    match code:
        case "ExpiredIteratorException":
            return IteratorExpired(line)
        case "TrimmedDataAccessException":
            return Trimmed(line)
        case "ResourceNotFoundException":
            return ShardGone(line)
        case "InvalidArgumentException" | "ValidationException":
            # A service that was restarted does not know its old iterators; a new one is always right. A sequence
            # number that is refused, though, is not in the shard (any more).
            return IteratorExpired(line) if operation == "GetRecords" else Trimmed(line)
        case _:
            return None


def _hint(service: str, operation: str, code: str) -> str:
    if code in _CREDENTIALS:
        return " (the AWS credentials are wrong or have expired)"
    if code in _CLOCK:
        return " (this machine's clock is wrong)"
    if code.lower().startswith("kms"):
        needed = "kms:GenerateDataKey and kms:Decrypt are" if operation in _WRITES else "kms:Decrypt is"
        return f" (check the KMS key and its policy: {needed} needed)"
    if code == "InvalidSecurity":
        return " (the queue demands TLS: use an https endpoint)"
    if code.startswith(("AccessDenied", "AuthorizationError", "Forbidden", "403")):
        return f" (the role or user needs {_iam_service(service)}:{_iam_action(operation)})"
    return ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _iam_service(service: str) -> str:
    return "dynamodb" if service == "dynamodbstreams" else service


def _iam_action(operation: str) -> str:
    """IAM knows no actions for batches, and calls some others by another name."""
    return _IAM_ACTIONS.get(operation, operation.removesuffix("Batch"))


def _after(headers: Mapping[str, str]) -> float:
    value = headers.get("retry-after", "")
    return float(value) if value.isdecimal() else 0.0


def _of_answer(service: str, error: ClientError) -> PollerError:
    operation: str = error.operation_name
    answer: Mapping[str, Any] = error.response.get("Error", {})
    metadata: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
    return error_of(
        "sts" if operation.startswith("AssumeRole") else service,  # assuming a role happens inside of other calls
        operation,
        str(answer.get("Code", "")),
        str(answer.get("Message", "")),
        int(metadata.get("HTTPStatusCode", 0)),
        after=_after(metadata.get("HTTPHeaders", {})),
    )


def translated_error(service: str, operation: str, error: Exception) -> PollerError:
    """What an exception of the SDK or of its HTTP client means for us. A `RuntimeError` that is neither's goes up."""
    match error:
        case RuntimeError():
            if _ENDED_ALREADY not in str(error):
                raise error
            return Denied(
                f"{service} {operation}: the AWS credentials were renewed and have expired all the same"
                " (is this machine's clock right?)"
            )
        case JSONDecodeError() | UnicodeDecodeError():  # botocore reads answers by rules of its own
            return Denied(
                f"{service} {operation}: what credential_process, or a file of cached credentials, says is no JSON: {error}"
            )
        case ClientError():
            return _of_answer(service, error)
        case NoCredentialsError():
            return Denied("no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role")
        case NoRegionError():
            return Denied(f"no AWS region for {service}: set aws.region in the configuration, or AWS_REGION")
        case ProfileNotFound():
            return Denied(
                f"{error}: aws.profile (or AWS_PROFILE) names a profile that the AWS config files do not have"
            )
        case HTTPClientError() | ConnectionError() | IncompleteReadError() | ResponseParserError():
            return Transient(f"{service} {operation}: {_one_line(str(error))}")
        case aiohttp.ClientError() | OSError():
            return Transient(f"{service} {operation}: {type(error).__name__}: {error}")
        case _:  # what is left of botocore is about credentials, parameters and its own configuration
            return Denied(f"{service} {operation}: {_one_line(str(error))}")


def found_item(error: PollerError) -> Mapping[str, Any] | None:
    """The item that a refused conditional write of DynamoDB found; None: there is none, or the server does not say."""
    cause = error.__cause__
    item: Mapping[str, Any] | None = cause.response.get("Item") if isinstance(cause, ClientError) else None
    return item


FOREIGN_ERRORS = (
    BotoCoreError,
    ClientError,
    JSONDecodeError,
    ResponseParserError,
    aiohttp.ClientError,
    OSError,
    RuntimeError,
    UnicodeDecodeError,
)
"""What the SDK and its HTTP client raise; `translated_error` knows what each means."""


@contextmanager
def translated(service: str, operation: str) -> Iterator[None]:
    """Raise our errors in place of the SDK's; every call of a client of `Aws.client` stands in one of these.

    Raises:
        PollerError: a leaf of the tree.
    """
    try:
        yield
    except FOREIGN_ERRORS as error:
        raise translated_error(service, operation, error) from error
