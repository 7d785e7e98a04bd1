"""Functions that run on this machine and speak the Lambda Runtime API."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFunction:
    """A command that is a runtime client (`python -m awslambdaric app.handler`, a `bootstrap`)."""

    name: str
    """The name in the configuration, and the function's name."""
    command: tuple[str, ...]
    directory: str | None = None
    """Where the command runs, LAMBDA_TASK_ROOT; None: where poller runs."""
    timeout: float = 60.0
    """Seconds an invocation may take."""
    concurrency: int = 1
    """Environments (processes) at the most, each with one invocation at a time."""
    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Added to the child's environment; may hold secrets."""
    memory_size: int = 128
    """MiB, told to the function; not a limit."""
