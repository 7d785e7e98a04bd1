"""What became of one invocation: the function's failure is a value, never an exception. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Replied:
    """The function returned."""

    body: bytes = b""
    """What it returned, as it came."""
    version: str = "$LATEST"
    """The version that ran (X-Amz-Executed-Version)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """The function returned and named records that failed (ReportBatchItemFailures)."""

    failed: tuple[str, ...]
    """Sequence numbers or message ids, each of them in the batch, in the order of the answer; never empty."""
    version: str = "$LATEST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The function ran (or the batch itself was refused) and failed: this counts as an attempt."""

    reason: str
    """One line for people: error type and message."""
    timeout: bool = False
    """The function ran out of time."""
    log_tail: str = ""
    """The end of the function's log, where the target has it."""
    error: Literal["Unhandled", "Handled"] | None = "Unhandled"
    """X-Amz-Function-Error; None when the function returned and its answer was not one that we can read."""
    ran: bool = True
    """False when the batch was refused before the function saw it (too large)."""
    version: str = "$LATEST"
    """The version that ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The call did not reach the function: throttled. Spends no attempt."""

    reason: str
    after: float = 0.0
    """Seconds the target asked us to wait; 0.0 when it did not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """The call did not reach the function: the service, the network or the configuration failed. Spends no attempt."""

    reason: str
    lasting: bool = False
    """It will not pass by itself (no such function, no permission): try slowly and tell the operator."""


Outcome: TypeAlias = Replied | Partial | Failed | Refused | Unavailable


def label(outcome: Outcome) -> str:
    """The `outcome` label of `poller_invocations_total`."""
    match outcome:
        case Replied():
            return "success"
        case Partial():
            return "partial"
        case Failed(timeout=True):
            return "timeout"
        case Failed():
            return "function_error"
        case Refused():
            return "throttled"
        case Unavailable():
            return "service_error"


def failed_records(outcome: Outcome, records: int) -> int:
    """How many of a batch's records failed: FailedInvokeEventCount."""
    match outcome:
        case Replied():
            return 0
        case Partial(failed=failed):
            return len(set(failed))
        case Failed() | Refused() | Unavailable():
            return records
