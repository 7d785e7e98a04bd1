"""Signals that come before the daemon can obey them: they wait, and neither end it nor are lost."""

from __future__ import annotations

import signal

_HELD = (signal.SIGHUP, signal.SIGTERM)
"""Not SIGINT: whoever sits before a start that hangs can end it."""


def hold() -> None:
    """Let them wait from now on."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)


def let_come() -> None:
    """Somebody obeys them now; what has waited comes at once."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
