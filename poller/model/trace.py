"""The trace that an event belongs to, in both spellings that are about. No I/O, no clock."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<span>(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?:-.*)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What the producer of a record said of the trace it is part of."""

    xray: str = ""
    """AWS X-Ray's header, `Root=...;Parent=...;Sampled=...`; "" when there is none."""
    parent: str = ""
    """W3C's `traceparent`; "" when there is none."""
    state: str = ""
    """W3C's `tracestate`, which means something only beside a `traceparent`."""

    def xray_header(self) -> str:
        """AWS X-Ray's spelling, made from W3C's where that is all there is; "" when there is neither.

        Source: X-Ray guide, "Using W3C trace IDs": the same 32 digits, cut behind the first eight.
        """
        found = None if self.xray else _PARENT.fullmatch(self.parent)
        if found is None:
            return self.xray
        trace, sampled = found["trace"], int(found["flags"], 16) & 1
        return f"Root=1-{trace[:8]}-{trace[8:]};Parent={found['span']};Sampled={sampled}"

    def parents(self) -> tuple[str, ...]:
        """Each context that is named, in W3C's spelling: `traceparent` itself, and X-Ray's header where it names a parent."""
        fields = dict(part.strip().partition("=")[::2] for part in self.xray.split(";"))
        root, parent = fields.get("Root", ""), fields.get("Parent", "")
        sampled = "01" if fields.get("Sampled") == "1" else "00"
        named = f"00-{root.removeprefix('1-').replace('-', '')}-{parent}-{sampled}"
        return tuple(spelled for spelled in (self.parent, named) if is_parent(spelled))


def is_parent(text: str) -> bool:
    """Whether a text is a `traceparent`. Source: W3C Trace Context, section 3.2."""
    return len(text) <= 512 and text.isprintable() and text.isascii() and _PARENT.fullmatch(text) is not None
