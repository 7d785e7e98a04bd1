"""What a pause, resume or seek says when it does not reach a poller: one line, and exit 1."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from poller.service.ordering import order


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


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
    with answering(body) as url:
        assert refused(url, capsys) == f"poller pause: {url} does not answer as a poller does"
