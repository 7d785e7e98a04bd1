import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from poller.model.errors import PollerError
from poller.service.status import duration, fetch, show_status, table
from tests.servers.one_answer import one_answer

SHARD = {
    "id": "shardId-000000000000",
    "state": "owned",
    "owner": "this replica",
    "checkpoint": "49653",
    "iterator_age_seconds": 75.0,
    "behind_latest_seconds": 2.0,
    "retry": None,
    "records_held": 5,
    "records_in_flight": 3,
    "invocations_in_flight": 1,
}


def mapping(*shards: dict[str, Any], **told: Any) -> dict[str, Any]:
    return {
        "name": "orders",
        "UUID": "u",
        "State": "Enabled",
        "StateTransitionReason": "User action",
        "LastProcessingResult": "OK",
        "enabled": True,
        "configuration": {},
        "shards": list(shards),
        "problems": [],
    } | told


def printed(*document: dict[str, Any]) -> list[list[str]]:
    """The lines of the table, each split where two spaces or more are."""
    stream = StringIO()
    Console(file=stream, width=200).print(table(document))
    return [[part.strip() for part in line.split("  ") if part.strip()] for line in stream.getvalue().splitlines()]


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    with one_answer(body, status=status) as (url, asked):
        yield url
    assert set(asked) <= {"/api/mappings"}


def test_shards_stand_under_their_mapping_with_age_and_what_is_held():
    assert printed(mapping(SHARD, SHARD | {"id": "b", "iterator_age_seconds": 3.0})) == [
        ["mapping / shard", "state", "owner", "position or last result", "age", "held", "in flight", "retry"],
        ["orders", "Enabled", "OK", "1 min 15 s", "10", "6"],
        ["shardId-000000000000", "owned", "this replica", "49653", "1 min 15 s", "5", "3"],
        ["b", "owned", "this replica", "49653", "3.0 s", "5", "3"],
    ]


def test_retry_shows_the_tries_and_the_reason():
    retry = {"attempt": 3, "outcome": "function_error", "reason": "ValueError: Boom", "next_try": None}
    assert printed(mapping(SHARD | {"retry": retry}))[2][-1] == "try 3 failed: ValueError: Boom"


def test_a_blocked_shard_names_the_records_that_block_it():
    told = {"attempt": 3, "reason": "ValueError: Boom", "next_try": None, "first_record": "50", "last_record": "59"}
    assert printed(mapping(SHARD | {"retry": told | {"records": 10}}))[2][-1] == (
        "try 3 failed with 50 to 59 (10 records): ValueError: Boom"
    )
    assert printed(mapping(SHARD | {"retry": told | {"records": 1}}))[2][-1] == "try 3 failed with 50: ValueError: Boom"


def test_a_shard_of_another_replica_names_it():
    theirs = SHARD | {"state": "elsewhere", "owner": "poller-7", "iterator_age_seconds": None}
    assert printed(mapping(theirs))[2][1:3] == ["elsewhere", "poller-7"]


@pytest.mark.parametrize(("pause", "text"), [(True, "paused"), ({"by": "ada", "since": "x"}, "paused by ada")])
def test_what_is_paused_says_so_and_by_whom(pause: object, text: str):
    rows = printed(mapping(SHARD | {"paused": pause}, paused=pause))
    assert (rows[1][1], rows[2][1]) == (f"Enabled, {text}", f"owned, {text}")


def test_an_unread_shard_has_no_age():
    assert printed(mapping(SHARD | {"iterator_age_seconds": None}))[1:] == [
        ["orders", "Enabled", "OK", "5", "3"],
        ["shardId-000000000000", "owned", "this replica", "49653", "5", "3"],
    ]


def test_ended_shards_are_left_out():
    assert len(printed(mapping(SHARD | {"state": "ended"}))) == 2


def test_brackets_and_control_characters_are_shown_as_they_are():
    rows = printed(mapping(name="[red]x[/red]\x1b[2J"))
    assert rows[1][0] == "[red]x[/red]\\x1b[2J"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (59.94, "59.9 s"),
        (60.0, "1 min 0 s"),
        (3599.0, "59 min 59 s"),
        (3600.0, "1 h 0 min"),
        (90000.0, "1 d 1 h"),
    ],
)
def test_durations_read_in_two_units(seconds: float, text: str):
    assert duration(seconds) == text


def test_status_prints_the_table(capsys: pytest.CaptureFixture[str]):
    with answering(200, json.dumps([mapping(SHARD)]).encode()) as url:
        assert show_status(url, as_json=False) == 0
    out, err = capsys.readouterr()
    assert "shardId-000000000000" in out
    assert err == ""


def test_status_prints_the_answer_as_it_came(capsys: pytest.CaptureFixture[str]):
    body = json.dumps([mapping(SHARD)], indent=3)
    with answering(200, body.encode()) as url:
        assert show_status(f"{url}/", as_json=True) == 0
    assert capsys.readouterr() == (body + "\n", "")


def test_status_says_when_there_are_no_mappings(capsys: pytest.CaptureFixture[str]):
    with answering(200, b"[]") as url:
        assert show_status(url, as_json=False) == 0
    assert capsys.readouterr() == ("no mappings are configured\n", "")


def test_address_needs_no_scheme():
    with answering(200, b"[]") as url:
        assert fetch(url.removeprefix("http://")) == []


def test_proxy_of_the_environment_is_not_asked():
    command = (
        "import sys; from poller.service.status import show_status; sys.exit(show_status(sys.argv[1], as_json=True))"
    )
    environment = os.environ | {"http_proxy": "http://127.0.0.1:1", "no_proxy": ""}
    with answering(200, b"[]") as url:
        done = subprocess.run(
            [sys.executable, "-c", command, url], env=environment, capture_output=True, text=True, check=False
        )
    assert (done.stdout, done.stderr, done.returncode) == ("[]\n", "", 0)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1", "cannot reach a poller at http://127.0.0.1:1: [Errno 111] Connection refused"),
        ("ftp://127.0.0.1", "ftp://127.0.0.1 is not an address; it looks like http://127.0.0.1:9464"),
        ("http://[::1", "http://[::1 is not an address; it looks like http://127.0.0.1:9464"),
        ("http://127.0.0.1:port", "cannot reach a poller at http://127.0.0.1:port: "),
        ("http://no-such-host.invalid", "cannot reach a poller at http://no-such-host.invalid: "),
        ("http://a b", "cannot reach a poller at http://a b: "),
    ],
)
def test_unreachable_daemon_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str], url: str, said: str):
    assert show_status(url, as_json=False) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"poller status: {said}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, b"no", "answers 404; is it a poller's server.host and server.port?"),
        (200, b"<html>", "does not answer as a poller does"),
        (200, b'{"a": 1}', "does not answer as a poller does"),
        (200, b'[{"a": 1}]', "does not answer as a poller does"),
        (200, b"[3]", "does not answer as a poller does"),
    ],
)
def test_another_server_is_told_from_a_poller(status: int, body: bytes, said: str):
    with answering(status, body) as url, pytest.raises(PollerError) as raised:
        fetch(url)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
