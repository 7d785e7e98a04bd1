"""What a pause, resume or seek says when it does not reach a poller: one line, and exit 1."""

from __future__ import annotations

import pytest

from poller.service.ordering import order
from tests.servers.one_answer import one_answer


def refused(url: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert order(url, "token", "m", "pause", {"shard": ""}) == 1
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "http://[", "http://[::1"])
def test_what_is_no_address_is_told(capsys: pytest.CaptureFixture[str], url: str):
    assert refused(url, capsys) == f"poller pause: {url} is not an address; it looks like http://127.0.0.1:9464"


def test_a_daemon_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]):
    assert "cannot reach a poller at http://127.0.0.1:1: " in refused("http://127.0.0.1:1", capsys)


@pytest.mark.parametrize("body", [b"[]", b"{}", b'"ok"', b"null", b'{"mapping": "m", "paused": null}'])
def test_another_server_is_told_from_a_poller(capsys: pytest.CaptureFixture[str], body: bytes):
    with one_answer(body, method="POST") as (url, _):
        assert refused(url, capsys) == f"poller pause: {url} does not answer as a poller does"
