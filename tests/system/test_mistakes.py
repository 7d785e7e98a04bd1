"""A mistake is one readable line that says what and where, never a traceback; what is right beside it goes on."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest

from poller.cli import checkpoints, main
from tests.servers.scripted import failure, scripted
from tests.system.cloud import Cloud
from tests.system.daemon import finished, started, write
from tests.system.functions import Functions
from tests.system.settings import queue, settings, stream

_GOOD = """\
store: memory://
server: {port: 0}
functions:
  f: {url: "http://127.0.0.1:1/"}
mappings:
  letters:
    EventSourceArn: arn:aws:sqs:eu-west-1:000000000000:letters
    FunctionName: f
"""
_REFUSED = {
    "a file that is not YAML": (_GOOD + "    BatchSize: 5: 6\n", 9, "is not YAML"),
    "a variable that the environment does not have": (
        _GOOD.replace("memory://", "${POLLER_NO_SUCH_VARIABLE}"),
        1,
        "store: the environment has no POLLER_NO_SUCH_VARIABLE",
    ),
    "an unknown key": (_GOOD + "    BatchSiz: 5\n", 9, "BatchSize"),
    "a wrong type": (_GOOD + "    BatchSize: many\n", 9, "mappings.letters.BatchSize: "),
    "a batch too large": (_GOOD + "    BatchSize: 10001\n", 9, "mappings.letters.BatchSize: 10001"),
}
_PROXY = "http://127.0.0.1:9"
"""Where none is."""
_SIGNATURE = "The request signature we calculated does not match the signature you provided."


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(("text", "line", "says"), _REFUSED.values(), ids=_REFUSED.keys())
def test_a_file_that_cannot_be_used_is_refused_with_one_line_at_its_place(
    text: str, line: int, says: str, command: str, tmp_path: Path
):
    config = tmp_path / "c.yaml"
    config.write_text(text)
    done = finished(command, str(config))
    assert done.returncode == 2
    assert not done.stdout
    (told,) = done.stderr.splitlines()
    assert told.startswith(f"{config}:{line}: "), told
    assert says in told


def test_several_mistakes_are_told_line_by_line_in_the_order_of_the_file(tmp_path: Path):
    config = tmp_path / "c.yaml"
    config.write_text(_GOOD.replace("port: 0", "port: 70000") + "    BatchSize: 10001\n    Enabled: perhaps\n")
    done = finished("check", str(config))
    assert done.returncode == 2
    places = [told.split(":")[1] for told in done.stderr.splitlines()]
    assert places == ["2", "9", "10"], done.stderr


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_file_that_is_not_there_is_refused_with_one_line(command: str, tmp_path: Path):
    done = finished(command, str(tmp_path / "nowhere.yaml"))
    assert done.returncode == 2
    (told,) = done.stderr.splitlines()
    assert "nowhere.yaml" in told


def test_whether_a_file_may_be_read_is_told_by_who_reads_it_in_one_line():
    commands = [*main.commands.values(), *checkpoints.commands.values()]
    paths = [each for command in commands for each in command.params if isinstance(each.type, click.Path)]
    assert {path.name for path in paths} >= {"config", "file"}
    assert not [path.name for path in paths if isinstance(path.type, click.Path) and path.type.readable]


def test_a_good_file_is_called_good(tmp_path: Path):
    config = tmp_path / "c.yaml"
    config.write_text(_GOOD)
    done = finished("check", str(config))
    assert (done.returncode, done.stderr) == (0, "")
    assert "good" in done.stdout


def test_a_port_that_is_taken_at_the_start_is_refused_with_one_line(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = tmp_path / "c.yaml"
        config.write_text(_GOOD.replace("port: 0", f"port: {port}"))
        done = finished("run", str(config))
    assert done.returncode == 2
    (told,) = done.stderr.splitlines()
    assert f"127.0.0.1:{port} is already in use" in told
    assert "server.port" in told


@asynccontextmanager
async def _garbage() -> AsyncIterator[str]:
    """Something that listens and does not speak HTTP."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"SSH-2.0-not HTTP at all\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


def _down() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


@pytest.mark.parametrize("kind", ["no such queue", "garbage", "down", "no such command"])
async def test_a_broken_mapping_says_so_in_one_line_and_its_healthy_neighbour_goes_on(
    kind: str, cloud: Cloud, called: Functions, tmp_path: Path
):
    name = kind.replace(" ", "-")
    healthy = queue(await cloud.queue(f"{name}-healthy"), "healthy")
    arn = await cloud.queue(name)
    function: dict[str, Any]
    async with _garbage() as garbage:
        match kind:
            case "no such queue":
                arn, function, level, says = f"{arn}-missing", {"url": called.url}, "ERROR", "GetQueueUrl"
            case "garbage":
                function, level, says = {"url": garbage}, "WARN", 'function "sick": the answer is not HTTP'
            case "down":
                down = _down()
                function, level, says = {"url": down}, "WARN", down.split("/")[2]
            case _:
                function, level, says = {"command": ["./no-such-program"]}, "ERROR", "no-such-program"
        document = settings(cloud, called, {"healthy": healthy, "sick": queue(arn, "sick")})
        document["functions"]["sick"] = function
        async with started(write(tmp_path / "c.yaml", document)) as daemon:
            await cloud.send(name, "to the sick")
            line = await daemon.line("", mapping="sick", level=level)
            assert says in line["reason"], line
            await cloud.send(f"{name}-healthy", "to the healthy")
            await called.given("healthy", "to the healthy")
            assert len(daemon.lines("", mapping="sick", level=level)) == 1, "once is enough"
            assert not daemon.lines("", mapping="healthy", level="WARN")
            assert not daemon.lines("", mapping="healthy", level="ERROR")
            assert (await daemon.get("/readyz"))[0] == 200, "it has reported why it cannot"
            await daemon.stop()


async def test_wrong_credentials_are_one_line_and_the_others_go_on(cloud: Cloud, called: Functions, tmp_path: Path):
    healthy = queue(await cloud.queue("credible"), "healthy")
    refused = {
        "EventSourceArn": "arn:aws:kinesis:eu-west-1:000000000000:stream/orders",
        "FunctionName": "sick",
        "StartingPosition": "TRIM_HORIZON",
    }
    async with scripted(lambda _: failure("InvalidSignatureException", message=_SIGNATURE)) as aws:
        document = settings(cloud, called, {"healthy": healthy, "sick": refused})
        document["aws"]["endpoints"]["kinesis"] = aws.url
        async with started(write(tmp_path / "c.yaml", document)) as daemon:
            line = await daemon.line("mapping cannot go on", mapping="sick")
            assert line["level"] == "ERROR"
            assert line["reason"].startswith("kinesis DescribeStreamSummary: InvalidSignatureException")
            assert "credentials" in line["reason"]
            await cloud.send("credible", "letter")
            await called.given("healthy", "letter")
            result = (await daemon.mapping("sick"))["LastProcessingResult"]
            assert result.startswith("PROBLEM: kinesis")
            assert (await daemon.get("/readyz"))[0] == 200
            await daemon.stop()


async def test_without_credentials_the_daemon_runs_and_says_what_it_needs(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    document = settings(cloud, called, {"m": queue(await cloud.queue("anonymous"), "f")})
    config = write(tmp_path / "c.yaml", document)
    async with started(config, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="") as daemon:
        line = await daemon.line("mapping cannot go on", mapping="m")
        assert line["reason"].startswith("no AWS credentials: set AWS_ACCESS_KEY_ID")
        await daemon.stop()


async def test_connecting_tells_each_thing_that_cannot_be_used_in_one_line(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    good = await cloud.queue("connect-good")
    down = _down()
    refused = {
        "EventSourceArn": "arn:aws:kinesis:eu-west-1:000000000000:stream/orders",
        "FunctionName": "well",
        "StartingPosition": "TRIM_HORIZON",
    }
    mappings = {
        "good": queue(good, "well"),
        "missing": queue(f"{good}-missing", "well"),
        "refused": refused,
        "nobody-home": queue(good, "down"),
        "no-command": queue(good, "command"),
    }
    async with scripted(lambda _: failure("InvalidSignatureException", message=_SIGNATURE)) as aws:
        document = settings(cloud, called, mappings)
        document["aws"]["endpoints"]["kinesis"] = aws.url
        document["functions"] |= {"down": {"url": down}, "command": {"command": ["./no-such-program"]}}
        document["functions"] |= {"spare": {"url": down}, "fine": document["functions"]["well"]}
        config = write(tmp_path / "c.yaml", document)
        done = await asyncio.to_thread(finished, "check", "--connect", str(config))
    assert done.returncode == 1
    told = dict(line.removeprefix(f"{config}: ").split(": ", 1) for line in done.stderr.splitlines())
    assert told.keys() == {
        "mappings.missing.EventSourceArn",
        "mappings.refused.EventSourceArn",
        "mappings.nobody-home.FunctionName",
        "mappings.no-command.FunctionName",
        "functions.spare",
    }, json.dumps(told, indent=1)
    assert "check the name, region and account" in told["mappings.missing.EventSourceArn"]
    assert "credentials are wrong" in told["mappings.refused.EventSourceArn"]
    assert down.removeprefix("http://").strip("/") in told["mappings.nobody-home.FunctionName"]
    assert "no-such-program" in told["mappings.no-command.FunctionName"]


async def test_connecting_to_what_is_right_is_good(cloud: Cloud, called: Functions, tmp_path: Path):
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"well": queue(await cloud.queue("well"), "well")}))
    done = await asyncio.to_thread(finished, "check", "--connect", str(config))
    assert (done.returncode, done.stderr) == (0, "")
    assert not called.deliveries, "a check invokes nothing"


async def test_a_proxy_in_the_way_of_the_fast_client_is_told_when_connecting_and_when_a_mapping_starts(
    cloud: Cloud, called: Functions, tmp_path: Path
):
    letters = await cloud.queue("proxied")
    orders = stream("arn:aws:kinesis:eu-west-1:000000000000:stream/proxied", "well")
    document = settings(cloud, called, {"letters": queue(letters, "f"), "orders": orders})
    document["functions"]["f"] = {"lambda": "f"}
    config = write(tmp_path / "c.yaml", document)
    check = partial(finished, "check", "--connect", str(config))
    done = await asyncio.to_thread(check, http_proxy=_PROXY, no_proxy="")
    assert done.returncode == 1
    told = dict(line.removeprefix(f"{config}: ").split(": ", 1) for line in done.stderr.splitlines())
    assert told.keys() == {
        "mappings.letters.EventSourceArn",
        "mappings.letters.FunctionName",
        "mappings.orders.EventSourceArn",
    }, done.stderr
    for line in told.values():
        assert "is reached through a proxy (HTTP_PROXY, HTTPS_PROXY), which aws.client: fast does not do" in line
        assert "set aws.client: botocore, or NO_PROXY=127.0.0.1" in line
    async with started(config, http_proxy=_PROXY, no_proxy="") as daemon:
        for mapping in ("letters", "orders"):
            found = await daemon.line("mapping cannot go on", mapping=mapping)
            assert "is reached through a proxy" in found["reason"]
        await daemon.stop()


async def test_a_proxy_that_is_passed_by_is_not_in_the_way(cloud: Cloud, called: Functions, tmp_path: Path):
    config = write(tmp_path / "c.yaml", settings(cloud, called, {"well": queue(await cloud.queue("passed"), "well")}))
    check = partial(finished, "check", "--connect", str(config))
    done = await asyncio.to_thread(check, http_proxy=_PROXY, no_proxy="127.0.0.1")
    assert (done.returncode, done.stderr) == (0, "")


def _orders(tmp_path: Path) -> Path:
    """A configuration of one stream, which nobody reads from without credentials."""
    destination = {"OnFailure": {"Destination": "arn:aws:sqs:eu-west-1:000000000000:dlq"}}
    mapping = stream("arn:aws:kinesis:eu-west-1:000000000000:stream/orders", "f", DestinationConfig=destination)
    functions = {"f": {"url": "http://127.0.0.1:1/"}}
    return write(
        tmp_path / "c.yaml", {"store": "sqlite://./state.db", "functions": functions, "mappings": {"m": mapping}}
    )


async def test_a_dry_run_without_credentials_goes_on_and_says_what_it_needs(tmp_path: Path):
    async with started(_orders(tmp_path), "--dry-run", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="") as daemon:
        line = await daemon.line("mapping cannot go on", mapping="m")
        assert line["reason"].startswith("no AWS credentials: set AWS_ACCESS_KEY_ID")
        await daemon.stop()


@pytest.mark.parametrize("words", [("replay", "--from", "1700000000", "--to", "1700000100"), ("redrive",)])
def test_work_beside_the_daemon_without_credentials_says_so_in_one_line(words: tuple[str, ...], tmp_path: Path):
    command, *options = words
    done = finished(command, str(_orders(tmp_path)), "m", *options, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    assert (done.returncode, done.stdout) == (2, "")
    (told,) = done.stderr.splitlines()
    assert told.startswith("m: no AWS credentials: set AWS_ACCESS_KEY_ID")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_is_in_nobodys_way(closed: str, tmp_path: Path):
    config = tmp_path / "c.yaml"
    config.write_text(_GOOD)
    commands: list[tuple[str, ...]] = [("check", str(config)), ("event", "sqs"), ("filter", '{"a": [1]}')]
    for words in commands:
        shell = f'exec "$@" {closed}'
        command = ["sh", "-c", shell, "sh", sys.executable, "-m", "poller", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL
        )
        assert (done.returncode, done.stderr) == (0, ""), words


@pytest.mark.parametrize(
    "words", [("demo", "--seconds", "nan"), ("import-kcl", "t", "--config", "c", "--mapping", "m", "--settle", "nan")]
)
def test_a_number_of_seconds_that_is_none_is_refused(words: tuple[str, ...]):
    done = finished(*words)
    assert done.returncode == 2
    assert "'nan' is not a number of seconds" in done.stderr


def test_a_store_that_cannot_be_reached_is_told_once_where_it_is_exported_from(tmp_path: Path):
    document = json.loads(_orders(tmp_path).read_text()) | {"store": "postgresql://me@127.0.0.1:1/db"}
    done = finished("checkpoints", "export", str(write(tmp_path / "c.yaml", document)))
    assert done.returncode == 2
    assert done.stderr.startswith("store: postgresql: ")
