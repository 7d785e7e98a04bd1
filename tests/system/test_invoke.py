"""`poller invoke` and `poller event`, as processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.daemon import finished

FUNCTIONS = Path(__file__).parents[1] / "functions"


@pytest.fixture
def config(tmp_path: Path) -> str:
    def local(handler: str, **more: object) -> dict[str, object]:
        command = [sys.executable, "-m", "awslambdaric", f"sample.{handler}"]
        return {"command": command, "directory": str(FUNCTIONS), **more}

    functions = {
        "echo": local("echo"),
        "leave": local("leave"),
        "sleep": local("sleep", timeout=0.5),
        "gone": {"url": "http://127.0.0.1:1/"},
    }
    mapping = {"EventSourceArn": "arn:aws:sqs:eu-west-1:000000000000:letters", "FunctionName": "echo"}
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps({"functions": functions, "mappings": {"letters": mapping}}))
    return str(file)


def test_result_is_printed_and_the_duration_stands_beside_it(config: str, tmp_path: Path):
    event = tmp_path / "event.json"
    event.write_text('{"a": "ü"}')
    done = finished("invoke", config, "echo", str(event))
    assert (done.returncode, json.loads(done.stdout)) == (0, {"a": "ü"})
    assert done.stderr.splitlines()[-1].startswith("REPORT RequestId: ")
    assert done.stderr.splitlines()[-1].endswith(" ms")


def test_event_is_an_empty_object_when_none_is_given(config: str):
    done = finished("invoke", config, "echo")
    assert (done.returncode, done.stdout) == (0, "{}\n")


def test_function_that_fails_is_exit_1_with_its_log(config: str, tmp_path: Path):
    event = tmp_path / "event.json"
    event.write_text('{"code": 3}')
    done = finished("invoke", config, "leave", str(event))
    assert (done.returncode, done.stdout) == (1, "")
    log, failed, report = done.stderr.splitlines()
    assert (log, failed) == ("last words", "FAILED Runtime.ExitError: Runtime exited with error: exit status 3")
    assert report.startswith("REPORT ")


def test_function_that_runs_out_of_time_is_exit_1(config: str, tmp_path: Path):
    event = tmp_path / "event.json"
    event.write_text('{"seconds": 600}')
    done = finished("invoke", config, "sleep", str(event))
    assert done.returncode == 1
    assert "FAILED Task timed out after 0.50 seconds" in done.stderr.splitlines()


def test_function_that_cannot_be_reached_is_exit_2(config: str):
    done = finished("invoke", config, "gone")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith('NOT INVOKED function "gone": cannot connect to 127.0.0.1:1: ')


@pytest.mark.parametrize(
    ("function", "event", "says"),
    [
        ("ehco", None, "functions.ehco: is not a function of this configuration, did you mean echo?"),
        ("zzz", None, "functions.zzz: is not a function of this configuration, there are echo, gone, leave, sleep"),
        ("echo", "/nowhere.json", "/nowhere.json: cannot be read: No such file or directory"),
        ("echo", "-", "standard input:1: is not JSON: Input is a zero-length, empty document"),
    ],
    ids=["nearly a function", "no function", "no file", "no JSON"],
)
def test_what_cannot_be_used_is_exit_2_with_one_line(config: str, function: str, event: str | None, says: str):
    done = finished("invoke", config, function, *([event] if event else []))
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{says}\n")


@pytest.mark.parametrize("source", ["kinesis", "dynamodb", "sqs"])
def test_sample_event_goes_through_a_function(config: str, source: str):
    event = finished("event", source)
    done = subprocess.run(
        [sys.executable, "-m", "poller", "invoke", config, "echo", "-"],
        input=event.stdout,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    (record,) = json.loads(done.stdout)["Records"]
    assert json.loads(done.stdout) == json.loads(event.stdout)
    assert record["eventSource"] == f"aws:{source}"
