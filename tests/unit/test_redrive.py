"""Whose documents a redrive takes."""

import pytest

from poller.service.redrive import is_function

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:"


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ("orders", "orders"),
        ("orders:live", "orders:live"),
        (f"{ARN}orders", "orders"),
        (f"{ARN}orders:$LATEST", "orders"),
        (f"{ARN}orders:live", "orders:live"),
        (f"{ARN}orders:live", "123456789012:function:orders:live"),
        (f"{ARN}orders", f"{ARN}orders"),
        ("not a function's name", "not a function's name"),
    ],
)
def test_a_document_of_the_mapping_s_own_function_is_taken(told: str, named: str):
    assert is_function(told, named)


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ("orders-audit", "orders"),
        (f"{ARN}orders-audit", "orders"),
        (f"{ARN}orders:live", "orders"),
        (f"{ARN}orders:lively", "orders:live"),
        (f"{ARN}orders", "orders:live"),
        (f"{ARN}orders", "arn:aws:lambda:eu-west-2:123456789012:function:orders"),
        (f"{ARN}orders", "000000000000:function:orders"),
        ("orders", f"{ARN}orders"),
        ("not a function's name", "orders"),
    ],
)
def test_a_document_of_another_function_is_left(told: str, named: str):
    assert not is_function(told, named)


def test_a_function_that_has_no_versions_takes_what_one_with_versions_gave_up():
    assert is_function(f"{ARN}orders:live", "orders", any_version=True)
    assert not is_function(f"{ARN}orders-audit:live", "orders", any_version=True)
