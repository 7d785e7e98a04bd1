"""What a process and all that it started have resident. Linux; elsewhere nothing is known.

Why looked at from outside, and not a limit that the system enforces: Lambda bounds what is *resident*. The limits that a
process can be given bound what it *reserves* (RLIMIT_AS, RLIMIT_DATA), of which Node.js takes 0.6 to 1.2 GiB to begin
with while 42 MiB are resident; and control groups are not ours to make in most containers. The price is that a function
may exceed its limit for as long as it is between two looks.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int:
    """Bytes that a process and its descendants have resident; pages that they share count for each. 0 when it is gone."""
    whole, todo = 0, [pid]
    while todo:
        process = Path(f"/proc/{todo.pop()}")
        with suppress(OSError):  # it has ended meanwhile
            whole += int((process / "statm").read_bytes().split()[1]) * _PAGE
            for thread in (process / "task").iterdir():
                todo += map(int, (thread / "children").read_bytes().split())
    return whole
