"""The matcher against a second one that writes every rule out: whatever the pattern and the event, they agree."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from poller.mapping.filtering import Filters, PatternError
from tests.unit.filter_rules import reference

TEXTS = st.text("aAbB*\\ß\u017fK\u0131", max_size=4) | st.sampled_from(["10.0.0.1", "::1", "a.b", "", "1", "true"])
NUMBERS = st.integers(-3, 3) | st.sampled_from([0.5, 1.0, -0.0, 1e300, 2**60 + 1, 300.0, 3e2])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
KEYS = st.sampled_from(["a", "b", "c"])
EVENTS = st.dictionaries(
    KEYS,
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8),
    max_size=3,
)  # fmt: skip


def _some(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return texts | st.lists(texts, min_size=1, max_size=3)


LONG = TEXTS.filter(bool)
WILD = st.lists(st.sampled_from(["a", "A", "b", "*", r"\*", r"\\"]), max_size=5).map("".join).filter(lambda text: "**" not in text)  # fmt: skip
RANGES = st.tuples(st.sampled_from([">", ">="]), NUMBERS, st.sampled_from(["<", "<="]), NUMBERS).filter(lambda pair: pair[1] < pair[3]).map(list)  # fmt: skip
CASELESS = TEXTS.map(lambda text: {"equals-ignore-case": text})
OPERATORS = st.one_of(
    st.booleans().map(lambda there: {"exists": there}),
    (TEXTS | CASELESS).map(lambda text: {"prefix": text}),
    (TEXTS | CASELESS).map(lambda text: {"suffix": text}),
    CASELESS,
    WILD.map(lambda text: {"wildcard": text}),
    st.tuples(st.sampled_from(["=", "<", "<=", ">", ">="]), NUMBERS).map(lambda pair: {"numeric": list(pair)}),
    RANGES.map(lambda pair: {"numeric": pair}),
    st.sampled_from(["10.0.0.0/8", "0.0.0.0/0", "::/0", "10.0.0.1/32"]).map(lambda network: {"cidr": network}),
    _some(TEXTS).map(lambda texts: {"anything-but": texts}),
    (NUMBERS | st.lists(NUMBERS, min_size=1, max_size=3)).map(lambda numbers: {"anything-but": numbers}),
    _some(LONG).map(lambda texts: {"anything-but": {"prefix": texts}}),
    _some(LONG).map(lambda texts: {"anything-but": {"suffix": texts}}),
    _some(TEXTS).map(lambda texts: {"anything-but": {"equals-ignore-case": texts}}),
    _some(WILD).map(lambda texts: {"anything-but": {"wildcard": texts}}),
)
LEAVES = st.lists(SCALARS | OPERATORS, min_size=1, max_size=3)
ABSENT = st.just([{"exists": False}])


def _object(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    plain = st.dictionaries(KEYS, inner, min_size=1, max_size=2)
    choice = st.lists(plain, min_size=2, max_size=3)
    return plain | choice.map(lambda branches: {"$or": branches}) | st.builds(lambda one, other: one | {"$or": other}, plain, choice)  # fmt: skip


PATTERNS = _object(st.recursive(LEAVES | ABSENT, _object, max_leaves=6))


def fast(pattern: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    return Filters("document", (json.dumps(pattern),)).match(json.dumps(event).encode())


@settings(max_examples=400, deadline=None)
@given(PATTERNS, EVENTS)
@example({"a": {"b": [{"exists": False}]}}, {"a": [{"b": 1}, {"c": 2}]})
@example({"a": {"b": [{"exists": False}], "c": [2]}}, {"a": [{"b": 1}, {"c": 2}]})
@example({"a": {"$or": [{"b": [{"exists": False}]}, {"c": [{"exists": False}]}]}}, {"a": [{"b": 1}, {"c": 2}]})
@example({"a": {"b": [1]}, "$or": [{"a": {"c": [2]}}, {"b": [1]}]}, {"a": [{"b": 1}, {"c": 2}]})
@example({"a": {"b": [1]}, "$or": [{"a": {"c": [2]}}, {"b": [1]}]}, {"a": [{"b": 1, "c": 2}]})
@example({"a": [1], "$or": [{"a": {"c": [2]}}, {"b": [1]}]}, {"a": [1, {"c": 2}]})
def test_both_matchers_agree(pattern: dict[str, Any], event: dict[str, Any]):
    try:
        found = fast(pattern, event)
    except PatternError as error:
        assume("several places" not in str(error))
        raise
    assert found == reference(pattern, event)


@settings(max_examples=400, deadline=None)
@given(OPERATORS | SCALARS, SCALARS)
def test_both_matchers_agree_on_a_single_value(alternative: Any, value: Any):
    assert fast({"a": [alternative]}, {"a": value}) == reference({"a": [alternative]}, {"a": value})


@settings(max_examples=200, deadline=None)
@given(PATTERNS, EVENTS)
def test_an_explanation_is_given_for_what_is_refused_and_for_nothing_else(
    pattern: dict[str, Any], event: dict[str, Any]
):
    try:
        filters = Filters("document", (json.dumps(pattern),))
    except PatternError as error:
        assume("several places" not in str(error))
        raise
    body = json.dumps(event).encode()
    reasons = filters.refusals(body)
    assert (reasons == ()) == filters.match(body)
    assert all(len(reason) > 5 and "\n" not in reason for reason in reasons)


@pytest.mark.parametrize(
    ("pattern", "event", "expected"),
    [
        ({"a": {"b": [1], "c": [2]}}, {"a": [{"b": 1, "c": 3}, {"b": 2, "c": 2}]}, False),
        ({"a": {"b": [1], "c": [2]}}, {"a": [{"b": 1, "c": 3}, {"b": 1, "c": 2}]}, True),
        ({"a": {"b": {"x": [1]}, "c": [2]}}, {"a": [{"b": [{"x": 0}, {"x": 1}], "c": 3}, {"b": [{"x": 0}], "c": 2}]}, False),
        ({"a": {"b": {"x": [1]}, "c": [2]}}, {"a": [{"b": [{"x": 0}, {"x": 1}], "c": 2}]}, True),
        ({"a": {"b": [1], "c": [2]}}, {"a": [[{"b": 1}], [{"c": 2}]]}, False),
        ({"a": {"b": [1], "c": [2]}}, {"a": [[{"b": 1, "c": 2}]]}, True),
        ({"a": [1], "b": [2]}, {"a": [0, 1], "b": [2, 3]}, True),
        ({"a": [{"anything-but": 1}]}, {"a": [1, 2]}, True),
        ({"a": [{"anything-but": 1}]}, {"a": [1, 1]}, False),
        ({"a": {"b": [{"exists": False}]}}, {"a": [{"c": 1}, {"b": 1}]}, False),
        ({"a": {"b": [{"exists": False}]}}, {"a": [{"c": 1}, {"c": 1}]}, True),
        ({"a": {"b": [{"exists": False}], "c": [1]}}, {"a": [{"c": 1}, {"b": 1}]}, True),
    ],
    ids=[
        "conditions in different elements",
        "conditions in one element",
        "conditions in different elements, one of them deeper",
        "conditions in one element, one of them deeper",
        "conditions in different lists of a list",
        "conditions in one list of a list",
        "lists that have nothing to do with each other",
        "one element is something else",
        "no element is something else",
        "absent from one element alone",
        "absent from every element",
        "absent from the element that another condition picks",
    ],
)  # fmt: skip
def test_lists_of_the_event(pattern: dict[str, Any], event: dict[str, Any], expected: bool):
    assert fast(pattern, event) == reference(pattern, event) == expected
