"""A runtime of our own, in the standard library alone: what a `bootstrap` does, told how by its first argument."""

import http.client
import os
import sys
import time

PATH = "/2018-06-01/runtime"


def call(
    method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request(method, PATH + path, body, headers or {})
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def take() -> tuple[str, bytes]:
    status, headers, event = call("GET", "/invocation/next")
    assert status == 200, (status, event)
    return headers["Lambda-Runtime-Aws-Request-Id"], event


def respond(request_id: str, body: bytes, headers: dict[str, str] | None = None) -> int:
    return call("POST", f"/invocation/{request_id}/response", body, headers)[0]


def echo() -> None:
    while True:
        request_id, event = take()
        assert respond(request_id, event) == 202


def refusals() -> None:
    """Answer with the statuses that a client which does everything wrong gets."""
    request_id, _ = take()
    seen = [
        respond("somebody-else", b"{}"),
        call("GET", "/invocation/next")[0],
        call("POST", "/init/error", b"{}")[0],
        call("GET", "/nothing/here")[0],
    ]
    assert respond(request_id, repr(seen).encode()) == 202
    assert respond(request_id, b"again") == 400
    echo()


def streaming() -> None:
    request_id, _ = take()
    respond(request_id, b"{}", {"Lambda-Runtime-Function-Response-Mode": "streaming"})
    echo()


def impatient() -> None:
    """Serve one event, hang up on the next request for one, then ask again."""
    request_id, event = take()
    respond(request_id, event)
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request("GET", PATH + "/invocation/next")
    time.sleep(0.1)
    connection.close()
    print("hung up")  # noqa: T201  the test waits for it
    time.sleep(0.3)
    echo()


def slow_start() -> None:
    time.sleep(1)
    echo()


def bare_error() -> None:
    """Fail without an account but the header."""
    request_id, _ = take()
    headers = {"Lambda-Runtime-Function-Error-Type": "Function.Strange"}
    assert call("POST", f"/invocation/{request_id}/error", b"", headers)[0] == 202
    echo()


def mute() -> None:
    time.sleep(600)


if __name__ == "__main__":
    {f.__name__: f for f in (echo, refusals, streaming, impatient, bare_error, slow_start, mute)}[sys.argv[1]]()
