"""What is wrong with a pattern, where inside it, and what would be right."""

import json
from typing import Any

import pytest

from poller.mapping.filtering import PatternError, compile_pattern

INNER = "prefix, suffix, equals-ignore-case, wildcard"

# A pattern, the place of the mistake inside it, a part of what is said.
WRONG: list[tuple[Any, tuple[str | int, ...], str]] = [
    ("", (), "is not JSON, allowed: an object or the JSON text of one"),
    ("{", (), "is not JSON"),
    ("{'a':[1]}", (), "is not JSON"),
    ('{"a":[1]} x', (), "is not JSON"),
    ('{"a":[NaN]}', (), "is not JSON"),
    ('{"a":[Infinity]}', (), "is not JSON"),
    ('{"a":["\\ud800"]}', (), "half a character"),
    ('{"\\ud800":[1]}', (), "half a character"),
    ("[" * 2000, (), "is not JSON"),
    ("[" * 300 + "]" * 300, (), "nested too deeply"),
    ("null", (), "null is not a pattern"),
    ("[1]", (), "[1] is not a pattern"),
    ('"a"', (), '"a" is not a pattern'),
    ("5", (), "5 is not a pattern"),
    ({}, (), "the pattern is an empty object, allowed: keys with lists of alternatives"),
    ({"a": {}}, ("a",), "is an empty object"),
    ({"a": {"b": {}}}, ("a", "b"), "is an empty object"),
    ({"a": []}, ("a",), "is an empty list, allowed: a list of alternatives, not empty"),
    ({"a": "x"}, ("a",), 'is "x", allowed: a list of alternatives, or an object of keys'),
    ({"a": 1}, ("a",), "is 1, allowed: a list"),
    ({"a": None}, ("a",), "is null, allowed: a list"),
    ({"a": {"b": True}}, ("a", "b"), "is true, allowed: a list"),
    ({"a": [[1]]}, ("a", 0), "is [1], allowed: text, a number, true, false, null or an object with an operator"),
    ({"a": ["x", []]}, ("a", 1), "is [], allowed: text"),
    ('{"a":[1e400]}', ("a", 0), "is too large a number"),
    ({"a": [{}]}, ("a", 0), "has 0 keys, allowed: one operator in each object"),
    ({"a": [{"prefix": "a", "suffix": "b"}]}, ("a", 0), "has 2 keys"),
    ({"a": [{"regex": "x"}]}, ("a", 0, "regex"), "is not an operator, allowed: one of exists, prefix"),
    ({"a": [1, {"Prefix": "x"}]}, ("a", 1, "Prefix"), "is not an operator"),
    ({"a": [{"b": [1]}]}, ("a", 0, "b"), "is not an operator"),
    ({"a": [{"exists": "true"}]}, ("a", 0, "exists"), 'is "true", allowed: true or false'),
    ({"a": [{"exists": 1}]}, ("a", 0, "exists"), "is 1, allowed: true or false"),
    ({"a": [{"exists": None}]}, ("a", 0, "exists"), "is null, allowed: true or false"),
    ({"a": [{"prefix": 1}]}, ("a", 0, "prefix"), "is 1, allowed: text or an object with equals-ignore-case"),
    ({"a": [{"prefix": ["a"]}]}, ("a", 0, "prefix"), 'is ["a"], allowed: text'),
    ({"a": [{"prefix": {"suffix": "a"}}]}, ("a", 0, "prefix"), "allowed: text or an object with equals-ignore-case alone"),
    ({"a": [{"prefix": {}}]}, ("a", 0, "prefix"), "equals-ignore-case alone"),
    ({"a": [{"suffix": {"equals-ignore-case": 1}}]}, ("a", 0, "suffix", "equals-ignore-case"), "is 1, allowed: text"),
    ({"a": [{"suffix": None}]}, ("a", 0, "suffix"), "is null, allowed: text"),
    ({"a": [{"equals-ignore-case": ["a"]}]}, ("a", 0, "equals-ignore-case"), 'is ["a"], allowed: text'),
    ({"a": [{"equals-ignore-case": 1}]}, ("a", 0, "equals-ignore-case"), "is 1, allowed: text"),
    ({"a": [{"exactly": 1}]}, ("a", 0, "exactly"), "is 1, allowed: text"),
    ({"a": [{"wildcard": 1}]}, ("a", 0, "wildcard"), "is 1, allowed: text"),
    ({"a": [{"wildcard": "a**b"}]}, ("a", 0, "wildcard"), "has two * in a row, allowed: one *"),
    ({"a": [{"wildcard": r"a\b"}]}, ("a", 0, "wildcard"), r"has a \ before something else than * or \, allowed: \* and \\"),
    ({"a": [{"wildcard": "a\\"}]}, ("a", 0, "wildcard"), r"has a \ before something else"),
    ({"a": [{"numeric": 5}]}, ("a", 0, "numeric"), 'is 5, allowed: a list such as ["=", 5] or [">", 0, "<=", 5]'),
    ({"a": [{"numeric": []}]}, ("a", 0, "numeric"), "is [], allowed: a list such as"),
    ({"a": [{"numeric": ["="]}]}, ("a", 0, "numeric"), "allowed: a list such as"),
    ({"a": [{"numeric": [5, "="]}]}, ("a", 0, "numeric"), "allowed: a list such as"),
    ({"a": [{"numeric": [">", 0, "<"]}]}, ("a", 0, "numeric"), "allowed: a list such as"),
    ({"a": [{"numeric": [">", 0, "<", 5, "<", 6]}]}, ("a", 0, "numeric"), "allowed: a list such as"),
    ({"a": [{"numeric": ["==", 5]}]}, ("a", 0, "numeric", 0), 'is "==", allowed: =, <, <=, > or >='),
    ({"a": [{"numeric": ["=", "5"]}]}, ("a", 0, "numeric", 1), 'is "5", allowed: a number'),
    ({"a": [{"numeric": ["=", True]}]}, ("a", 0, "numeric", 1), "is true, allowed: a number"),
    ({"a": [{"numeric": [">", 0, "<", None]}]}, ("a", 0, "numeric", 3), "is null, allowed: a number"),
    ('{"a":[{"numeric":["<",1e400]}]}', ("a", 0, "numeric", 1), "is too large a number"),
    ({"a": [{"numeric": ["<", 5, ">", 0]}]}, ("a", 0, "numeric"), "allowed for two: > or >= first, then < or <="),
    ({"a": [{"numeric": ["=", 0, "<", 5]}]}, ("a", 0, "numeric"), "allowed for two"),
    ({"a": [{"numeric": [">", 0, ">", 5]}]}, ("a", 0, "numeric"), "allowed for two"),
    ({"a": [{"numeric": [">", 5, "<", 0]}]}, ("a", 0, "numeric"), "which no number satisfies"),
    ({"a": [{"numeric": [">=", 5, "<=", 5]}]}, ("a", 0, "numeric"), "which no number satisfies"),
    ({"a": [{"cidr": 5}]}, ("a", 0, "cidr"), "is 5, allowed: text"),
    ({"a": [{"cidr": "10.0.0.0"}]}, ("a", 0, "cidr"), "allowed: ADDRESS/BITS such as 10.0.0.0/8 or 2001:db8::/32"),
    ({"a": [{"cidr": "10.0.0.0/33"}]}, ("a", 0, "cidr"), "allowed: ADDRESS/BITS"),
    ({"a": [{"cidr": "::/129"}]}, ("a", 0, "cidr"), "allowed: ADDRESS/BITS"),
    ({"a": [{"cidr": "10.0.0.0/255.0.0.0"}]}, ("a", 0, "cidr"), "allowed: ADDRESS/BITS"),
    ({"a": [{"cidr": "10.0.0.0/-1"}]}, ("a", 0, "cidr"), "allowed: ADDRESS/BITS"),
    ({"a": [{"cidr": "10.0.0/8"}]}, ("a", 0, "cidr"), "allowed: ADDRESS/BITS"),
    ({"a": [{"cidr": "host/8"}]}, ("a", 0, "cidr"), "allowed: ADDRESS/BITS"),
    ({"a": [{"cidr": "fe80::1%eth0/64"}]}, ("a", 0, "cidr"), "allowed: ADDRESS/BITS"),
    ({"a": [{"cidr": "10.0.0.0/٨"}]}, ("a", 0, "cidr"), "allowed: ADDRESS/BITS"),
    ({"a": [{"anything-but": None}]}, ("a", 0, "anything-but"), "is null, allowed: text, a number, a list of texts"),
    ({"a": [{"anything-but": True}]}, ("a", 0, "anything-but"), "is true, allowed"),
    ({"a": [{"anything-but": []}]}, ("a", 0, "anything-but"), "is [], allowed"),
    ({"a": [{"anything-but": ["a", 1]}]}, ("a", 0, "anything-but"), 'is ["a",1], allowed: text, a number, a list of texts'),
    ({"a": [{"anything-but": [1, True]}]}, ("a", 0, "anything-but"), "is [1,true], allowed"),
    ({"a": [{"anything-but": [None]}]}, ("a", 0, "anything-but"), "is [null], allowed"),
    ({"a": [{"anything-but": {}}]}, ("a", 0, "anything-but"), f"is {{}}, allowed inside: one of {INNER}"),
    ({"a": [{"anything-but": {"exists": True}}]}, ("a", 0, "anything-but"), "allowed inside"),
    ({"a": [{"anything-but": {"numeric": ["=", 1]}}]}, ("a", 0, "anything-but"), "allowed inside"),
    ({"a": [{"anything-but": {"prefix": "a", "suffix": "b"}}]}, ("a", 0, "anything-but"), "allowed inside"),
    ({"a": [{"anything-but": {"prefix": 1}}]}, ("a", 0, "anything-but", "prefix"), "is 1, allowed: text or a list of texts"),
    ({"a": [{"anything-but": {"prefix": []}}]}, ("a", 0, "anything-but", "prefix"), "is [], allowed: text or a list of texts"),
    ({"a": [{"anything-but": {"prefix": ""}}]}, ("a", 0, "anything-but", "prefix"), 'holds "", with which every text begins'),
    ({"a": [{"anything-but": {"suffix": ["a", ""]}}]}, ("a", 0, "anything-but", "suffix"), 'holds ""'),
    ({"a": [{"anything-but": {"suffix": {"equals-ignore-case": "a"}}}]}, ("a", 0, "anything-but", "suffix"), "allowed: text or a list"),
    ({"a": [{"anything-but": {"equals-ignore-case": [1]}}]}, ("a", 0, "anything-but", "equals-ignore-case"), "is [1], allowed"),
    ({"a": [{"anything-but": {"wildcard": ["a**"]}}]}, ("a", 0, "anything-but", "wildcard"), "has two * in a row"),
    ({"$or": []}, ("$or",), "is an empty list"),
    ({"$or": 5}, ("$or",), "is 5, allowed"),
    ({"$or": [{"a": [1]}]}, ("$or", 0, "a"), "$or needs two objects or more, none with an operator's name as a key"),
    ({"$or": [{"a": [1]}, 5]}, ("$or", 0, "a"), "$or needs two objects or more"),
    ({"$or": [{"a": [1]}, {"prefix": ["x"]}]}, ("$or", 0, "a"), "$or needs two objects or more"),
    ({"$or": [{"a": [1]}, {}]}, ("$or", 1), "is an empty object"),
    ({"$or": [{"a": [1]}, {"b": 2}]}, ("$or", 1, "b"), "is 2, allowed"),
    ({"a": [1], "$or": [{"a": [2]}, {"b": [3]}]}, ("a",), "has conditions at several places of which all must hold"),
    ({"x": {"a": [1]}, "$or": [{"x": {"a": [2]}}, {"b": [3]}]}, ("x", "a"), "has conditions at several places"),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "path", "said"), WRONG, ids=[json.dumps(case[0])[:60] for case in WRONG])
def test_mistake(pattern: Any, path: tuple[str | int, ...], said: str):
    with pytest.raises(PatternError) as caught:
        compile_pattern(pattern if isinstance(pattern, str) else json.dumps(pattern))
    assert caught.value.path == path
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_object_is_taken_like_its_text():
    assert [field.key for field in compile_pattern({"a": ["b"]}).named()] == ["a"]
    with pytest.raises(PatternError, match="is an empty list"):
        compile_pattern({"a": []})


def test_a_pattern_of_4096_characters_is_the_longest():
    text = '{"a":["' + "x" * (4096 - 10) + '"]}'
    assert len(text) == 4096
    compile_pattern(text)
    with pytest.raises(PatternError, match="is 4097 characters long, allowed: at most 4096"):
        compile_pattern(" " + text)


def test_64_keys_may_lie_within_one_another_and_no_more():
    def nested(depth: int) -> str:
        return '{"a":' * depth + "[1]" + "}" * depth

    compile_pattern(nested(64))
    with pytest.raises(PatternError, match="nested too deeply"):
        compile_pattern(nested(67))


def test_choices_on_the_same_keys_have_a_limit():
    def choice(letter: str, size: int = 11) -> dict[str, Any]:
        return {"$or": [{"x": {f"{letter}{i}": [1]}} for i in range(size)]}

    inner = {"k": choice("a"), "$or": [{"k": choice("b")}, {"z": [1]}]}
    compile_pattern(inner)
    with pytest.raises(PatternError, match="has 1331 combinations of \\$or, allowed: at most 1000") as caught:
        compile_pattern({"k": choice("c"), "$or": [inner, {"z": [1]}]})
    assert caught.value.path == ("k",)
