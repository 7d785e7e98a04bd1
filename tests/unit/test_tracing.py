"""Whether spans are made, and what a span says."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from poller.mapping.trace import traces_of
from poller.model.errors import SettingsError
from poller.model.outcome import Failed, Outcome, Partial, Refused, Replied, Unavailable
from poller.model.ports import Sending
from poller.model.record import Record
from poller.model.trace import Trace
from poller.service.spans import Spans
from poller.service.tracing import traced, wanted

TRACE, SPAN = "5759e988bd862e3fe1be46a994272793", "53995c3f42cd8ad8"
XRAY = f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={SPAN};Sampled=1"
PARENT = f"00-{TRACE}-{SPAN}-01"
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.fixture
def exported() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def spans(exported: InMemorySpanExporter) -> Iterator[Spans]:
    provider = TracerProvider(resource=Resource({}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exported))
    yield Spans(provider)
    provider.shutdown()


def sending(**more: Any) -> Sending:
    said: dict[str, Any] = {
        "mapping": "m",
        "source": "arn:aws:kinesis:eu-west-1:123456789012:stream/orders",
        "shard": "shardId-7",
        "function": "f",
        "records": 10,
        "request_id": "r-1",
        "attempt": 2,
        "traces": (),
    }
    return Sending(**said | more)


def span_of(spans: Spans, exported: InMemorySpanExporter, outcome: Outcome | None, **more: Any) -> ReadableSpan:
    spans.begin(sending(**more)).end(outcome)
    (span,) = exported.get_finished_spans()
    return span


@pytest.mark.parametrize(
    ("environ", "asked"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:4318"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "TRUE"}, False),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False),
    ],
    ids=[
        "nobody asked",
        "an endpoint",
        "one for traces",
        "an empty one",
        "one for metrics",
        "the exporter, with its own endpoint",
        "no exporter",
        "disabled",
        "the protocol that there is",
        "a protocol without an endpoint",
    ],
)
def test_spans_are_made_when_the_variables_ask_for_them(environ: dict[str, str], asked: bool):
    assert wanted(environ) is asked


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER=zipkin: is not supported, allowed: otlp, none"),
        (
            ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL=grpc: is not supported, allowed: http/protobuf",
        ),
    ],
)
def test_what_is_not_there_is_refused(environ: dict[str, str], told: str):
    with pytest.raises(SettingsError) as refused:
        wanted(environ)
    assert str(refused.value) == told


def test_what_is_not_installed_is_told_with_how_to_install_it(tmp_path: Path):
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").touch()  # the API alone, as other packages bring it
    code = f"from poller.service.tracing import wanted; wanted({ENDPOINT!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    told = "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: pip install 'poller[otel]'"
    assert done.stderr.splitlines()[-1].endswith(told)


def test_a_variable_that_makes_no_sense_is_told_in_one_line_and_nothing_is_traced():
    code = "import anyio, os, time\nfrom poller.service.tracing import traced\nasync def main():\n"
    code += "    async with traced(os.environ, time.time) as tracing:\n        assert tracing is None\nanyio.run(main)"
    environ = os.environ | ENDPOINT | {"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "no spans are exported\n")


async def test_what_cannot_be_had_is_told_and_nothing_is_traced(caplog: pytest.LogCaptureFixture):
    async with traced({"OTEL_TRACES_EXPORTER": "console"}, lambda: 0.0) as tracing:
        assert tracing is None
    (line,) = caplog.records
    assert (line.levelname, line.getMessage()) == ("ERROR", "no spans are exported")
    assert "OTEL_TRACES_EXPORTER=console" in line.__dict__["fields"]["reason"]


def test_nothing_is_imported_when_nobody_asks():
    code = "import sys, poller.service.app, poller.cli; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_span_says_which_batch_it_is(spans: Spans, exported: InMemorySpanExporter):
    span = span_of(spans, exported, Replied())
    assert (span.name, span.kind, span.parent) == ("process orders", SpanKind.CONSUMER, None)
    assert dict(span.attributes or {}) == {
        "messaging.system": "aws_kinesis",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "orders",
        "messaging.destination.partition.id": "shardId-7",
        "messaging.batch.message_count": 10,
        "faas.invoked_name": "f",
        "poller.mapping": "m",
        "poller.attempt": 2,
        "poller.request_id": "r-1",
        "poller.outcome": "success",
    }
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("source", "name", "system"),
    [
        ("arn:aws:sqs:eu-west-1:123456789012:jobs.fifo", "process jobs.fifo", "aws_sqs"),
        ("arn:aws:dynamodb:eu-west-1:123456789012:table/t/stream/2026", "process t", "aws_dynamodb_streams"),
    ],
)
def test_a_span_is_named_for_its_source(
    spans: Spans, exported: InMemorySpanExporter, source: str, name: str, system: str
):
    span = span_of(spans, exported, Replied(), source=source)
    assert (span.name, (span.attributes or {})["messaging.system"]) == (name, system)


@pytest.mark.parametrize(
    ("outcome", "said", "kind", "reason"),
    [
        (Failed(reason="app.Boom: no"), "function_error", "app.Boom", "app.Boom: no"),
        (Failed(reason="502 Bad Gateway"), "function_error", "function_error", "502 Bad Gateway"),
        (Failed(reason="Task: slow", timeout=True), "timeout", "timeout", "Task: slow"),
        (Refused(reason="429"), "throttled", "throttled", "429"),
        (Unavailable(reason="refused\nforged"), "service_error", "service_error", "refused\\nforged"),
        (Partial(failed=("1", "2")), "partial", "partial", "the function reported 2 failed records"),
        (None, "cut_short", "cut_short", "stopped before the function answered"),
    ],
    ids=["error", "no type", "timeout", "throttled", "service", "partial", "cut short"],
)
def test_what_did_not_succeed_is_an_error_of_its_type(
    spans: Spans, exported: InMemorySpanExporter, outcome: Outcome | None, said: str, kind: str, reason: str
):
    span = span_of(spans, exported, outcome)
    assert ((span.attributes or {})["poller.outcome"], (span.attributes or {})["error.type"]) == (said, kind)
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, reason)


def test_a_span_links_the_producers_each_once(spans: Spans, exported: InMemorySpanExporter):
    other = f"00-{TRACE}-1111111111111111-00"
    traces = (Trace(xray=XRAY), Trace(parent=PARENT), Trace(xray=XRAY, parent=other, state="a=b"), Trace(xray="x"))
    span = span_of(spans, exported, Replied(), traces=traces)
    assert [(f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") for link in span.links] == [
        (TRACE, SPAN),
        (TRACE, "1" * 16),
    ]
    assert span.links[1].context.trace_state.to_header() == "a=b"


def test_the_function_is_told_the_span_in_both_spellings(spans: Spans, exported: InMemorySpanExporter):
    begun = spans.begin(sending(traces=(Trace(parent=PARENT),)))
    begun.end(Replied())
    (span,) = exported.get_finished_spans()
    trace_id, span_id = f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"
    assert begun.trace.parent[:-2] == f"00-{trace_id}-{span_id}-"
    assert begun.trace.state == begun.trace.xray == ""
    assert begun.trace.xray_header() == f"Root=1-{trace_id[:8]}-{trace_id[8:]};Parent={span_id};Sampled=1"
    assert trace_id != TRACE


def test_distinct_traces_of_a_batch_are_found_and_no_more_than_128():
    def message(number: int) -> Record:
        body = f'{{"attributes": {{"AWSTraceHeader": "Root=1-{number}"}}}}'.encode()
        return Record(id="1", body=body, arrived=0.0, receipt="r", traced=True)

    assert traces_of([message(1), message(2), message(1)]) == (Trace(xray="Root=1-1"), Trace(xray="Root=1-2"))
    assert len(traces_of([message(number) for number in range(300)])) == 128
