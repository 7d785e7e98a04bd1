"""The servers of the tests serve, and end with the context that started them."""

from __future__ import annotations

import sys
import urllib.request

import pytest

from tests.servers.processes import Program, kinesis_local, ministack, moto, serving

SILENT = "import sys; print('cannot bind'); sys.exit(3)"
SERVING = "import http.server, sys; http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind='127.0.0.1')"


@pytest.mark.parametrize("server", [ministack, moto, kinesis_local])
async def test_a_server_serves_where_it_says(server):
    async with server() as url:
        assert url.startswith("http://127.0.0.1:")


def test_a_server_is_gone_with_its_context():
    program = Program(name="plain", command=lambda port: [sys.executable, "-c", SERVING, str(port)])
    with serving(program) as server:
        with urllib.request.urlopen(server.url, timeout=5) as answer:
            assert answer.status == 200
        assert "GET /" in server.output()
    assert server.process.returncode is not None


def test_a_server_that_does_not_start_says_what_it_printed():
    program = Program(name="broken", command=lambda _: [sys.executable, "-c", SILENT])
    with pytest.raises(RuntimeError, match=r"(?s)broken ended with 3:.*cannot bind"), serving(program):
        pass
