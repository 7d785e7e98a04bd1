"""Which trace a batch belongs to, and how it is spelled."""

import json
from typing import Any

import pytest

from poller.mapping.trace import trace_of
from poller.model.record import Record
from poller.model.trace import Trace, is_parent

XRAY = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
PARENT = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"


def message(*, traced: bool = True, body: str = "", system: Any = None, **named: str) -> Record:
    attributes = {name: {"stringValue": value, "dataType": "String"} for name, value in named.items()}
    text = {"body": body, "attributes": system or {}, "messageAttributes": attributes}
    return Record(id="1", body=json.dumps(text).encode(), arrived=0.0, receipt="r", traced=traced)


@pytest.mark.parametrize(
    ("records", "trace"),
    [
        ([], None),
        ([message()], None),
        ([message(system={"AWSTraceHeader": XRAY})], Trace(xray=XRAY)),
        ([message(traceparent=PARENT)], Trace(parent=PARENT)),
        ([message(traceparent=PARENT, tracestate="a=b")], Trace(parent=PARENT, state="a=b")),
        ([message(tracestate="a=b")], None),
        ([message(system={"AWSTraceHeader": XRAY}, traceparent=PARENT)], Trace(xray=XRAY, parent=PARENT)),
        ([message(), message(system={"AWSTraceHeader": XRAY}), message(traceparent=PARENT)], Trace(xray=XRAY)),
        ([message(system={"AWSTraceHeader": "two\r\nlines"})], None),
        ([message(system={"AWSTraceHeader": "x" * 513})], None),
        ([message(system={"AWSTraceHeader": 7}), message(traceparent=PARENT)], Trace(parent=PARENT)),
        ([message(traceparent="00-nonsense-01"), message(traceparent=PARENT)], Trace(parent=PARENT)),
        ([message(body='{"AWSTraceHeader": "x", "traceparent": "y"}')], None),
        ([message(traced=False, system={"AWSTraceHeader": XRAY})], None),
    ],
    ids=[
        "no records",
        "no trace",
        "X-Ray",
        "W3C",
        "W3C with state",
        "state without a parent",
        "both",
        "first message that has one",
        "what no header can carry",
        "too long",
        "an attribute of another type",
        "no traceparent",
        "only in the body",
        "a record that says none",
    ],
)
def test_trace_of_a_batch_is_that_of_its_first_message_with_one(records, trace):
    assert trace_of(records) == trace


@pytest.mark.parametrize(
    ("trace", "header"),
    [
        (Trace(), ""),
        (Trace(xray="Root=1-a-b"), "Root=1-a-b"),
        (Trace(xray="Root=1-a-b", parent=PARENT), "Root=1-a-b"),
        (Trace(parent=PARENT), XRAY),
        (Trace(parent=PARENT[:-1] + "0"), XRAY.replace("Sampled=1", "Sampled=0")),
    ],
)
def test_x_ray_s_spelling_is_made_of_w3c_s(trace, header):
    assert trace.xray_header() == header


@pytest.mark.parametrize(
    "text",
    [
        "",
        PARENT.upper(),
        "ff" + PARENT[2:],
        PARENT.replace("5759e988bd862e3fe1be46a994272793", "0" * 32),
        PARENT.replace("53995c3f42cd8ad8", "0" * 16),
        PARENT + "\n",
        PARENT + "-" + "x" * 600,
    ],
)
def test_what_is_no_traceparent_is_told_apart(text):
    assert not is_parent(text)
