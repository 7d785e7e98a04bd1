"""`deploy/systemd/poller.service`: by systemd's own check where there is one, and right for this program everywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from click.testing import CliRunner

from poller.cli import main
from poller.settings import load
from tests.unit.settings_file import NOW

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "deploy" / "systemd"
TEXT = (FOLDER / "poller.service").read_text()
PROGRAM = "/opt/poller/bin/poller"


def directives() -> dict[str, list[str]]:
    found = defaultdict(list)
    for line in TEXT.splitlines():
        if line and not line.startswith(("#", "[")):
            name, _, value = line.partition("=")
            found[name].append(value)
    return found


UNIT = directives()


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and not os.environ.get("CI"), reason="systemd is not on this machine"
)
def test_systemd_finds_no_fault_and_little_exposure(tmp_path: Path):
    program = tmp_path / "poller"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "poller.service"
    unit.write_text(TEXT.replace(PROGRAM, str(program)))
    verified = analyzed("verify", unit)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    exposed = re.search(
        r"Overall exposure level for \S+: ([\d.]+)", analyzed("security", "--offline=true", unit).stdout
    )
    assert exposed is not None
    assert float(exposed[1]) < 2.0


def analyzed(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=30, check=False)


def test_an_unusable_configuration_is_not_started_again_and_again(tmp_path: Path):
    config = tmp_path / "c.yaml"
    config.write_text("mappings: {}\nnonsense: 1\n")
    refused = CliRunner().invoke(main, ["check", str(config)])
    assert UNIT["RestartPreventExitStatus"] == [str(refused.exit_code)]
    assert UNIT["Restart"] == ["always"]


def test_every_command_is_one_of_ours_with_options_that_it_has():
    for line in (*UNIT["ExecStart"], UNIT["ExecReload"][0]):
        program, command, *rest = line.split()
        assert program == PROGRAM
        options = {option for parameter in main.commands[command].params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options
        assert rest[-1] == "/etc/poller"
    assert UNIT["ExecReload"][1] == "/bin/kill -HUP $MAINPID"


def test_the_stop_lasts_longer_than_the_grace():
    default = load(ROOT / "config" / "minimal.yaml", {}, now=NOW).shutdown_grace
    assert int(UNIT["TimeoutStopSec"][0]) >= default + 10
    assert UNIT["KillMode"] == ["mixed"], "functions finish what they have"


def test_nothing_is_promised_that_the_code_does_not_do():
    """Type=notify needs a daemon that says when it is ready."""
    assert UNIT["Type"] == ["exec"]


def test_it_is_nobody_and_writes_to_its_state_alone():
    assert UNIT["DynamicUser"] == ["yes"]
    assert UNIT["ProtectSystem"] == ["strict"]
    assert UNIT["StateDirectory"] == ["poller"], "/var/lib/poller, as in the configurations"
    assert UNIT["CapabilityBoundingSet"] == [""]


def test_the_environment_file_holds_assignments_and_no_secret():
    lines = (FOLDER / "poller.env").read_text().splitlines()
    assigned = [line.lstrip("#") for line in lines if not line.startswith("# ")]
    assert all(re.fullmatch(r"[A-Z_]+=\S*", line) for line in assigned)
    assert [line for line in assigned if "SECRET" in line] == ["AWS_SECRET_ACCESS_KEY="]
    assert UNIT["EnvironmentFile"] == ["-/etc/poller/poller.env"]
