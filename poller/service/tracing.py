"""Whether deliveries are traced, by OpenTelemetry's own variables. Nothing of it is imported when nobody asks for it."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from poller.model.errors import SettingsError
from poller.model.ports import Clock, Tracing

_log = logging.getLogger(__name__)
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN = "http/protobuf"
_PARTS = ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether spans are asked for.

    Raises:
        SettingsError: what is asked for cannot be had.
    Source: OpenTelemetry, "Environment Variable Specification". An empty variable counts as one that is not set.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter not in ("", "otlp", "none"):
        raise SettingsError(f"OTEL_TRACES_EXPORTER={exporter}: is not supported, allowed: otlp, none")
    if exporter == "none":
        return False
    asked = next((name for name in _ENDPOINTS if environ.get(name, "").strip()), "")
    asked = asked or ("OTEL_TRACES_EXPORTER" if exporter else "")
    if not asked:
        return False
    protocol = next((name for name in _PROTOCOLS if environ.get(name, "").strip()), "")
    if protocol and environ[protocol].strip() != _SPOKEN:
        raise SettingsError(f"{protocol}={environ[protocol].strip()}: is not supported, allowed: {_SPOKEN}")
    if not _installed():
        raise SettingsError(f"{asked} is set, but OpenTelemetry is not installed: pip install 'poller[otel]'")
    return True


@asynccontextmanager
async def traced(environ: Mapping[str, str], clock: Clock) -> AsyncIterator[Tracing | None]:
    """Tracing as the environment asks for it. What cannot be had is told in one line; delivery does not depend on it.

    At the end, what was not exported yet is, for a few seconds at the most.
    """
    try:
        asked = wanted(environ)
    except SettingsError as error:
        _log.error("no spans are exported", extra={"fields": {"reason": str(error)}})
        asked = False
    if not asked:
        yield None
        return
    from poller.service.spans import exporting

    async with exporting(clock) as tracing:
        yield tracing


def _installed() -> bool:
    try:
        return all(importlib.util.find_spec(part) for part in _PARTS)
    except ModuleNotFoundError:  # the parent of a part
        return False
