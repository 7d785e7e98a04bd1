"""One span a batch, by OpenTelemetry's conventions for messaging. Exporting happens in a thread and never holds up a batch.

Read only where spans are asked for: it needs `poller[otel]`.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio.to_thread
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, get_current_span
from opentelemetry.trace import Span as OpenSpan
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from poller import __version__
from poller.model.outcome import Failed, Outcome, Partial, Refused, Replied, Unavailable, label
from poller.model.ports import Clock, Sending, Span, Tracing
from poller.model.trace import Trace
from poller.service.log_lines import one_line
from poller.sources.arn import parse_arn

_log = logging.getLogger(__name__)
_FLUSH = 5.0
"""Seconds for which a stop waits for the collector."""
_REPEATED = 60.0
"""Seconds between two lines about the same trouble."""
_LONGEST_REASON = 500
_UNNAMED = "unknown_service"
"""What OpenTelemetry calls a service that nobody named."""
_SYSTEMS = {"kinesis": "aws_kinesis", "dynamodb": "aws_dynamodb_streams", "sqs": "aws_sqs"}
_ERROR_TYPE = re.compile(r"([A-Za-z_][\w.]{0,127}): ")
_NOWHERE = Context()
"""A batch begins a trace of its own: its records may come from many, which are linked."""
_w3c = TraceContextTextMapPropagator()


@asynccontextmanager
async def exporting(clock: Clock) -> AsyncIterator[Tracing | None]:
    """Export to where the OTEL_* variables say, from a thread; at the end for `_FLUSH` seconds at the most.

    Where they say nothing that can be understood, that is told and None is yielded.
    """
    with _told_by_us(clock):
        try:
            provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
            provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        except ValueError as error:  # a number that is none
            _log.error("no spans are exported", extra={"fields": {"reason": f"a variable OTEL_*: {error}"}})
            yield None
            return
        try:
            yield Spans(provider)
        finally:
            last = threading.Thread(target=provider.shutdown, name="spans", daemon=True)
            last.start()
            await anyio.to_thread.run_sync(last.join, _FLUSH)
            if last.is_alive():
                _log.warning("spans were left behind, the collector did not take them in time")


class Spans:
    """Makes the spans."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("poller", __version__)

    def begin(self, sending: Sending) -> Span:
        """Open the span of an invocation."""
        arn = parse_arn(sending.source)
        kind, _, rest = arn.resource.partition("/")
        name = rest.partition("/")[0] or kind  # stream/NAME, table/NAME/stream/LABEL; a queue's is its name
        return _Open(
            self._tracer.start_span(
                f"process {name}",
                context=_NOWHERE,
                kind=SpanKind.CONSUMER,
                links=[Link(context) for context in _contexts(sending)],
                attributes={
                    "messaging.system": _SYSTEMS.get(arn.service, arn.service),
                    "messaging.operation.name": "process",
                    "messaging.operation.type": "process",
                    "messaging.destination.name": name,
                    "messaging.destination.partition.id": sending.shard,
                    "messaging.batch.message_count": sending.records,
                    "faas.invoked_name": sending.function,
                    "poller.mapping": sending.mapping,
                    "poller.attempt": sending.attempt,
                    "poller.request_id": sending.request_id,
                },
            )
        )


class _Open:
    """The span of an invocation under way."""

    def __init__(self, span: OpenSpan) -> None:
        self._span = span
        context = span.get_span_context()
        parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        self.trace = Trace(parent=parent, state=context.trace_state.to_header())

    def end(self, outcome: Outcome | None) -> None:
        """Close it."""
        said, reason = _said(outcome)
        self._span.set_attribute("poller.outcome", said)
        if not isinstance(outcome, Replied):
            self._span.set_attribute("error.type", _error_type(outcome) or said)
            self._span.set_status(Status(StatusCode.ERROR, one_line(reason, _LONGEST_REASON)))
        self._span.end()


class _Words(logging.Handler):
    """What OpenTelemetry logs, as lines of ours: without a traceback, the same once a minute."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(logging.WARNING)
        self._clock = clock
        self._told: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, if it is worth a line. Called from the exporting thread, too."""
        now, kind = self._clock(), str(record.msg)
        if not 0.0 <= now - self._told.get(kind, float("-inf")) < _REPEATED:
            self._told[kind] = now
            reason = one_line(record.getMessage(), _LONGEST_REASON)
            _log.warning("tracing has trouble, delivery goes on", extra={"fields": {"reason": reason}})


@contextmanager
def _told_by_us(clock: Clock) -> Iterator[None]:
    theirs, words = logging.getLogger("opentelemetry"), _Words(clock)
    before, theirs.propagate = theirs.propagate, False
    theirs.addHandler(words)
    try:
        yield
    finally:
        theirs.removeHandler(words)
        theirs.propagate = before


def _resource() -> Resource:
    """Who we are, as OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say."""
    resource = Resource.create({"service.version": __version__})
    if str(resource.attributes["service.name"]).startswith(_UNNAMED):
        resource = resource.merge(Resource({"service.name": "poller"}))
    return resource


def _contexts(sending: Sending) -> Iterator[SpanContext]:
    """Where the producers were when they sent the records, each once."""
    seen: set[tuple[int, int]] = set()
    for trace in sending.traces:
        for parent in trace.parents():
            carrier = {"traceparent": parent, "tracestate": trace.state if parent == trace.parent else ""}
            context = get_current_span(_w3c.extract(carrier, _NOWHERE)).get_span_context()
            who = (context.trace_id, context.span_id)
            if context.is_valid and who not in seen:
                seen.add(who)
                yield context


def _said(outcome: Outcome | None) -> tuple[str, str]:
    """The outcome's name, and why it is no success."""
    match outcome:
        case None:
            return "cut_short", "stopped before the function answered"
        case Replied():
            return label(outcome), ""
        case Partial(failed=failed):
            return label(outcome), f"the function reported {len(failed)} failed records"
        case Failed(reason=reason) | Refused(reason=reason) | Unavailable(reason=reason):
            return label(outcome), reason


def _error_type(outcome: Outcome | None) -> str:
    """The error that the function itself named; "" where it did not."""
    if isinstance(outcome, Failed) and not outcome.timeout and (found := _ERROR_TYPE.match(outcome.reason)):
        return found[1]
    return ""
