"""What a local function's process is given, and how its output becomes lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.model.errors import Denied
from poller.targets.command import Command, command_of, handler_of
from poller.targets.guard import left
from poller.targets.output import LINE_LIMIT_BYTES, TAIL_LIMIT, Lines, Tail

OURS = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/home/somebody",
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "token",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/token",
    "DATABASE_PASSWORD": "secret",
    "PYTHONPATH": "/ours",
}


def command(*words: str, directory: str | None = None, added: dict[str, str] | None = None) -> Command:
    return command_of("f", words, directory=directory, memory_size=256, added=added or {}, ours=OURS)


def test_child_gets_what_lambda_sets_and_nothing_else_of_ours():
    assert command("python3", "app.handler", directory="/srv/f").variables == {
        "PATH": "/usr/bin:/bin",
        "HOME": "/home/somebody",
        "LANG": "C.UTF-8",
        "TZ": ":UTC",
        "PYTHONUNBUFFERED": "1",
        "LAMBDA_TASK_ROOT": "/srv/f",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_LAMBDA_FUNCTION_NAME": "f",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/f",
        "_HANDLER": "app.handler",
    }


def test_configuration_wins():
    added = {"PATH": "/opt/bin", "TZ": "Europe/Berlin", "AWS_REGION": "eu-west-1", "AWS_SECRET_ACCESS_KEY": "theirs"}
    built = command("x", added=added)
    assert added.items() <= built.variables.items()
    assert built.variables["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert built.arn == "arn:aws:lambda:eu-west-1:000000000000:function:f"


@pytest.mark.parametrize(
    ("added", "region", "ours", "expected"),
    [
        ({"AWS_REGION": "a"}, "b", {"AWS_REGION": "c"}, "a"),
        ({}, "b", {"AWS_REGION": "c"}, "b"),
        ({}, None, {"AWS_REGION": "c", "AWS_DEFAULT_REGION": "d"}, "c"),
        ({}, None, {"AWS_DEFAULT_REGION": "d"}, "d"),
        ({}, None, {}, "us-east-1"),
    ],
    ids=["the function's own", "the aws section's", "ours", "our default", "nobody's"],
)
def test_region_is_the_function_s_own_before_that_of_the_aws_section_before_ours(added, region, ours, expected):
    built = command_of("f", ("x",), directory=None, memory_size=None, added=added, ours=ours, region=region)
    assert built.variables["AWS_REGION"] == built.variables["AWS_DEFAULT_REGION"] == expected


def test_without_memory_size_the_function_is_told_lambda_s_default_and_has_no_limit():
    built = command_of("f", ("x",), directory=None, memory_size=None, added={}, ours={})
    assert (built.variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], built.memory_limit) == ("128", None)
    assert command("x").memory_limit == 256


def test_guard_knows_the_groups_that_are_left():
    assert left(["+1\n", "+2\n", "+3\n", "-2\n", "-9\n"]) == [1, 3]
    assert left([]) == []


def test_secrets_are_not_shown_when_a_command_is_printed():
    assert "hidden" not in repr(command("x", added={"TOKEN": "hidden"}))


@pytest.mark.parametrize(
    ("words", "handler"),
    [
        (("python3", "-m", "awslambdaric", "app.handler"), "app.handler"),
        (("node", "ric.js", "src/index.handler"), "src/index.handler"),
        (("java", "-jar", "runtime.jar", "example.Handler::handleRequest"), None),
        (("node", "here.js"), None),
        (("./bootstrap",), None),
        (("bootstrap", "handler"), None),
        (("app.handler",), None),
        (("sh", "-c", "exec ./run.it --now"), None),
    ],
    ids=str,
)
def test_handler_is_the_last_word_when_it_looks_like_one(tmp_path, words, handler):
    (tmp_path / "here.js").touch()
    assert handler_of(words, tmp_path).get("_HANDLER") == handler


def test_command_is_looked_for_on_the_path_that_the_child_gets(tmp_path):
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert command("tool", added={"PATH": str(tmp_path)}).find() == str(tool)


def test_command_with_a_slash_is_looked_for_in_the_directory(tmp_path):
    (tmp_path / "bootstrap").write_text("#!/bin/sh\n")
    (tmp_path / "bootstrap").chmod(0o755)
    assert command("./bootstrap", directory=str(tmp_path)).find() == "./bootstrap"


def test_each_mistake_is_one_clear_line(tmp_path):
    (tmp_path / "plain").touch()
    cases = [
        (command("sh", directory="/nowhere/at/all"), "directory /nowhere/at/all does not exist"),
        (command("no-such-tool"), 'command "no-such-tool" is not on the PATH (/usr/bin:/bin)'),
        (command("./gone", directory=str(tmp_path)), f"command ./gone does not exist in {tmp_path}"),
        (command("./plain", directory=str(tmp_path)), f"command {tmp_path}/plain is not executable (chmod +x)"),
    ]
    for wrong, line in cases:
        with pytest.raises(Denied) as raised:
            wrong.find()
        assert str(raised.value) == f'function "f": {line}'


def lines_of(*chunks: bytes) -> list[str]:
    lines = Lines()
    return [line for chunk in chunks for line in lines.feed(chunk)] + lines.rest()


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"a\nb\n"], ["a", "b"]),
        ([b"a", b"b\n", b"c"], ["ab", "c"]),
        ([b"a\n\nb"], ["a", "", "b"]),
        ([b"a\r\nb\rc\r"], ["a", "b", "c"]),
        ([b"a\r", b"\nb"], ["a", "b"]),
        ([b"\xff\xfe\n"], ["\ufffd\ufffd"]),
        ([b"\xc3", b"\xa9\n"], ["é"]),
        ([], []),
    ],
    ids=[
        "lines",
        "pieces",
        "an empty line",
        "any line end",
        "a line end in two pieces",
        "not UTF-8",
        "half a character",
        "nothing",
    ],
)
def test_output_becomes_lines(chunks, expected):
    assert lines_of(*chunks) == expected


def test_long_line_goes_on_in_the_next_one():
    assert lines_of(b"x" * (2 * LINE_LIMIT_BYTES + 5) + b"\ny") == ["x" * LINE_LIMIT_BYTES] * 2 + ["xxxxx", "y"]


def test_long_line_is_told_before_it_ends():
    assert Lines().feed(b"x" * (LINE_LIMIT_BYTES + 1)) == ["x" * LINE_LIMIT_BYTES]


def test_cut_falls_between_characters():
    pieces = lines_of(b"x" + "é".encode() * LINE_LIMIT_BYTES)
    assert "".join(pieces) == "x" + "é" * LINE_LIMIT_BYTES


@given(st.lists(st.binary(max_size=20)), st.integers(min_value=1, max_value=7))
def test_how_output_is_cut_in_pieces_does_not_matter(parts, size):
    text = b"\r\n".join(parts)
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    assert lines_of(*chunks) == lines_of(text)


def test_tail_keeps_the_end():
    tail = Tail()
    tail.add("x" * TAIL_LIMIT)
    tail.add("end")
    assert len(str(tail)) == TAIL_LIMIT
    assert str(tail).endswith("xxx\nend\n")
