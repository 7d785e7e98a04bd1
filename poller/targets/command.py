"""The command of a local function: where it is found, and what its environment holds. Starts nothing."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from poller.model.errors import Denied

_HANDLER = re.compile(r"[\w/:-][\w./:-]*\.[A-Za-z_$][\w$]*")
_KEPT = ("PATH", "HOME", "AWS_REGION", "AWS_DEFAULT_REGION")
"""What a function gets of our own environment; credentials it must be given by name."""

TOLD_MEMORY = 128
"""MiB that a function without a limit is told, as Lambda's default has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a local function's environments run."""

    name: str
    """The function's name."""
    words: tuple[str, ...]
    directory: Path
    variables: Mapping[str, str] = field(repr=False)
    """The child's whole environment, but for what differs between environments."""
    memory_limit: int | None = None
    """MiB that it and all it starts may take together; None: as much as there is."""

    @property
    def arn(self) -> str:
        """The function's ARN: there is no account, so its id is zeros."""
        return f"arn:aws:lambda:{self.variables['AWS_REGION']}:000000000000:function:{self.name}"

    def find(self) -> str:
        """The executable, as a process in `directory` would name it. Raises `Denied` with one line."""
        if not self.directory.is_dir():
            raise Denied(f'function "{self.name}": directory {self.directory} does not exist')
        program = self.words[0] if self.words else ""
        if "/" in program:
            file = self.directory / program
            if not file.is_file():
                raise Denied(f'function "{self.name}": command {program} does not exist in {self.directory}')
            if not os.access(file, os.X_OK):
                raise Denied(f'function "{self.name}": command {file} is not executable (chmod +x)')
            return program
        path = self.variables.get("PATH", os.defpath)
        found = shutil.which(program, path=path)
        if found is None:
            raise Denied(f'function "{self.name}": command "{program}" is not on the PATH ({path})')
        return str(Path(found).absolute())


def command_of(
    name: str,
    words: tuple[str, ...],
    *,
    directory: str | None,
    memory_size: int | None,
    added: Mapping[str, str],
    ours: Mapping[str, str],
    region: str | None = None,
) -> Command:
    """Build a command with the environment that Lambda would give it.

    Args:
        name: the function's name.
        words: the command, and what it is given.
        directory: where it runs; None: where we run.
        memory_size: MiB, told to the function and its limit; None: it is told Lambda's default and has no limit.
        added: variables of the configuration; they win.
        ours: the poller's environment, of which next to nothing is kept.
        region: where the poller reaches AWS; None: nobody said.
    Source: Lambda guide, "Defined runtime environment variables".
    """
    root = Path(directory or ".").absolute()
    kept = {key: ours[key] for key in _KEPT if key in ours}
    inherited = kept.get("AWS_REGION") or kept.get("AWS_DEFAULT_REGION")
    region = added.get("AWS_REGION") or region or inherited or "us-east-1"
    variables = {
        "PATH": os.defpath,
        **kept,
        "LANG": "C.UTF-8",
        "TZ": ":UTC",
        "PYTHONUNBUFFERED": "1",
        "LAMBDA_TASK_ROOT": str(root),
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_size or TOLD_MEMORY),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        **handler_of(words, root),
        **added,
    }
    return Command(name=name, words=words, directory=root, variables=variables, memory_limit=memory_size)


def handler_of(words: tuple[str, ...], root: Path) -> dict[str, str]:
    """`_HANDLER`, when the last word of the command names a handler (`app.handler`) and not a file."""
    last = words[-1] if len(words) > 1 else ""
    named = _HANDLER.fullmatch(last) is not None and not (root / last).exists()
    return {"_HANDLER": last} if named else {}
