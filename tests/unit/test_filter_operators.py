"""Every operator, as a table: which values it matches and which not. The second matcher is held against it too."""

import json
from typing import Any

import pytest

from poller.mapping.filtering import Filters
from tests.unit.filter_rules import satisfies

MISSING = object()
OBJECT: dict[str, Any] = {"inner": 1}
ALL = ["", "a", "A", 0, 1, -1.5, True, False, None]

# An alternative, the values that match, the values that do not.
EXACT: list[tuple[Any, list[Any], list[Any]]] = [
    ("abc", ["abc"], ["ABC", "abcd", "ab", "", " abc", "abc ", None, 0, True]),
    ("", [""], [" ", "a", None, 0, False]),
    ("1", ["1"], [1, 1.0, "1.0", True]),
    ("true", ["true"], [True, "True"]),
    ("null", ["null"], [None]),
    ("é", ["é"], ["e\u0301", "É"]),
    ("😀", ["😀"], ["😁", "\ud83d"]),
    ("a\nb", ["a\nb"], ["a\\nb", "ab"]),
    ('a"b', ['a"b'], ["ab"]),
    ("*", ["*"], ["a"]),
    (12, [12, 12.0, 1.2e1], ["12", 12.5, 13, -12, None, True]),
    (300, [300, 300.0, 3.0e2], [301, "300", "3.0e2"]),
    (3.0e2, [300, 300.0], [30]),
    (0, [0, 0.0, -0.0], [False, "", None, "0"]),
    (1, [1, 1.0], [True, "1"]),
    (-5, [-5, -5.0], [5]),
    (0.1, [0.1, 1e-1], [0.10001, 0]),
    (9007199254740993, [9007199254740993], [9007199254740992, 9007199254740994]),
    (123456789012345678901234567890, [123456789012345678901234567890], [123456789012345678901234567891]),
    (1e300, [1e300], [1e299]),
    (True, [True], [False, 1, 1.0, "true", None]),
    (False, [False], [True, 0, "", None]),
    (None, [None], [False, 0, "", "null"]),
]
EXISTS: list[tuple[Any, list[Any], list[Any]]] = [
    ({"exists": True}, ALL, [MISSING, OBJECT, [], [[]], [OBJECT]]),
    ({"exists": False}, [MISSING, OBJECT, [], [[]], [OBJECT]], [*ALL, [1], [[None]], [OBJECT, 1]]),
]
PREFIX: list[tuple[Any, list[Any], list[Any]]] = [
    ({"prefix": "ab"}, ["ab", "abc"], ["a", "AB", "xab", "", 1, None, True]),
    ({"prefix": ""}, ["", "a"], [0, None, False]),
    ({"prefix": "1"}, ["1", "12"], [1, 12]),
    ({"prefix": "é"}, ["éa"], ["e\u0301a"]),
    ({"prefix": {"equals-ignore-case": "aB"}}, ["ab", "AB", "aBc", "Abx"], ["a", "xab", "", 1, None]),
    ({"prefix": {"equals-ignore-case": ""}}, ["", "a"], [0, None]),
    ({"prefix": {"equals-ignore-case": "É"}}, ["éa", "Éa"], ["ea"]),
    ({"prefix": {"equals-ignore-case": "straß"}}, ["STRAße", "straß"], ["STRASS"]),
    ({"suffix": "ab"}, ["ab", "cab"], ["b", "AB", "abx", "", 1, None, True]),
    ({"suffix": ""}, ["", "a"], [0, None, False]),
    ({"suffix": ".png"}, ["a.png", ".png"], ["a.PNG", "png", "a.png "]),
    ({"suffix": {"equals-ignore-case": "aB"}}, ["ab", "AB", "caB", "xAb"], ["b", "abx", "", 1, None]),
    ({"suffix": {"equals-ignore-case": ""}}, ["", "a"], [0, None]),
    ({"suffix": {"equals-ignore-case": ".PNG"}}, ["a.png", "a.PnG"], ["png"]),
]
CASE: list[tuple[Any, list[Any], list[Any]]] = [
    ({"equals-ignore-case": "Abc"}, ["abc", "ABC", "aBc"], ["ab", "abcd", "", None, 1]),
    ({"equals-ignore-case": ""}, [""], [" ", None, 0]),
    ({"equals-ignore-case": "É"}, ["é", "É"], ["e", "E"]),
    ({"equals-ignore-case": "1"}, ["1"], [1]),
    ({"equals-ignore-case": "k"}, ["k", "K", "\u212a"], ["x"]),
    ({"equals-ignore-case": "ß"}, ["ß"], ["ss", "SS"]),
    ({"equals-ignore-case": "true"}, ["TRUE"], [True]),
    ({"exactly": "abc"}, ["abc"], ["ABC", "ab", 1, None]),
]
WILDCARD: list[tuple[Any, list[Any], list[Any]]] = [
    ({"wildcard": "abc"}, ["abc"], ["abcd", "ab", "ABC", None]),
    ({"wildcard": "*"}, ["", "a", "a\nb", "😀"], [0, None, True]),
    ({"wildcard": ""}, [""], ["a", None]),
    ({"wildcard": "a*"}, ["a", "ab", "a*"], ["", "ba", "A"]),
    ({"wildcard": "*a"}, ["a", "ba"], ["", "ab"]),
    ({"wildcard": "a*b"}, ["ab", "aab", "a*b", "axxb"], ["a", "b", "abx", "xab", "ba"]),
    ({"wildcard": "a*a"}, ["aa", "aba", "aaa"], ["a", "ab"]),
    ({"wildcard": "*a*"}, ["a", "xax"], ["", "x"]),
    ({"wildcard": "a*b*c"}, ["abc", "axbxc", "abbc", "abcbc"], ["acb", "ab", "abcx"]),
    ({"wildcard": "*ab*ab*"}, ["abab", "xabxabx"], ["ab", "aab", "aba"]),
    ({"wildcard": "ab*ba"}, ["abba", "abxba"], ["aba"]),
    ({"wildcard": r"a\*b"}, ["a*b"], ["axb", r"a\*b", "ab"]),
    ({"wildcard": r"a\\b"}, [r"a\b"], [r"a\\b", "ab"]),
    ({"wildcard": r"\**"}, ["*", "*a"], ["", "a"]),
    ({"wildcard": r"*\*"}, ["*", "a*"], ["a", ""]),
    ({"wildcard": r"*\**"}, ["*", "a*b"], ["ab"]),
    ({"wildcard": r"\\*"}, ["\\", "\\a"], ["a", ""]),
    ({"wildcard": "é*"}, ["é", "éa"], ["e"]),
    ({"wildcard": "a.c"}, ["a.c"], ["abc"]),
    ({"wildcard": "[a]*"}, ["[a]x"], ["ax"]),
]
BUT: list[tuple[Any, list[Any], list[Any]]] = [
    ({"anything-but": "a"}, ["b", "A", "", 1, None, True, ["a", "b"]], ["a", MISSING, OBJECT, [], ["a"]]),
    ({"anything-but": ""}, ["a", 0, None], ["", MISSING]),
    ({"anything-but": ["a", "b"]}, ["c", "", 1, None, False], ["a", "b", MISSING, ["a", "b"]]),
    ({"anything-but": 1}, [2, 1.5, "1", "a", None, True], [1, 1.0, MISSING]),
    ({"anything-but": [1, 2.5]}, [2, "1", None], [1, 1.0, 2.5, MISSING]),
    ({"anything-but": 0}, [False, "", None, 1], [0, 0.0, -0.0]),
    ({"anything-but": {"prefix": "ab"}}, ["a", "xab", "AB", "", 1, None, True], ["ab", "abc", MISSING, OBJECT]),
    ({"anything-but": {"prefix": ["a", "b"]}}, ["c", "", 1], ["a", "bx", MISSING]),
    ({"anything-but": {"suffix": "ab"}}, ["b", "abx", "AB", "", 1, None], ["ab", "cab", MISSING]),
    ({"anything-but": {"suffix": ["a", "b"]}}, ["c", "", 1], ["a", "xb", MISSING]),
    ({"anything-but": {"equals-ignore-case": "Ab"}}, ["a", "abc", "", 1, None], ["ab", "AB", "aB", MISSING]),
    ({"anything-but": {"equals-ignore-case": ["a", "B"]}}, ["c", "", 1], ["A", "b", MISSING]),
    ({"anything-but": {"equals-ignore-case": ""}}, ["a", 1], ["", MISSING]),
    ({"anything-but": {"wildcard": "a*b"}}, ["a", "abx", "", 1, None], ["ab", "axb", MISSING]),
    ({"anything-but": {"wildcard": ["a*", "*b"]}}, ["c", "ba", 1], ["a", "xb", "ab", MISSING]),
    ({"anything-but": {"wildcard": "*"}}, [1, None, True], ["", "a", MISSING]),
]
NUMERIC: list[tuple[Any, list[Any], list[Any]]] = [
    ({"numeric": ["=", 5]}, [5, 5.0], ["5", 4, None, True, MISSING]),
    ({"numeric": ["=", 1]}, [1], [True, "1"]),
    ({"numeric": ["=", 3.018e2]}, [301.8, 3.018e2], [301.80001]),
    ({"numeric": ["<", 5]}, [4, 4.999, -1e300], [5, 5.0, 6, "4", None, False]),
    ({"numeric": ["<=", 5]}, [5, 5.0, 4], [5.001, "5"]),
    ({"numeric": [">", 5]}, [5.001, 6, 1e300], [5, 4, "6", True]),
    ({"numeric": [">=", 5]}, [5, 6], [4.999]),
    ({"numeric": [">", 0, "<=", 5]}, [0.1, 1, 5], [0, 5.1, -1, "1", None, True]),
    ({"numeric": [">", 0, "<", 5]}, [1, 4.9], [0, 5]),
    ({"numeric": [">=", 0, "<=", 5]}, [0, -0.0, 5], [-0.1, 5.1, False]),
    ({"numeric": [">=", 0, "<", 5]}, [0, 4], [5]),
    ({"numeric": [">", -1.5, "<", -0.5]}, [-1], [-1.5, -0.5, 1]),
    ({"numeric": [">", 9007199254740992]}, [9007199254740993, 1e17], [9007199254740992]),
]
CIDR: list[tuple[Any, list[Any], list[Any]]] = [
    ({"cidr": "10.0.0.0/8"}, ["10.0.0.0", "10.1.2.3", "10.255.255.255"], ["11.0.0.0", "9.255.255.255", "10", "::1", 10, None, ""]),
    ({"cidr": "10.0.0.7/8"}, ["10.9.9.9"], ["11.0.0.7"]),
    ({"cidr": "10.0.0.1/32"}, ["10.0.0.1"], ["10.0.0.2", "10.0.0.1/32"]),
    ({"cidr": "0.0.0.0/0"}, ["0.0.0.0", "255.255.255.255"], ["::", "256.0.0.1", "a.b.c.d", "1.2.3"]),
    ({"cidr": "192.168.1.0/25"}, ["192.168.1.127"], ["192.168.1.128"]),
    ({"cidr": "2001:db8::/32"}, ["2001:db8::1", "2001:0DB8:0:0::ffff"], ["2001:db9::", "10.0.0.1", "2001:db8::1%eth0", "x" * 1000]),
    ({"cidr": "::1/128"}, ["::1", "0:0:0:0:0:0:0:1"], ["::2", "127.0.0.1"]),
    ({"cidr": "::/0"}, ["::", "ff::"], ["1.2.3.4", ":::"]),
]  # fmt: skip
OPERATORS = {
    "exact": EXACT,
    "exists": EXISTS,
    "prefix and suffix": PREFIX,
    "equals-ignore-case": CASE,
    "wildcard": WILDCARD,
    "anything-but": BUT,
    "numeric": NUMERIC,
    "cidr": CIDR,
}


def _cases() -> list[Any]:
    return [
        pytest.param(alternative, value, expected, id=f"{name} {json.dumps(alternative)} {_spelled(value)} {expected}")
        for name, table in OPERATORS.items()
        for alternative, right, wrong in table
        for values, expected in ((right, True), (wrong, False))
        for value in values
    ]


def _spelled(value: Any) -> str:
    return "missing" if value is MISSING else json.dumps(value)[:40]


def _match(pattern: Any, event: Any) -> bool:
    return Filters("document", (json.dumps(pattern),)).match(json.dumps(event).encode())


@pytest.mark.parametrize(("alternative", "value", "expected"), _cases())
def test_operator(alternative: Any, value: Any, expected: bool):
    event = {} if value is MISSING else {"a": value}
    assert _match({"a": [alternative]}, event) == expected
    assert _match({"x": {"y": {"a": ["no such value", alternative]}}}, {"x": [{"y": [[event]]}]}) == expected
    if value is not MISSING and not isinstance(value, list | dict):
        assert satisfies(alternative, value) == expected


def test_the_table_has_several_hundred_cases():
    assert len(_cases()) > 350


# What it is called, the pattern, the event, whether it matches.
WHOLE: list[tuple[str, Any, Any, bool]] = [
    ("fields are ANDed", {"a": [1], "b": [2]}, {"a": 1, "b": 3}, False),
    ("all fields hold", {"a": [1], "b": [2]}, {"a": 1, "b": 2, "c": 3}, True),
    ("alternatives are ORed", {"a": [1, "x", {"prefix": "y"}]}, {"a": "yes"}, True),
    ("an inner field", {"a": {"b": {"c": [1]}}}, {"a": {"b": {"c": 1}}}, True),
    ("an inner field of a scalar", {"a": {"b": [1]}}, {"a": 1}, False),
    ("an inner field of null", {"a": {"b": [1]}}, {"a": None}, False),
    ("absent from a scalar", {"a": {"b": [{"exists": False}]}}, {"a": 1}, True),
    ("absent with its parent", {"a": {"b": [{"exists": False}]}}, {}, True),
    ("absent or a value", {"a": [{"exists": False}, 1]}, {}, True),
    ("absent or a value, which it is not", {"a": [{"exists": False}, 1]}, {"a": 2}, False),
    ("a key with a dot is one key", {"a.b": [1]}, {"a": {"b": 1}}, False),
    ("a key with a dot", {"a.b": [1]}, {"a.b": 1}, True),
    ("an empty key", {"": [1]}, {"": 1}, True),
    ("a key that needs escapes", {'q"\\\n': {"é": [1]}}, {'q"\\\n': {"é": 1}}, True),
    ("a key of other letters", {"日本": [1]}, {"日本": 1}, True),
    ("$or by its first branch", {"$or": [{"a": [1]}, {"b": [2]}]}, {"a": 1}, True),
    ("$or by its second branch", {"$or": [{"a": [1]}, {"b": [2]}]}, {"b": 2}, True),
    ("$or by none", {"$or": [{"a": [1]}, {"b": [2]}]}, {"a": 2, "b": 1}, False),
    ("$or and a field beside it", {"c": [3], "$or": [{"a": [1]}, {"b": [2]}]}, {"a": 1}, False),
    ("$or within a field", {"x": {"$or": [{"a": [1]}, {"b": [2]}]}}, {"x": {"b": 2}}, True),
    ("$or within $or", {"$or": [{"$or": [{"a": [1]}, {"b": [2]}]}, {"c": [3]}]}, {"b": 2}, True),
    ("a branch of several fields", {"$or": [{"a": [1], "b": [2]}, {"c": [3]}]}, {"a": 1}, False),
    ("$or as a key, as its list holds no objects", {"$or": ["x"]}, {"$or": "x"}, True),
    ("$or as a key, as its objects are operators", {"$or": [{"prefix": "a"}, {"prefix": "b"}]}, {"$or": "bc"}, True),
    ("$or as a key with one operator", {"$or": [{"numeric": [">", 1]}]}, {"$or": 2}, True),
    ("$or as a key of an object", {"$or": {"a": [1]}}, {"$or": {"a": 1}}, True),
    ("the last of two equal keys of an event", {"a": [2]}, '{"a":1,"a":2}', True),
    ("not the first of two equal keys of an event", {"a": [1]}, '{"a":1,"a":2}', False),
    ("the last of two equal keys of a pattern", '{"a":[1],"a":[2]}', {"a": 2}, True),
    ("an escaped key of an event", {"ab": [1]}, '{"a\\u0062":1}', True),
    ("an escaped value of an event", {"a": ["😀"]}, '{"a":"\\ud83d\\ude00"}', True),
    ("half a character elsewhere", {"a": [1]}, '{"a":1,"b":"\\ud800"}', True),
    ("half a character here", {"a": [{"prefix": "x"}]}, '{"a":"x\\ud800"}', True),
    ("a number beyond doubles elsewhere", {"a": [1]}, '{"a":1,"b":1e999}', True),
    ("a number beyond doubles here", {"a": [{"numeric": [">", 5]}]}, '{"a":1e999}', True),
    ("a number of many digits", {"a": [{"numeric": [">", 5]}]}, '{"a":' + "9" * 9999 + "}", True),
    ("a space around", {"a": [1]}, ' \t\n{"a" : 1}\r\n', True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "event", "expected"), [case[1:] for case in WHOLE], ids=[case[0] for case in WHOLE]
)
def test_pattern(pattern: Any, event: Any, expected: bool):
    text = pattern if isinstance(pattern, str) else json.dumps(pattern)
    body = event if isinstance(event, str) else json.dumps(event)
    assert Filters("document", (text,)).match(body.encode()) == expected


def test_several_filters_are_ored():
    filters = Filters("document", ('{"a":[1]}', '{"b":{"c":[2]}}'))
    assert [filters.match(body) for body in (b'{"a":1}', b'{"b":{"c":2}}', b'{"a":2}')] == [True, True, False]


def test_no_filters_match_nothing_and_are_not_made():
    assert not Filters("document", ()).match(b"{}")
