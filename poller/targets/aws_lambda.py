"""AWS Lambda functions. Which answer means what is one pure function, `classify`.

With a failure of the function comes the end of its log, at most 4 KB (X-Amz-Log-Result). Its lines are told as what a
local function prints is told: log lines that name the function and the request id. What a function writes into its log
is its own choice; events and replies are never logged.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from poller.aws.calls import Answer, HotCalls
from poller.aws.errors import translated
from poller.model.errors import Denied, Throttled, Transient
from poller.model.facts import FunctionPrinted
from poller.model.outcome import Failed, Outcome, Refused, Replied, Unavailable
from poller.model.ports import Observe, Target
from poller.model.trace import Trace
from poller.targets.answers import failure_of, object_of, one_line, retry_after
from poller.targets.output import Lines

if TYPE_CHECKING:
    from poller.aws.session import Aws

THROTTLES = frozenset({"TooManyRequestsException", "EC2ThrottledException", "ThrottlingException", "Throttling"})

TRANSIENT = frozenset(
    {
        "CodeArtifactUserPendingException",
        "DurableExecutionAlreadyStartedException",
        "EC2UnexpectedException",
        "EFSIOException",
        "EFSMountConnectivityException",
        "EFSMountTimeoutException",
        "ENILimitReachedException",
        "ENINotReadyException",
        "ResourceConflictException",
        "ResourceNotReadyException",
        "S3FilesMountConnectivityException",
        "S3FilesMountTimeoutException",
        "ServiceException",
        "SnapStartNotReadyException",
        "SnapStartTimeoutException",
        "SubnetIPAddressLimitReachedException",
    }
)

LASTING = frozenset(
    {
        "AccessDeniedException",
        "CodeArtifactUserDeletedException",
        "CodeArtifactUserFailedException",
        "EC2AccessDeniedException",
        "EFSMountFailureException",
        "InvalidParameterValueException",
        "InvalidRuntimeException",
        "InvalidSecurityGroupIDException",
        "InvalidSubnetIDException",
        "InvalidZipFileException",
        "KMSAccessDeniedException",
        "KMSDisabledException",
        "KMSInvalidStateException",
        "KMSNotFoundException",
        "ModeNotSupportedException",
        "NoPublishedVersionException",
        "RecursiveInvocationException",
        "ResourceNotFoundException",
        "S3FilesMountFailureException",
        "ServiceQuotaExceededException",
        "SnapStartException",
        "SnapStartRegenerationFailureException",
    }
)

BATCH_FAULTS = frozenset(
    {
        "InvalidRequestContentException",
        "RequestTooLargeException",
        "SerializedRequestEntityTooLargeException",
        "UnsupportedMediaTypeException",
    }
)


def classify(answer: Answer, now: float) -> Outcome:
    """Decide what an answer to Invoke means for the batch: by the error's code, else by its status.

    What is not known is never blamed on the batch: a wrong guess then costs time, not records.

    Args:
        answer: of any status.
        now: unix seconds, for a Retry-After that is a date.
    Source: Lambda API reference, Invoke, errors; Lambda guide, "How Lambda processes records from stream and queue".
    """
    if 200 <= answer.status < 300:
        version = answer.headers.get("x-amz-executed-version") or "$LATEST"
        error = answer.headers.get("x-amz-function-error")
        if error:
            failed = failure_of(answer.body, error_type=error, log_tail=_log_tail(answer))
            return replace(failed, version=version, error="Handled" if error == "Handled" else "Unhandled")
        return Replied(body=answer.body, version=version)
    code, reason = _account(answer)
    if code in THROTTLES or answer.status == 429:
        return Refused(reason=reason, after=retry_after(answer.headers.get("retry-after"), now))
    if code in BATCH_FAULTS or answer.status in {413, 415}:
        return Failed(reason=reason, error=None, ran=False)
    if code in TRANSIENT:
        return Unavailable(reason=reason)
    passing = answer.status >= 500 or answer.status in {408, 409}
    return Unavailable(reason=reason, lasting=code in LASTING or not passing)


def _account(answer: Answer) -> tuple[str, str]:
    """The error's code and one line about it."""
    told = object_of(answer.body)
    code = answer.headers.get("x-amzn-errortype") or str(told.get("__type") or told.get("code") or "")
    code = code.split(":", 1)[0].rsplit("#", 1)[-1]
    message = str(told.get("message") or told.get("Message") or "")
    why = str(told.get("Reason") or "")
    parts = [code or f"status {answer.status}", f"{message} ({why})" if message and why else message or why]
    return code, one_line(": ".join(part for part in parts if part))


def _log_tail(answer: Answer) -> str:
    """The last 4 KB of the function's log; "" when the answer has none that can be read."""
    try:
        tail = base64.b64decode(answer.headers.get("x-amz-log-result", ""), validate=True)
    except binascii.Error:
        return ""
    return tail.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaFunction:
    """A function at AWS Lambda."""

    name: str
    """The name in the configuration."""
    function: str
    """Name, partial or full ARN, with version or alias where given."""
    region: str | None = None
    """Region of the function's ARN; None: the `aws` section's."""
    role_arn: str | None = None
    """Role to assume for invoking."""
    timeout: float = 900.0
    """Seconds to wait for an answer; above the function's own timeout."""

    @asynccontextmanager
    async def open(self, aws: Aws, observe: Observe) -> AsyncIterator[Target]:
        """Reach the function; connections are the session's, so nothing is held here."""
        yield _Lambda(self, aws, observe)


class _Lambda:
    """A `Target`: one signed Invoke per call."""

    def __init__(self, settings: LambdaFunction, aws: Aws, observe: Observe) -> None:
        self._settings = settings
        self._aws = aws
        self._observe = observe
        self._calls: HotCalls | None = None

    async def invoke(self, event: bytes, request_id: str, trace: Trace | None = None) -> Outcome:
        """Invoke and wait for the reply."""
        settings = self._settings
        try:
            calls = self._calls or await self._reached()
            header = trace.xray_header() if trace else ""
            answer = await calls.invoke(settings.function, event, timeout=settings.timeout, trace=header)
        except TimeoutError:
            return self._unavailable(f"no answer within {settings.timeout:g} seconds; it may still be running")
        except Throttled as error:
            return Refused(reason=one_line(str(error)), after=error.after)
        except Transient as error:
            return self._unavailable(str(error))
        except Denied as error:
            return self._unavailable(str(error), lasting=True)
        outcome = classify(answer, time.time())
        if isinstance(outcome, Failed):
            self._tell(outcome.log_tail, request_id)
        return outcome

    async def _reached(self) -> HotCalls:
        self._calls = await self._aws.calls(region=self._settings.region, role_arn=self._settings.role_arn)
        return self._calls

    def _tell(self, log_tail: str, request_id: str) -> None:
        """Tell the lines as those of a local function are told. They carry our request id: Lambda's is among them."""
        lines = Lines()
        for line in (*lines.feed(log_tail.encode()), *lines.rest()):
            self._observe(FunctionPrinted(function=self._settings.name, request_id=request_id, line=line))

    async def check(self) -> float | None:
        """Ask Lambda whether we may invoke: a dry run. Answers the function's timeout, None if we may not ask for it."""
        settings = self._settings
        await (await self._reached()).ready("lambda", settings.function)
        client = await self._aws.client("lambda", region=settings.region, role_arn=settings.role_arn)
        with translated("lambda", "Invoke"):
            await client.invoke(FunctionName=settings.function, InvocationType="DryRun")
        try:
            with translated("lambda", "GetFunctionConfiguration"):
                answer = await client.get_function_configuration(FunctionName=settings.function)
        except (Transient, Denied):
            return None
        return float(answer["Timeout"]) if "Timeout" in answer else None

    def _unavailable(self, what: str, *, lasting: bool = False) -> Unavailable:
        return Unavailable(reason=one_line(f'function "{self._settings.function}": {what}'), lasting=lasting)
