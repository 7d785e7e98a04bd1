"""The ids that invocations go by."""

import uuid

from poller.service.app import new_id


def test_a_request_id_is_a_random_uuid_as_it_is_written():
    for _ in range(200):
        made = new_id()
        read = uuid.UUID(made)
        assert str(read) == made
        assert (read.version, read.variant) == (4, uuid.RFC_4122)


def test_no_request_id_comes_twice():
    assert len({new_id() for _ in range(10_000)}) == 10_000
