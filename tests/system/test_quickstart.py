"""docs/quickstart.md, typed as it stands: its commands on this machine, at free ports."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.servers.processes import free_port

PAGE = Path(__file__).parents[2] / "docs" / "quickstart.md"
_WAIT = "until poller status 2> waiting.log; do sleep 0.2; done"
"""A person types slower than a daemon starts."""
_RELOADED = "until [ $(grep -c 'configuration read' poller.log) -ge 2 ]; do sleep 0.1; done"
_HEARD = "until grep -q 'hello, world' poller.log; do sleep 0.1; done"


def typed() -> list[str]:
    """What is typed in the part of this machine, after the installation, which the tests' environment has done."""
    part = PAGE.read_text().partition("## On this machine\n")[2].partition("\n## ")[0]
    _install, *blocks = re.findall(r"^```console\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
    commands: list[str] = []
    for block in blocks:
        for piece in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            whole = re.match(r".*<<'EOF'\n.*?^EOF$", piece, re.MULTILINE | re.DOTALL)
            commands.append(whole[0] if whole else piece.splitlines()[0])
    return commands


def test_the_commands_of_the_quickstart_deliver_a_message(tmp_path: Path):
    server, page = free_port(), free_port()
    commands = typed()
    assert commands[-2:] == ["kill -HUP %2", "kill %2"]
    lines = [_WAIT if command == "poller status" else command for command in commands[:-2]]
    script = "\n".join(
        ["set -em", *lines, _HEARD, commands[-2], _RELOADED, commands[-1], "wait %2; echo ended with $?"]
    )
    script = script.replace("4566", str(server)).replace("aws: {", f"server: {{port: {page}}}\naws: {{")
    script = script.replace("poller status", f"poller status --url http://127.0.0.1:{page}")
    program = tmp_path / "bin" / "poller"  # as an installation makes it, of the tree that is tested
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={PAGE.parents[1]} exec {sys.executable} -m poller "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path}
    shell = subprocess.Popen(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = shell.communicate(timeout=50)
    finally:
        for job in jobs_of(shell.pid):
            os.killpg(job, signal.SIGKILL)
    assert "ended with" in said, said
    log = (tmp_path / "poller.log").read_text()
    assert "poller.yaml: 1 mapping, all good" in said
    assert "hello, " in said, "by hand"
    assert '"message":"hello, world"' in log
    assert "configuration read" in log.partition("hello, world")[2], "reloaded"
    assert said.splitlines()[-1] == "ended with 0", said + log


def jobs_of(session: int) -> set[int]:
    """The process groups that are left of a session."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session:
            found.add(int(fields[2]))
    return found
