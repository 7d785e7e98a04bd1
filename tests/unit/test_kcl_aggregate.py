"""How many user records the library sees in a record."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.mapping.kcl.aggregate import user_records
from tests.servers.kpl import aggregate

PACKED = aggregate("key", ["one", "two", "three"])


@given(st.lists(st.text(), max_size=300))
def test_an_aggregate_has_as_many_as_were_packed(texts: list[str]):
    assert user_records(aggregate("key", texts)) == len(texts)


@given(st.binary(max_size=200))
def test_any_other_data_is_one(data: bytes):
    assert user_records(data) == 1
    assert user_records(PACKED[:4] + data) == 1


@pytest.mark.parametrize(
    "data",
    [b"", PACKED[:4], PACKED[:20], PACKED[:-1], PACKED[:-1] + b"?", PACKED[4:]],
    ids=["empty", "magic alone", "no digest", "cut", "another digest", "no magic"],
)
def test_what_only_looks_like_an_aggregate_is_one(data: bytes):
    assert user_records(data) == 1


def test_an_aggregate_whose_message_is_broken_is_one():
    message = b"\x1a\xff"  # a field that says it is longer than the message
    assert user_records(b"\xf3\x89\x9a\xc2" + message + hashlib.md5(message).digest()) == 1
