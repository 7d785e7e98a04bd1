"""Which trace an invocation belongs to. No I/O, no clock.

A stream's records carry no trace. A queue's messages may: `AWSTraceHeader` (X-Ray), a message attribute `traceparent`
with its `tracestate` (W3C). A batch has one invocation and so one trace: that of the first message that has any.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from poller.model.record import Record
from poller.model.trace import Trace, is_parent

_XRAY, _W3C = b'"AWSTraceHeader"', b'"traceparent"'
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
        if record.receipt and (_XRAY in record.body or _W3C in record.body):
            trace = _trace(record.body)
            if trace.xray or trace.parent:
                return trace
    return None


def _trace(body: bytes) -> Trace:
    try:
        message = _decoder.decode(body)
    except msgspec.DecodeError:  # an attribute of an unheard-of shape
        return Trace()
    parent = message.named.traceparent.text
    parent = parent if is_parent(parent) else ""
    state = _sendable(message.named.tracestate.text) if parent else ""
    return Trace(xray=_sendable(message.attributes.trace), parent=parent, state=state)


def _sendable(text: str) -> str:
    return text if len(text) <= _LONGEST and text.isascii() and text.isprintable() else ""
