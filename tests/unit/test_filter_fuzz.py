"""Whatever comes in, nothing but the documented error comes out, and the time grows with the payload, not faster."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poller.mapping.filtering import Filters, Kind, PatternError, compile_pattern
from poller.mapping.filtering.look import read_slowly
from poller.mapping.filtering.match import matches
from poller.model.record import Record

KINDS = st.sampled_from(["kinesis", "dynamodb", "sqs", "document"])
OPERATORS = [
    "exists",
    "prefix",
    "suffix",
    "equals-ignore-case",
    "wildcard",
    "anything-but",
    "numeric",
    "cidr",
    "exactly",
]
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), 1e308])
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=5)
KEYS = st.sampled_from([*OPERATORS, "$or", "a", "data", "body", "dynamodb", "", '"', "=", "<", ">"]) | st.text(
    max_size=3
)
ANYTHING = st.recursive(
    SCALARS | st.sampled_from(["=", "<", "<=", ">", ">=", "*", "**", "\\", "::/0", "1.2.3.4/8", "/", "1/1"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)
PAYLOADS = [
    b"",
    b"\xff\xfe",
    b'{"a":"\xff"}',
    b'{"a":' * 3000 + b"1" + b"}" * 3000,
    b"[" * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' + b"[" * 900 + b"1" + b"]" * 900 + b"}",
    b'{"a":' + b"9" * 100_000 + b"}",
    b'{"a":-' + b"9" * 5000 + b".5e99}",
    b'{"a":1e999999999999}',
    b'{"a":1E-999999999999}',
    b'{"a":NaN}',
    b'{"a":-Infinity}',
    b'{"a":1,"a":"x","a":[]}',
    b'{"a":"\\ud800"}',
    b'{"\\udfff":1,"a":1}',
    b'{"a":"\\u0000\\uffff"}',
    b"\xef\xbb\xbf{}",
    b'{"a":1}{"a":2}',
    b'"' + b"x" * 100_000,
    b"null",
]
PATTERNS = [
    {"a": [{"exists": False}]},
    {"a": [{"exists": True}, {"exists": False}]},
    {"a": {"a": {"a": [1, {"anything-but": ["x"]}]}}},
    {"a": [{"wildcard": "*x*"}, {"cidr": "::/0"}, {"prefix": {"equals-ignore-case": "\u0130"}}, {"numeric": ["<", 5]}]},
    {"$or": [{"a": [{"anything-but": 5}]}, {"b": {"c": [{"exists": False}]}}]},
]


def wrapped(kind: str, payload: bytes) -> bytes:
    match kind:
        case "kinesis":
            return b'{"kinesis":{"data":"' + base64.b64encode(payload) + b'"}}'
        case "sqs":
            return b'{"body":' + json.dumps(payload.decode("utf-8", "surrogateescape")).encode() + b"}"
        case _:
            return payload


@settings(max_examples=400, deadline=None)
@given(ANYTHING)
def test_a_pattern_compiles_or_raises_the_documented_error(pattern: Any):
    for given_pattern in (
        pattern,
        json.dumps(pattern),
        {"a": pattern},
        {"a": [pattern]},
        {"a": [{"anything-but": pattern}]},
    ):
        try:
            compile_pattern(given_pattern)
        except PatternError as error:
            lines = str(error).splitlines()
        else:
            lines = ["it compiles"]
        assert len(lines) == 1


@settings(max_examples=400, deadline=None)
@given(
    st.text()
    | st.text('{}[]":,*\\01eE.-$or ', max_size=40)
    | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))
)
def test_a_text_compiles_or_raises_the_documented_error(text: str):
    try:
        compile_pattern(text)
    except PatternError as error:
        lines = str(error).splitlines()
    else:
        lines = ["it compiles"]
    assert len(lines) == 1


@settings(max_examples=300, deadline=None)
@given(KINDS, st.binary() | ANYTHING.map(lambda value: json.dumps(value).encode()), st.sampled_from(PATTERNS))
def test_no_payload_raises_anything(kind: Kind, payload: bytes, pattern: dict[str, Any]):
    key = {"kinesis": "data", "sqs": "body"}.get(kind)
    filters = Filters(kind, (json.dumps({key: pattern} if key else pattern),))
    for body in (payload, wrapped(kind, payload)):
        assert bool(filters.refusals(body)) != filters.match(body)


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload[:20].decode("utf-8", "backslashreplace"))
@pytest.mark.parametrize("kind", ["kinesis", "dynamodb", "sqs", "document"])
def test_a_strange_payload_raises_nothing_and_is_delivered_or_not(kind: Kind, payload: bytes):
    key = {"kinesis": "data", "sqs": "body"}.get(kind)
    for pattern in PATTERNS:
        filters = Filters(kind, (json.dumps({key: pattern} if key else pattern),))
        records = (Record(id="1", body=wrapped(kind, payload), arrived=0),)
        assert filters.split(records) in [(records, ()), ((), records)]
        assert bool(filters.refusals(records[0].body)) != filters.match(records[0].body)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), ANYTHING), st.sampled_from(PATTERNS))
def test_reading_the_named_fields_alone_is_like_reading_all_of_them(event: dict[str, Any], pattern: dict[str, Any]):
    text = json.dumps(event).encode()
    seen = read_slowly(text)
    expected = isinstance(seen, dict) and matches(compile_pattern(pattern), seen)
    assert Filters("document", (json.dumps(pattern),)).match(text) == expected


SLOW: list[tuple[str, Any, Callable[[int], Any]]] = [
    ("exact", ["a" * 50 + "b"], lambda n: "a" * n),
    ("prefix", [{"prefix": "a" * 50 + "b"}], lambda n: "a" * n),
    ("prefix without case", [{"prefix": {"equals-ignore-case": "a" * 50 + "b"}}], lambda n: "a" * n),
    ("suffix", [{"suffix": "b" + "a" * 50}], lambda n: "a" * n),
    ("suffix without case", [{"suffix": {"equals-ignore-case": "b" + "a" * 50}}], lambda n: "a" * n),
    ("without case", [{"equals-ignore-case": "a" * 99}], lambda n: "A\u0130" * (n // 2)),
    ("wildcards in a row of one letter", [{"wildcard": "*a" * 40 + "*b*"}], lambda n: "a" * n),
    ("wildcards with long parts", [{"wildcard": "*" + ("a" * 60 + "b*") * 30 + "c"}], lambda n: "a" * n + "c"),
    ("wildcards that nearly fit", [{"wildcard": "*" + "ab*" * 30 + "c*"}], lambda n: "ab" * (n // 2)),
    ("anything but wildcards", [{"anything-but": {"wildcard": ["*a" * 40 + "*b*", "*" + "a" * 300 + "b*"]}}], lambda n: "a" * n),
    ("anything but without case", [{"anything-but": {"equals-ignore-case": ["\u0130" * 9]}}], lambda n: "\u0130" * n),
    ("cidr", [{"cidr": "::/0"}], lambda n: ":" * n),
    ("cidr of digits", [{"cidr": "0.0.0.0/0"}], lambda n: "1." * (n // 2)),
    ("numeric", [{"numeric": [">", 1e300]}], lambda n: [1] * n),
    ("a long number", [{"numeric": ["=", 1]}], lambda n: int("9" * min(n, 4000))),
    ("elements of a list", [{"anything-but": "x"}], lambda n: ["x"] * n),
    ("absent from the elements of a list", {"b": {"c": [{"exists": False}]}}, lambda n: [{"b": [{"d": 1}] * 10}] * (n // 10)),
    ("two conditions on the elements of a list", {"b": [1], "c": [1]}, lambda n: [{"b": 1, "c": 2}, {"b": 2, "c": 1}] * (n // 2)),
    ("lists within lists", {"b": [1], "c": [{"exists": False}]}, lambda n: [[[{"b": 2}]]] * n),
]  # fmt: skip


SMALL = 8_000


def _seconds(filters: Filters, body: bytes) -> float:
    best = float("inf")
    for _ in range(3):
        began = time.thread_time()
        filters.match(body)
        best = min(best, time.thread_time() - began)
    return best


@pytest.mark.parametrize(("conditions", "payload"), [case[1:] for case in SLOW], ids=[case[0] for case in SLOW])
def test_time_grows_at_most_linearly_with_the_payload(conditions: Any, payload: Callable[[int], Any]):
    filters = Filters("document", (json.dumps({"a": conditions}),))
    small, large = (json.dumps({"a": payload(n)}).encode() for n in (SMALL, 16 * SMALL))
    ratio = _seconds(filters, large) / max(_seconds(filters, small), 50e-6)
    assert ratio < 16 * 8, "16 times the payload took more than 128 times as long; what grows with the square takes 256"
