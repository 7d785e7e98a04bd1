"""The README's promises: each link leads somewhere, each test that it names exists, each command is one."""

import re
from pathlib import Path

import pytest

from poller.cli import main

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
TESTS = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_a_link_leads_somewhere(link: str):
    assert (ROOT / link).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+)`", README))))
def test_a_test_that_is_named_exists(name: str):
    assert f"def {name}(" in TESTS


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`poller ([\w-]+)", README))))
def test_a_command_that_is_named_exists(command: str):
    assert command in main.commands
