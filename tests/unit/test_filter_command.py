"""`poller filter`: a pattern tried on events before it is deployed."""

import base64
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from poller.cli import main

ORDER = b'{ "type" :"order", "n":1.50 }\n'
REFUND = b'{"type":"refund"}\r\n'
PATTERN = '{"type":["order"]}'


def run(*arguments: str, lines: bytes = b"") -> Result:
    return CliRunner().invoke(main, ["filter", *arguments], input=lines)


def test_lines_that_match_come_out_as_they_came_in():
    found = run(PATTERN, lines=REFUND + ORDER + b"\n" + REFUND + ORDER.strip())
    assert (found.exit_code, found.stdout_bytes, found.stderr) == (0, ORDER + ORDER.strip(), "")


def test_lines_keep_their_ends():
    assert run('{"type":["refund"]}', lines=REFUND).stdout_bytes == REFUND


def test_events_and_pattern_are_taken_from_files(tmp_path: Path):
    events, pattern = tmp_path / "events.jsonl", tmp_path / "pattern.json"
    events.write_bytes(REFUND + ORDER)
    pattern.write_text(f"\n{PATTERN}\n")
    found = run(f"@{pattern}", str(events))
    assert (found.exit_code, found.stdout_bytes) == (0, ORDER)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("{", 'PATTERN: "{" is not JSON, allowed: an object or the JSON text of one\n'),
        ('{"a":{"b":[{"regex":"x"}]}}', "PATTERN: a.b[0].regex: is not an operator, allowed: one of exists, prefix, suffix, equals-ignore-case, wildcard, anything-but, numeric, cidr, exactly\n"),
        ("@/nowhere/at/all.json", "/nowhere/at/all.json: cannot be read: No such file or directory\n"),
        ("@/", "/: cannot be read: Is a directory\n"),
    ],
    ids=["no JSON", "an unknown operator", "no file", "a folder"],
)  # fmt: skip
def test_a_pattern_that_cannot_be_used_is_one_line(pattern: str, said: str):
    found = run(pattern, lines=ORDER)
    assert (found.exit_code, found.stdout, found.stderr) == (2, "", said)


def test_a_mistake_in_a_file_is_told_with_its_name(tmp_path: Path):
    path = tmp_path / "pattern.json"
    path.write_text('{"a":1}')
    assert run(f"@{path}").stderr == f"{path}: a: is 1, allowed: a list of alternatives, or an object of keys\n"


def test_a_file_of_events_that_is_not_there_is_one_line(tmp_path: Path):
    found = run(PATTERN, str(tmp_path / "none"))
    assert (found.exit_code, found.stderr) == (2, f"{tmp_path}/none: cannot be read: No such file or directory\n")


def test_a_bad_line_is_told_with_its_number_and_skipped():
    found = run(PATTERN, lines=ORDER + b"{oops\n[1]\n\xff\n" + ORDER)
    assert (found.exit_code, found.stdout_bytes) == (1, ORDER + ORDER)
    assert found.stderr.splitlines() == [f"line {i}: is not an object in JSON, skipped" for i in (2, 3, 4)]


def test_what_refused_a_line_is_explained():
    pattern = '{"type":["order"],"items":{"sku":["a"],"n":[{"numeric":[">",3]}]}}'
    lines = [
        {"type": "refund"},
        {"type": "order"},
        {"type": "order", "items": [{"sku": "a", "n": 1}, {"sku": "b", "n": 9}]},
        {"type": "order", "items": [{"sku": "a", "n": 4}]},
    ]
    found = run(pattern, "--explain", lines="\n".join(map(json.dumps, lines)).encode())
    assert json.loads(found.stdout) == lines[3]
    assert found.stderr.splitlines() == [
        'line 1: type: is "refund", wanted: ["order"]',
        'line 2: items.sku: is missing, wanted: ["a"]',
        "line 3: items: none of 2 elements satisfies the conditions on sku, n together",
    ]


@pytest.mark.parametrize(
    ("source", "record", "pattern"),
    [
        ("kinesis", {"kinesis": {"partitionKey": "k", "data": base64.b64encode(b'{"type":"order"}').decode()}}, '{"data":{"type":["order"]}}'),
        ("sqs", {"messageId": "1", "body": '{"type":"order"}'}, '{"body":{"type":["order"]}}'),
        ("dynamodb", {"eventName": "INSERT", "dynamodb": {"NewImage": {"type": {"S": "order"}}}}, '{"dynamodb":{"NewImage":{"type":{"S":["order"]}}}}'),
    ],
    ids=["kinesis", "sqs", "dynamodb"],
)  # fmt: skip
def test_lines_are_taken_as_records_of_a_source(source: str, record: dict[str, object], pattern: str):
    line = json.dumps(record).encode() + b"\n"
    assert run(pattern, "--source", source, lines=line).stdout_bytes == line
    assert run(pattern.replace("order", "x"), "--source", source, lines=line).stdout_bytes == b""
    if source != "dynamodb":
        assert run(pattern, lines=line).stdout_bytes == b""


def test_a_line_that_is_no_record_of_the_source_is_told():
    found = run('{"partitionKey":["k"]}', "--source", "kinesis", lines=b'{"body":"x"}\n')
    assert (found.exit_code, found.stderr) == (1, "line 1: is not a record of a Kinesis event in JSON, skipped\n")


def test_a_pattern_is_refused_as_the_source_would_refuse_it():
    found = run('{"data":["abc"]}', "--source", "kinesis")
    assert found.exit_code == 2
    assert found.stderr.startswith(
        "PATTERN: data: is a list of alternatives, but data of this source is matched as JSON"
    )
