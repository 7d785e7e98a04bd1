"""A configuration file for a test: written, loaded, and its mistakes as lines without the folder's name."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from poller.model.errors import SettingsError
from poller.settings import Settings, load

NOW = 1_800_000_000.0
KINESIS = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
DYNAMODB = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
QUEUE = "arn:aws:sqs:eu-west-1:123456789012:orders"
FIFO = "arn:aws:sqs:eu-west-1:123456789012:orders.fifo"


def mapping(arn: str, *more: str) -> str:
    """A file with one mapping `m`, whose further lines start at line 6; streams begin at TRIM_HORIZON on line 6."""
    start = [] if ":sqs:" in arn else ["StartingPosition: TRIM_HORIZON"]
    lines = [f"EventSourceArn: {arn}", "FunctionName: f", *start, *more]
    return "store: memory://\nmappings:\n  m:\n" + "".join(f"    {line}\n" for line in lines)


def settings(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    path = folder / "poller.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, environ or {}, now=NOW)


def mistakes(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """The lines that `load` refuses this file with."""
    with pytest.raises(SettingsError) as caught:
        settings(folder, text, environ)
    return str(caught.value).replace(f"{folder}/", "").split("\n")
