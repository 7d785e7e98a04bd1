"""Which trace an invocation belongs to. No I/O, no clock.

A stream's records carry no trace. A queue's messages may: `AWSTraceHeader` (X-Ray), a message attribute `traceparent`
with its `tracestate` (W3C). A batch has one invocation and so one trace: that of the first message that has any.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from poller.model.record import Record
from poller.model.trace import Trace, is_parent

_LONGEST = 512


class _Text(msgspec.Struct, gc=False):
    text: str = msgspec.field(default="", name="stringValue")


class _System(msgspec.Struct, gc=False):
    trace: str = msgspec.field(default="", name="AWSTraceHeader")


class _Named(msgspec.Struct, gc=False):
    traceparent: _Text = msgspec.field(default_factory=_Text)
    tracestate: _Text = msgspec.field(default_factory=_Text)


class _Message(msgspec.Struct, gc=False):
    attributes: _System = msgspec.field(default_factory=_System)
    named: _Named = msgspec.field(default_factory=_Named, name="messageAttributes")


_decoder = msgspec.json.Decoder(_Message)


def trace_of(records: Sequence[Record]) -> Trace | None:
    """The trace of the first queue message that says one; None when none does.

    A value that no HTTP header can carry, or that is no `traceparent`, is as good as none: it is the producer's.
    """
    for record in records:
        if record.traced and (trace := _trace(record.body)):
            return trace
    return None


def traces_of(records: Sequence[Record], most: int = 128) -> tuple[Trace, ...]:
    """The distinct traces that a batch's messages say, `most` of them at the most, in the order of the messages.

    Source: OpenTelemetry, "Span Limits": 128 links.
    """
    found: dict[Trace, None] = {}
    for record in records:
        if record.traced and (trace := _trace(record.body)):
            found[trace] = None
            if len(found) == most:
                break
    return tuple(found)


def _trace(body: bytes) -> Trace | None:
    try:
        message = _decoder.decode(body)
    except msgspec.DecodeError:  # an attribute of an unheard-of shape
        return None
    xray, parent = _sendable(message.attributes.trace), message.named.traceparent.text
    parent = parent if is_parent(parent) else ""
    state = _sendable(message.named.tracestate.text) if parent else ""
    return Trace(xray=xray, parent=parent, state=state) if xray or parent else None


def _sendable(text: str) -> str:
    return text if len(text) <= _LONGEST and text.isascii() and text.isprintable() else ""
