"""YAML, the environment and folders: what is read, and what is said when it cannot be."""

from pathlib import Path

import pytest

from poller.model.errors import SettingsError
from poller.settings import load
from tests.unit.settings_file import KINESIS, NOW, QUEUE, mapping, mistakes, settings

_M = f"mappings: {{m: {{EventSourceArn: '{QUEUE}', FunctionName: f}}}}"
_STREAM = f"mappings: {{m: {{EventSourceArn: '{KINESIS}', FunctionName: f, StartingPosition: LATEST}}}}"
_EMPTY = "is empty, needed at the least: mappings, with one mapping that has EventSourceArn and FunctionName"
_MISSING = (
    "mappings: is missing, needed: one mapping or more, each a name and a block with EventSourceArn and FunctionName"
)

# (id, the file, its only mistake)
WRONG = [
    ("an empty file", "", f"poller.yaml:1: {_EMPTY}"),
    ("only a comment", "# later\n", f"poller.yaml:1: {_EMPTY}"),
    ("a list", "- a\n", "poller.yaml:1: is a list, allowed: a block of keys such as store, functions and mappings"),
    ("a word", "hello\n", 'poller.yaml:1: is "hello", allowed: a block of keys such as store, functions and mappings'),
    ("no mappings", "store: memory://\n", f"poller.yaml:1: {_MISSING}"),
    ("mappings without a value", "mappings:\n", "poller.yaml:1: mappings: has no value, allowed: a block of names, each with its own block of keys"),
    ("a broken flow", f"{_M}\naws: [\n", "poller.yaml:3: is not YAML: while parsing a flow node, expected the node content, but found '<stream end>'"),
    ("a colon too many", "a: b: c\n", "poller.yaml:1: is not YAML: mapping values are not allowed here"),
    ("a tab", f"{_M}\nserver:\n\tport: 1\n", "poller.yaml:3: is not YAML: while scanning for the next token, found character '\\t' that cannot start any token"),
    ("a control character", f"{_M}\nstore: \x01\n", "poller.yaml:2: is not YAML: it holds a character that YAML forbids"),
    ("a character out of range", '"\\UFFFFFFFF": 1\n', "poller.yaml:1: is not YAML: a number is out of range"),
    ("two documents", f"---\n{_M}\n---\n{_M}\n", "poller.yaml:3: is not YAML: expected a single document in the stream, but found another document"),
    ("an alias to nothing", "mappings: *there\n", "poller.yaml:1: is not YAML: found undefined alias 'there'"),
    ("deep nesting", "[" * 3000, "poller.yaml:1: is nested too deeply"),
    ("a substitution in a flow", f"{_M}\nserver: {{port: ${{PORT}}}}\n", "poller.yaml:2: is not YAML: while parsing a flow mapping, expected ',' or '}', but got '{' (within { } and [ ], write \"${NAME}\" in quotes)"),
    ("a tag of CloudFormation", "mappings:\n  m:\n    EventSourceArn: !GetAtt Queue.Arn\n    FunctionName: f\n", 'poller.yaml:3: mappings.m.EventSourceArn: the tag "!GetAtt" is not understood, write the value itself'),
    ("a tag on a block", f"{_M}\naws: !!set {{a}}\n", 'poller.yaml:2: aws: the tag "!!set" is not understood, write the value itself'),
    ("a key that is a list", f"{_M}\n? [a]\n: b\n", "poller.yaml:2: a key must be one word, not a list or a block"),
    ("a key given twice", f"{_M}\nmemory: 64MiB\nmemory: 65MiB\n", "poller.yaml:3: memory: is given twice, first on line 2, allowed: once"),
    ("a mapping given twice", mapping(QUEUE) + f"  m: {{EventSourceArn: '{QUEUE}', FunctionName: g}}\n", "poller.yaml:6: mappings.m: is given twice, first on line 3, allowed: once"),
    ("a date that is none", f"{_M}\nmemory: 2026-99-99\n", 'poller.yaml:2: memory: "2026-99-99" looks like a number or a date and is none, put it in quotes'),
    ("an infinite number", f"{_M}\nshutdown_grace: .inf\n", 'poller.yaml:2: shutdown_grace: ".inf" is not a finite number'),
    ("a huge number", f"{_M}\nshutdown_grace: 0x{'f' * 5000}\n", "poller.yaml:2: shutdown_grace: is too large a number"),
    ("a NUL", f'{_M}\nstore: "a\\0"\n', "poller.yaml:2: store: holds a NUL character"),
    ("half a character", f'{_M}\nstore: "\\ud83d"\n', "poller.yaml:2: store: holds half a character (a lone surrogate)"),
    ("a line break within a key", f'{_M}\n"a\\Lb": 1\n', 'poller.yaml:2: "a\\u2028b": is not a known key, allowed: aws, store, server, shutdown_grace, memory, poll_interval, fleet, limits, functions and mappings'),
    ("an unset variable", f"{_M}\nserver:\n  port: ${{PORT}}\n", "poller.yaml:3: server.port: the environment has no PORT, set it or write ${PORT:-default}"),
    ("an unset variable in a list", f"{_M}\nfunctions:\n  g:\n    command:\n      - a\n      - x${{ARG}}\n", "poller.yaml:6: functions.g.command[1]: the environment has no ARG, set it or write ${ARG:-default}"),
    ("a substitution that is none", f"{_M}\nstore: ${{1}}\n", "poller.yaml:2: store: has a ${ that is not ${NAME} or ${NAME:-default}; write $${ for the characters themselves"),
    ("a name of a mapping", f"mappings: {{a/b: {{EventSourceArn: '{QUEUE}', FunctionName: f}}}}\n", "poller.yaml:1: mappings.a/b: is not a name, allowed: letters, digits, -, _ and ., at most 128"),
    ("a merge of no block", f"{_M}\nserver: {{<<: 3}}\n", 'poller.yaml:2: server."<<": brings in something that is not a block of keys, or too much'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path, text: str, expected: str):
    assert mistakes(tmp_path, text) == [expected]


def test_a_file_that_is_not_there_is_refused_in_one_line(tmp_path: Path):
    path = tmp_path / "none.yaml"
    with pytest.raises(SettingsError) as caught:
        load(path, {}, now=NOW)
    assert str(caught.value) == f"{path}: does not exist, needed: a configuration file or a folder of them"


def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path):
    path = tmp_path / "poller.yaml"
    path.write_bytes(b"store: memory://\n# caf\xe9\n")
    with pytest.raises(SettingsError) as caught:
        load(path, {}, now=NOW)
    assert str(caught.value) == f"{path}:2: is not UTF-8 text"


def test_a_path_with_a_nul_is_refused_in_one_line():
    with pytest.raises(SettingsError) as caught:
        load(Path("a\0b"), {}, now=NOW)
    assert len(str(caught.value).splitlines()) == 1


def test_a_link_that_leads_in_a_circle_is_refused_in_one_line(tmp_path: Path):
    path = tmp_path / "poller.yaml"
    path.symlink_to(path)
    with pytest.raises(SettingsError) as caught:
        load(path, {}, now=NOW)
    assert str(caught.value).startswith(f"{path}: cannot be read: ")


def test_a_block_that_holds_itself_is_refused(tmp_path: Path):
    found = mistakes(tmp_path, f"{_M}\naws: &a {{endpoints: *a}}\n")
    assert found[0].endswith("endpoints: is nested too deeply (or holds itself)")


def test_a_few_lines_that_stand_for_billions_of_values_are_refused(tmp_path: Path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    found = mistakes(tmp_path, "\n".join([_M, *lines]))
    assert sum("the file holds more than 200000 values, aliases written out" in line for line in found) == 1


def test_a_file_with_ten_mistakes_is_answered_with_ten_lines_in_their_order(tmp_path: Path):
    text = """\
aws: {region: EU}
store: redis://x
server: {port: 70000}
memory: lots
functions:
  g: {}
  h: {url: here}
mappings:
  a:
    EventSourceArn: here
    FunctionName: h
    BatchSize: 0
  b:
    EventSourceArn: arn:aws:sqs:eu-west-1:123456789012:b.fifo
    FunctionName: g
    BatchSize: 11
    Topics: [t]
"""
    found = mistakes(tmp_path, text)
    places = [" ".join(line.split(": ")[:2]) for line in found]
    assert places == [
        "poller.yaml:1 aws.region",
        "poller.yaml:2 store",
        "poller.yaml:3 server.port",
        "poller.yaml:4 memory",
        "poller.yaml:6 functions.g",
        "poller.yaml:7 functions.h.url",
        "poller.yaml:10 mappings.a.EventSourceArn",
        "poller.yaml:12 mappings.a.BatchSize",
        "poller.yaml:16 mappings.b.BatchSize",
        "poller.yaml:17 mappings.b.Topics",
    ]


@pytest.mark.parametrize(
    ("value", "environ", "expected"),
    [
        ("${PORT}", {"PORT": "8080"}, 8080),
        ("${PORT:-9000}", {}, 9000),
        ("${PORT:-9000}", {"PORT": ""}, 9000),
        ("${PORT:-9000}", {"PORT": " 8080 "}, 8080),
        ("80${REST}", {"REST": "80"}, 8080),
    ],
    ids=["set", "default", "empty counts as unset", "blanks around", "within"],
)
def test_a_plain_substitution_is_read_as_what_it_stands_for(
    tmp_path: Path, value: str, environ: dict[str, str], expected: int
):
    assert settings(tmp_path, f"{_M}\nserver:\n  port: {value}\n", environ).server.port == expected


def test_a_quoted_substitution_stays_text(tmp_path: Path):
    assert mistakes(tmp_path, f'{_M}\nserver:\n  port: "${{PORT}}"\n', {"PORT": "8080"}) == [
        'poller.yaml:3: server.port: "8080" is text, allowed: a whole number, 0 to 65535'
    ]


def test_a_variable_without_a_value_is_no_value(tmp_path: Path):
    assert mistakes(tmp_path, f"{_M}\nserver:\n  port: ${{PORT}}\n", {"PORT": ""}) == [
        "poller.yaml:3: server.port: has no value, give one or leave the key out"
    ]


def test_what_a_variable_holds_is_not_replaced_again(tmp_path: Path):
    found = settings(tmp_path, f"{_M}\nserver:\n  host: ${{A}}-$${{A}}\n", {"A": "${B}"})
    assert found.server.host == "${B}-${A}"


def test_json_is_read_with_tabs_and_escaped_characters(tmp_path: Path):
    path = tmp_path / "poller.json"
    tags = '"Tags": {"mood": "\\ud83d\\ude00"}'
    path.write_text(f'{{\n\t"mappings": {{"m":\t{{"EventSourceArn": "{QUEUE}", "FunctionName": "f", {tags}}}}}\n}}')
    assert '"mood":"😀"' in load(path, {}, now=NOW).mappings[0].document


def test_blocks_are_merged_as_yaml_says(tmp_path: Path):
    text = (
        mapping(QUEUE, "Tags: &tags {a: x, b: x}").replace("  m:", "  m: &m")
        + "  n:\n    <<: *m\n    FunctionName: g\n    Tags: {<<: *tags, b: y}\n"
    )
    first, second = settings(tmp_path, text).mappings
    assert '"Tags":{"a":"x","b":"x"}' in first.document
    assert (second.target.name, '"Tags":{"a":"x","b":"y"}' in second.document) == ("g", True)


def _folder(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return tmp_path


def test_a_folder_is_read_as_one_file(tmp_path: Path):
    one = mapping(QUEUE)
    two = "functions:\n  f: {command: [a], directory: ./x}\n"
    three = f'{{"mappings": {{"n": {{"EventSourceArn": "{QUEUE}", "FunctionName": "g"}}}}}}'
    folder = _folder(tmp_path, a_yaml=one, b_yml=two, c_json=three, d_txt=": : :", e_yaml="# nothing yet\n")
    (tmp_path / ".hidden.yaml").write_text(": : :")
    found = load(folder, {}, now=NOW)
    assert [(mapping.name, type(mapping.target).__name__) for mapping in found.mappings] == [
        ("m", "LocalFunction"),
        ("n", "LambdaFunction"),
    ]


def test_what_two_files_of_a_folder_define_is_named_with_both_places(tmp_path: Path):
    one = mapping(QUEUE) + "functions: {f: {command: [a]}}\n"
    two = "\nstore: memory://\n" + one.removeprefix("store: memory://\n")
    folder = _folder(tmp_path, a_yaml=one, b_yaml=two)
    with pytest.raises(SettingsError) as caught:
        load(folder, {}, now=NOW)
    assert str(caught.value).replace(f"{folder}/", "").split("\n") == [
        "b.yaml:2: store: is given twice, first at a.yaml:1, allowed: once",
        "b.yaml:4: mappings.m: is given twice, first at a.yaml:3, allowed: once",
        "b.yaml:7: functions.f: is given twice, first at a.yaml:6, allowed: once",
    ]


def test_mistakes_of_a_folder_come_in_the_order_of_its_files(tmp_path: Path):
    folder = _folder(tmp_path, b_yaml="memory: 1\n", a_yaml=f"{_M}\nsever: 1\n")
    with pytest.raises(SettingsError) as caught:
        load(folder, {}, now=NOW)
    assert [line.removeprefix(f"{folder}/").split(": ")[0] for line in str(caught.value).split("\n")] == [
        "a.yaml:2",
        "b.yaml:1",
    ]


@pytest.mark.parametrize(
    "broken", ["store: x: y\n", "mappings: [\n", "- a\n", "\x01"], ids=["a colon", "a flow", "a list", "a control"]
)
@pytest.mark.parametrize("other", [f"{_STREAM}\n", "store: memory://\n", ""], ids=["store", "mappings", "both"])
def test_what_is_missing_may_be_in_the_file_of_a_folder_that_cannot_be_read(tmp_path: Path, broken: str, other: str):
    folder = _folder(tmp_path, a_yaml=other, b_yaml=broken)
    with pytest.raises(SettingsError) as caught:
        load(folder, {}, now=NOW)
    (line,) = str(caught.value).split("\n")
    assert line.startswith(f"{folder}/b.yaml:")


def test_a_folder_without_files_is_refused_in_one_line(tmp_path: Path):
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, {}, now=NOW)
    expected = "is a folder without *.yaml, *.yml or *.json files, needed: at least one"
    assert str(caught.value) == f"{tmp_path}: {expected}"


def test_a_folder_of_empty_files_says_what_is_missing(tmp_path: Path):
    with pytest.raises(SettingsError) as caught:
        load(_folder(tmp_path, a_yaml="", b_yaml="# nothing"), {}, now=NOW)
    assert str(caught.value) == f"{tmp_path}: {_MISSING}"
