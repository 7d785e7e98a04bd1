"""Kill process groups when the parent is gone. Standard library only: it is run as a script and imports nothing of ours.

    python -I -S guard.py

Standard input is a pipe whose other end the parent alone holds: `+GROUP` begins to watch over a process group, `-GROUP`
ends it. The pipe closes when the parent ends, however it ends, and then every group that is left gets SIGKILL.

Why a process of its own: the signal that a function's process is tied to its parent by (`tether`) reaches that process
alone, not what it started; and nobody else is left to do it after the parent was killed with SIGKILL. It is in a
session of its own and deaf to what is sent to the parent's terminal or group. What leaves its group by `setsid` is
followed by nobody.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress


def left(lines: Iterable[str]) -> list[int]:
    """The groups that are watched over when the lines end, in the order they came."""
    groups: dict[int, None] = {}
    for line in lines:
        group = int(line[1:])
        if line[0] == "+":
            groups[group] = None
        else:
            groups.pop(group, None)
    return list(groups)


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for group in left(sys.stdin):
        with suppress(ProcessLookupError, PermissionError):  # macOS refuses where all members have ended
            os.killpg(group, signal.SIGKILL)
