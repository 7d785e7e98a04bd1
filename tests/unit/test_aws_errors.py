"""Error code → our error."""

from __future__ import annotations

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
    ReadTimeoutError,
)

from poller.aws.errors import error_of, translated, translated_error
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

READS = [("kinesis", "GetRecords"), ("dynamodbstreams", "GetRecords")]
PLACES = [("kinesis", "GetShardIterator"), ("dynamodbstreams", "GetShardIterator")]
LISTS = [("kinesis", "ListShards"), ("kinesis", "DescribeStreamSummary"), ("dynamodbstreams", "DescribeStream")]
QUEUES = [("sqs", "ReceiveMessage"), ("sqs", "DeleteMessageBatch"), ("sqs", "GetQueueUrl")]
ANY = [*READS, *PLACES, *LISTS, *QUEUES, ("sts", "AssumeRole"), ("lambda", "GetFunction")]

CASES: list[tuple[list[tuple[str, str]], str, int, type[PollerError]]] = [
    (READS, "ExpiredIteratorException", 400, IteratorExpired),
    (READS, "TrimmedDataAccessException", 400, Trimmed),
    (PLACES, "TrimmedDataAccessException", 400, Trimmed),
    (READS, "ResourceNotFoundException", 400, ShardGone),
    (PLACES, "ResourceNotFoundException", 400, ShardGone),
    (LISTS, "ResourceNotFoundException", 400, NotFound),
    (READS, "InvalidArgumentException", 400, IteratorExpired),
    (PLACES, "InvalidArgumentException", 400, Trimmed),
    (PLACES, "ValidationException", 400, Trimmed),
    (LISTS, "InvalidArgumentException", 400, Denied),
    (LISTS, "ExpiredNextTokenException", 400, IteratorExpired),
    (LISTS, "ResourceInUseException", 400, Transient),
    (ANY, "ConditionalCheckFailedException", 400, Superseded),
    (ANY, "ProvisionedThroughputExceededException", 400, Throttled),
    (ANY, "ThrottlingException", 400, Throttled),
    (ANY, "LimitExceededException", 400, Throttled),
    (ANY, "KMSThrottlingException", 400, Throttled),
    (ANY, "KmsThrottled", 400, Throttled),
    (ANY, "RequestThrottled", 403, Throttled),
    (ANY, "OverLimit", 403, Throttled),
    (ANY, "TooManyRequestsException", 429, Throttled),
    (ANY, "Whatever", 429, Throttled),
    (ANY, "AccessDeniedException", 400, Denied),
    (ANY, "AccessDenied", 403, Denied),
    (ANY, "KMSAccessDeniedException", 400, Denied),
    (ANY, "KMSDisabledException", 400, Denied),
    (ANY, "KMSInvalidStateException", 400, Denied),
    (ANY, "KMSNotFoundException", 400, Denied),
    (ANY, "KMSOptInRequired", 400, Denied),
    (ANY, "KmsAccessDenied", 400, Denied),
    (ANY, "InvalidSecurity", 400, Denied),
    (ANY, "UnrecognizedClientException", 400, Denied),
    (ANY, "InvalidSignatureException", 403, Denied),
    (ANY, "SignatureDoesNotMatch", 403, Denied),
    (ANY, "ExpiredTokenException", 400, Denied),
    (ANY, "RequestExpired", 400, Denied),
    (QUEUES, "QueueDoesNotExist", 400, NotFound),
    ([("sqs", "SendMessage")], "QueueDoesNotExist", 400, NotFound),
    ([("sns", "Publish"), ("sns", "GetTopicAttributes")], "NotFound", 404, NotFound),
    ([("sns", "Publish")], "AuthorizationError", 403, Denied),
    ([("s3", "PutObject")], "NoSuchBucket", 404, NotFound),
    ([("s3", "HeadBucket")], "404", 404, NotFound),
    ([("s3", "HeadBucket")], "403", 403, Denied),
    ([("s3", "PutObject")], "SlowDown", 503, Throttled),
    (QUEUES, "AWS.SimpleQueueService.NonExistentQueue", 400, NotFound),
    (QUEUES, "com.amazonaws.sqs#QueueDoesNotExist", 400, NotFound),
    (ANY, "InternalFailure", 500, Transient),
    (ANY, "InternalServerError", 500, Transient),
    (ANY, "InternalFailureException", 400, Transient),
    (ANY, "ServiceUnavailable", 503, Transient),
    (ANY, "502", 502, Transient),
    (ANY, "", 504, Transient),
    (ANY, "RequestTimeout", 408, Transient),
    (ANY, "SomethingNew", 400, Denied),
]


@pytest.mark.parametrize(
    ("service", "operation", "code", "status", "expected"),
    [(*call, code, status, expected) for calls, code, status, expected in CASES for call in calls],
)
def test_an_error_answer_is_one_leaf_of_the_tree(service, operation, code, status, expected):
    error = error_of(service, operation, code, "a message\nof two lines", status)
    assert type(error) is expected
    assert str(error).startswith(f"{service} {operation}: ")
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("service", "operation", "code", "hint"),
    [
        ("dynamodbstreams", "GetRecords", "AccessDeniedException", "needs dynamodb:GetRecords"),
        ("sqs", "DeleteMessageBatch", "AccessDenied", "needs sqs:DeleteMessage)"),
        ("lambda", "Invoke", "AccessDeniedException", "needs lambda:InvokeFunction"),
        ("sts", "AssumeRole", "AccessDenied", "needs sts:AssumeRole"),
        ("s3", "PutObject", "AccessDenied", "needs s3:PutObject"),
        ("s3", "HeadBucket", "403", "needs s3:ListBucket"),
        ("sns", "Publish", "AuthorizationError", "needs sns:Publish"),
        ("sns", "Publish", "KMSAccessDenied", "kms:GenerateDataKey and kms:Decrypt are needed"),
        ("kinesis", "GetRecords", "KMSAccessDeniedException", "kms:Decrypt"),
        ("kinesis", "GetRecords", "InvalidSignatureException", "credentials are wrong"),
        ("sqs", "ReceiveMessage", "RequestExpired", "clock is wrong"),
        ("sqs", "ReceiveMessage", "InvalidSecurity", "use an https endpoint"),
        ("kinesis", "ListShards", "ResourceNotFoundException", "check the name, region and account"),
    ],
)
def test_a_refusal_says_what_would_be_right(service, operation, code, hint):
    assert hint in str(error_of(service, operation, code, "", 400))


@pytest.mark.parametrize(
    ("service", "after", "expected"), [("kinesis", 0.0, 1.0), ("kinesis", 3.0, 3.0), ("sqs", 0.0, 0.0)]
)
def test_a_throttled_shard_is_left_alone_for_a_second(service, after, expected):
    error = error_of(service, "GetRecords", "ThrottlingException", "", 400, after=after)
    assert isinstance(error, Throttled)
    assert error.after == expected


@pytest.mark.parametrize(
    ("error", "expected", "line"),
    [
        (NoCredentialsError(), Denied, "no AWS credentials"),
        (NoRegionError(), Denied, "set aws.region"),
        (ProfileNotFound(profile="x"), Denied, "aws.profile"),
        (EndpointConnectionError(endpoint_url="http://x"), Transient, "Could not connect"),
        (ReadTimeoutError(endpoint_url="http://x"), Transient, "Read timeout"),
        (ConnectionResetError("reset"), Transient, "ConnectionResetError: reset"),
        (TimeoutError(), Transient, "TimeoutError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_failure_on_the_way_is_one_leaf_of_the_tree(error, expected, line):
    found = translated_error("sqs", "ReceiveMessage", error)
    assert type(found) is expected
    assert line in str(found)


def test_a_role_that_is_refused_under_way_is_told_as_such():
    error = ClientError({"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "AssumeRole")
    assert str(translated_error("kinesis", "GetRecords", error)).startswith("sts AssumeRole: AccessDenied")


def test_what_is_not_the_sdks_goes_up_as_it_is():
    with pytest.raises(KeyError), translated("sqs", "ReceiveMessage"):
        raise KeyError
    with pytest.raises(RuntimeError), translated("sqs", "ReceiveMessage"):
        raise RuntimeError("the loop is closed")
    with pytest.raises(Trimmed), translated("kinesis", "GetRecords"):
        raise Trimmed
