"""Spans on their way to a collector: OTLP over HTTP, from the running daemon to a receiver of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.system.cloud import Cloud
from tests.system.daemon import started, write
from tests.system.functions import Delivery, Functions
from tests.system.settings import queue, settings, stream

FIRST = ("5759e988bd862e3fe1be46a994272793", "53995c3f42cd8ad8")
SECOND = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


@dataclass(slots=True)
class Collector:
    """Takes what is exported."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, str]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        assert request.path == "/v1/traces"
        assert request.content_type == "application/x-protobuf"
        told = ExportTraceServiceRequest.FromString(await request.read())
        for part in told.resource_spans:
            self.resources.append(values(part.resource.attributes))
            self.spans += [span for scope in part.scope_spans for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")

    def of(self, name: str) -> list[Span]:
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_time_unix_nano)


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
    application = web.Application()
    application.router.add_post("/{path:.*}", collector.handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        await runner.cleanup()


def values(attributes: Any) -> dict[str, str]:
    return {each.key: each.value.string_value or str(each.value.int_value) for each in attributes}


def context(span: Span) -> tuple[str, str]:
    return span.trace_id.hex(), span.span_id.hex()


def handed(delivery: Delivery) -> tuple[str, str]:
    """The context that a function was handed."""
    _, trace, parent, _ = delivery.headers["traceparent"].split("-")
    return trace, parent


async def traced_message(cloud: Cloud, name: str, text: str, producer: tuple[str, str]) -> None:
    attribute = {"DataType": "String", "StringValue": f"00-{producer[0]}-{producer[1]}-01"}
    url = await cloud.queue_url(name)
    await cloud.sqs("SendMessage", QueueUrl=url, MessageBody=text, MessageAttributes={"traceparent": attribute})


async def test_spans_with_links_and_their_function_below_them_are_exported_when_the_daemon_stops(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    async def once_failing(delivery: Delivery) -> int:
        return 500 if delivery.function == "sorter" and len(called.of("sorter")) == 1 else 200

    called.behave = once_failing
    jobs = queue(await cloud.queue("traced"), "worker", BatchSize=10, MaximumBatchingWindowInSeconds=1)
    orders = stream(await cloud.stream("traced"), "sorter")
    await traced_message(cloud, "traced", "a", FIRST)
    await traced_message(cloud, "traced", "b", SECOND)
    await cloud.put("traced", "c")
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"jobs": jobs, "orders": orders}))
    async with collecting() as collector:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_SERVICE_NAME": "deliveries",
            "OTEL_BSP_SCHEDULE_DELAY": "600000",
        }
        async with started(config, **environment) as daemon:
            await called.given("worker", "a", "b")
            await called.given("sorter", "c")
            assert collector.spans == [], "they are exported in the background, or at the end"
            await daemon.stop()
        assert {told["service.name"] for told in collector.resources} == {"deliveries"}
        messages = collector.of("process traced")
    jobs_spans = [span for span in messages if values(span.attributes)["poller.mapping"] == "jobs"]
    links = {(link.trace_id.hex(), link.span_id.hex()) for span in jobs_spans for link in span.links}
    assert links == {FIRST, SECOND}
    assert {handed(delivery) for delivery in called.of("worker")} == {context(span) for span in jobs_spans}
    failed, succeeded = (span for span in messages if values(span.attributes)["poller.mapping"] == "orders")
    assert [values(span.attributes)["poller.attempt"] for span in (failed, succeeded)] == ["1", "2"]
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert values(failed.attributes)["error.type"] == "function_error"
    assert succeeded.status.code == Status.STATUS_CODE_UNSET
    assert [handed(delivery) for delivery in called.of("sorter")] == [context(failed), context(succeeded)]


async def test_a_collector_that_is_away_disturbs_neither_delivery_nor_the_stop(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    mapping = stream(await cloud.stream("untraced"), "sorter")
    await cloud.put("untraced", "a")
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"untraced": mapping}))
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    async with started(config, **environment) as daemon:
        await called.given("sorter", "a")
        line = await daemon.line("tracing has trouble, delivery goes on")
        assert line["level"] == "WARN"
        await cloud.put("untraced", "b")
        await called.given("sorter", "b")
        await daemon.stop()
