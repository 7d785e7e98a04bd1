"""The names of writes: one's own is known after its answer was lost, and nothing else is."""

from contextlib import nullcontext

import pytest

from poller.model.errors import Superseded, Transient
from poller.stores.writing import Writes


def _sent(writes: Writes, value: bytes | None = b"x", expected: int = 1, error: BaseException | None = None) -> str:
    """The name under which a write was sent, with "again" where it is known to have been sent before."""
    with (
        nullcontext() if error is None else pytest.raises(type(error)),
        writes.sending("m/row", value, expected) as write,
    ):
        name = write.name + (" again" if write.repeated else "")
        if error is not None:
            raise error
    return name


def test_each_write_has_a_name_of_its_own():
    writes = Writes("me")
    assert [_sent(writes), _sent(writes), _sent(writes, None)] == ["me-1", "me-2", "me-3"]


@pytest.mark.parametrize("error", [Transient(), KeyboardInterrupt()], ids=["lost", "cancelled"])
def test_a_write_whose_outcome_is_unknown_keeps_its_name_until_it_is_known(error: BaseException):
    writes = Writes("me")
    assert [_sent(writes, error=error), _sent(writes, error=error)] == ["me-1", "me-1 again"]
    assert [_sent(writes), _sent(writes)] == ["me-1 again", "me-2"]


def test_a_write_that_was_refused_is_over():
    writes = Writes("me")
    assert [_sent(writes, error=Superseded()), _sent(writes)] == ["me-1", "me-2"]


@pytest.mark.parametrize(("value", "expected"), [(b"y", 1), (b"x", 2), (None, 1)])
def test_another_write_than_the_one_that_was_lost_has_another_name(value: bytes | None, expected: int):
    writes = Writes("me")
    assert [_sent(writes, error=Transient()), _sent(writes, value, expected)] == ["me-1", "me-2"]


def test_two_equal_writes_at_once_are_two():
    writes = Writes("me")
    with writes.sending("m/row", b"x", 1) as one, writes.sending("m/row", b"x", 1) as other:
        assert (one.name, other.name) == ("me-1", "me-2")
