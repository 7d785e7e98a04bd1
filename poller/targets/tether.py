"""Become a command that cannot outlive its parent. Standard library only: it is run as a script and imports nothing of ours.

    python -I -S tether.py PARENT REPORT EXECUTABLE ARGV0 [ARGV1...]

PARENT is the parent's process id, REPORT an inherited pipe: what is written there says why EXECUTABLE could not be
started; it closes without a word when it was.

Why a script before the command: `PR_SET_PDEATHSIG` has to be set in the child, survives exec, and is the only thing
that still works when the parent is killed with SIGKILL. The alternative, `preexec_fn`, runs Python between fork and
exec in a process that has threads, which may deadlock. Linux sends the signal when the *thread* that forked ends; that
is the thread of the event loop, without which nobody answers the Runtime API anyway. It reaches the command itself;
what the command started is the business of `guard`. Elsewhere than on Linux the command learns it from its connection: the Runtime API is gone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1


def become(parent: int, report: int, executable: str, words: list[str]) -> None:
    """Tie this process to its parent and turn into the command; on return, `report` says why not."""
    os.set_inheritable(report, False)  # noqa: FBT003  the call has no keyword
    if sys.platform == "linux":
        with suppress(OSError):  # a system that does not let us keeps its own order
            order = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
            os.write(order, b"1000")  # where the system's memory runs out, a function goes before its host
            os.close(order)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            return  # it died before we were tied to it
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)  # Python ignores them, and exec would pass that on
    try:
        os.execv(executable, words)  # noqa: S606  the command is the configuration's
    except FileNotFoundError:  # the file was found before: what it needs to run is missing
        os.write(report, b"the interpreter that its first line names does not exist")
    except OSError as error:
        os.write(report, (error.strerror or str(error)).encode())


if __name__ == "__main__":
    become(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
    sys.exit(127)
