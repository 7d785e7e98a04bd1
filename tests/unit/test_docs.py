"""What README and docs/ say: links lead somewhere, tests and commands that they name exist, configurations load."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from poller.cli import main
from poller.settings import load, schema
from poller.settings.mapping_shape import MappingShape
from tests.unit.settings_file import NOW

ROOT = Path(__file__).parent.parent.parent
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
PAGES |= {name: (ROOT / name).read_text() for name in ("README.md", "benchmarks/README.md")}
TESTS = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def found(pattern: str, *, prose: bool = True) -> list[tuple[str, str]]:
    """Page and match, each once."""
    texts = {page: _FENCE.sub("", text) if prose else text for page, text in PAGES.items()}
    return sorted({(page, match) for page, text in texts.items() for match in re.findall(pattern, text)})


def anchors(path: Path) -> set[str]:
    """The places of a page that a link may name. Source: GitHub makes them of the headings."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(kind: str) -> list[tuple[str, str]]:
    """Page and text of the blocks of a kind."""
    return [
        (page, re.sub(f"^{indent}", "", text, flags=re.MULTILINE))
        for page, whole in PAGES.items()
        for indent, language, text in _FENCE.findall(whole)
        if language == kind
    ]


def invocations() -> list[tuple[str, str]]:
    """Page and words of every command line of `poller`, in a block or in a sentence."""
    lines = [
        (page, line.removeprefix("$ "))
        for page, text in blocks("console")
        for line in text.replace("\\\n", " ").splitlines()
        if line.startswith("$ ")
    ]
    lines += [(page, code.replace("\\|", "|")) for page, code in found(r"`([^`\n]*\bpoller [^`\n]*)`")]
    return [
        (page, match[1])
        for page, line in lines
        for match in re.finditer(r"(?:^|[|&;(] ?|-m )poller ((?:[^|&;<>]|(?<=\w)\|(?=\w))+)", line)
    ]


@pytest.mark.parametrize(("page", "link"), found(r"\]\(([^)\s]+)\)"))
def test_a_link_leads_somewhere(page: str, link: str):
    if link.startswith("https://"):
        return
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    assert target.exists()
    assert not anchor or anchor in anchors(target)


@pytest.mark.parametrize(("page", "name"), found(r"`(test_\w+)`"))
def test_a_test_that_is_named_exists(page: str, name: str):
    assert f"def {name}(" in TESTS


@pytest.mark.parametrize(("page", "words"), sorted(set(invocations())))
def test_a_command_that_is_named_exists_and_has_these_options(page: str, words: str):
    name, *rest = shlex.split(re.sub(r"[\[\]]", "", words), comments=True)
    if name.startswith("--"):
        assert name == "--version"
        return
    command = main.commands[name]
    while isinstance(command, click.Group):
        command = command.commands[rest.pop(0)]
    options = {option for each in command.params if isinstance(each, click.Option) for option in each.opts}
    assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= options | {"--help"}


def test_commands_are_looked_at():
    names = {words.split()[0] for _, words in invocations()}
    assert names >= {"run", "check", "invoke", "event", "status", "filter", "import-kcl"}
    assert ("README.md", "event sqs ") in invocations()


@pytest.mark.parametrize(("page", "target"), found(r"(?:`|\$ )make (\w+)", prose=False))
def test_a_target_of_make_that_is_named_exists(page: str, target: str):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


HEREDOCS = [
    (page, text)
    for page, block in blocks("console")
    for text in re.findall(r"\.yaml <<'EOF'\n(.*?)^EOF$", block, re.MULTILINE | re.DOTALL)
]
CONFIGURATIONS = HEREDOCS + [(page, text) for page, text in blocks("yaml") if "mappings:" in text]


@pytest.mark.parametrize(("page", "text"), CONFIGURATIONS)
def test_a_configuration_that_is_shown_can_be_used(page: str, text: str, tmp_path: Path):
    file = tmp_path / "poller.yaml"
    file.write_text(text)
    assert len(load(file, {}, now=NOW).mappings) == len(yaml.safe_load(text)["mappings"])


def test_configurations_are_looked_at():
    assert {page for page, _ in CONFIGURATIONS} >= {"README.md", "docs/quickstart.md"}


def test_the_index_has_every_page():
    named = set(re.findall(r"\]\(([\w-]+\.md)\)", PAGES["docs/README.md"]))
    assert named == {path.removeprefix("docs/") for path in PAGES if path.startswith("docs/")} - {"README.md"}


def test_who_comes_from_lambda_finds_every_setting():
    table = PAGES["docs/from-lambda.md"].partition("## Every setting\n")[2].partition("\n## ")[0]
    ours = schema()["$defs"]["MappingShape"]["properties"]
    asked = {name for name in (*ours, *MappingShape.hints) if name[0].isupper()}
    assert asked == {
        name
        for row in table.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`(\w+)`", row.split(" | ")[0])
    }


def test_who_comes_from_lambda_finds_only_metrics_that_there_are():
    known = set(re.findall(r"^\| `(poller_\w+)`", PAGES["docs/metrics.md"], re.MULTILINE))
    for page in ("docs/from-lambda.md", "docs/sizing.md", "docs/guarantees.md"):
        assert set(re.findall(r"\b(poller_[a-z_]+)", PAGES[page])) <= known


def test_the_line_of_the_log_that_is_shown_is_one():
    ((_, shown),) = [block for block in blocks("json") if block[0] == "docs/logs.md"]
    assert list(json.loads(shown))[:4] == ["time", "level", "logger", "message"]


def test_the_front_page_is_short():
    assert len(PAGES["README.md"].splitlines()) <= 120
