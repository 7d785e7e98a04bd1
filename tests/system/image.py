"""The steps of a Dockerfile on a machine without a container engine.

An overlay over this machine's own root stands in for the base image: RUN is run in it, at its own absolute paths, and
what it writes lands in a layer of its own. COPY takes what .dockerignore lets through, or what a stage before wrote.
What comes out is run as the image would be: its user, its environment and nothing else, a root that cannot be written,
no capabilities, its own network and processes, and one volume. The project's folder is not there.

Of the base image itself (its Python, its libraries) this shows nothing, nor of an engine that reads the file.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from docker.utils import exclude_paths  # type: ignore[import-untyped]  # it carries no types

_PYTHON = Path(sys.base_prefix)
_BUILD = """
set -e
mount -t overlay overlay -o "lowerdir=/,upperdir=$LAYER,workdir=$WORK" "$ROOT"
mount --rbind /dev "$ROOT/dev"
mount --rbind /proc "$ROOT/proc"
mount -t tmpfs tmpfs "$ROOT/tmp"
mkdir -p "$ROOT$PROJECT"  # it may lie below /tmp
mount -t tmpfs tmpfs "$ROOT$PROJECT"
exec chroot "$ROOT" "$@"
"""
_RUN = """
set -e
mount -t tmpfs tmpfs "$WORK"
mkdir "$WORK/work"
cp -a "$LAYER" "$WORK/layer"  # a layer may be mounted once at a time
mount -t overlay overlay -o "lowerdir=/,upperdir=$WORK/layer,workdir=$WORK/work" "$ROOT"
mount --rbind /dev "$ROOT/dev"
mount -t proc proc "$ROOT/proc"
mount -t tmpfs tmpfs "$ROOT/tmp"
mkdir -p "$ROOT$PROJECT"
mount -o remount,ro "$ROOT/tmp"
mount -t tmpfs -o ro tmpfs "$ROOT$PROJECT"
mount --bind "$VOLUME" "$ROOT$VOLUME_AT"
mount --bind "$CONFIG" "$ROOT/etc/poller"
mount -o remount,ro,bind "$ROOT/etc/poller"
mount -o remount,ro "$ROOT"
"$PYTHON" -c "$LOOPBACK"
exec chroot "$ROOT" "$@"
"""
_LOOPBACK = """
import fcntl, socket, struct
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One instruction."""

    line: int
    name: str
    text: str

    def flags(self) -> tuple[dict[str, str], str]:
        """`--name=value` in front of the rest."""
        given, rest = {}, self.text
        while found := re.match(r"--([\w-]+)=(\S+)\s+", rest):
            given[found[1]] = found[2]
            rest = rest[found.end() :]
        return given, rest

    def words(self) -> list[str]:
        """The exec form, a JSON list."""
        listed: list[str] = json.loads(self.text)
        return listed


@dataclass(slots=True)
class Stage:
    """What one FROM and the steps behind it make."""

    name: str
    layer: Path
    environment: dict[str, str] = field(default_factory=dict)
    directory: str = "/"
    user: str = "0:0"
    volume: str = ""
    port: int = 0
    stop: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def within(self, path: str) -> Path:
        """Where the layer holds a path of the image."""
        return self.layer / str(PurePosixPath(self.directory) / path).lstrip("/")


def steps(dockerfile: str) -> Iterator[Step]:
    """The instructions in order; lines that end with a backslash go on."""
    held, begun = "", 0
    for number, line in enumerate(dockerfile.splitlines(), 1):
        if line.lstrip().startswith("#") or not (held or line.strip()):
            continue
        begun = begun if held else number
        held += line.removesuffix("\\") + ("\n" if line.endswith("\\") else "")
        if not line.endswith("\\"):
            name, text = held.split(None, 1)
            yield Step(line=begun, name=name, text=text.replace("\n", " ").strip())
            held = ""


def build(project: Path, scratch: Path) -> Stage:
    """Run every step of `project`/Dockerfile. Answers the last stage.

    Raises:
        AssertionError: a step failed; the message is what it printed.
        ValueError: an instruction that this does not know: it would be left out of what is shown.
    """
    ignored = (project / ".dockerignore").read_text().split()
    context = sorted(exclude_paths(str(project), ignored))
    stages: list[Stage] = []
    for step in steps((project / "Dockerfile").read_text()):
        if step.name == "FROM":
            _, _, name = step.text.partition(" AS ")
            layer = scratch / (name or "final")
            layer.mkdir(parents=True)
            stages.append(Stage(name=name, layer=layer, environment={"PATH": f"{_PYTHON}/bin:{os.environ['PATH']}"}))
            _traversable(layer)
        else:
            _obey(step, stages, project, context)
    return stages[-1]


def _traversable(layer: Path) -> None:
    """Let everybody reach the Python that stands in for the base image's, where it lies in somebody's home."""
    for folder in (*reversed(_PYTHON.parents), _PYTHON):
        if folder != Path("/"):
            (layer / str(folder).lstrip("/")).mkdir(mode=0o755)


def _obey(step: Step, stages: list[Stage], project: Path, context: Sequence[str]) -> None:
    stage = stages[-1]
    match step.name:
        case "RUN":
            _, script = step.flags()  # what a cache mount would hold, pip's own cache on this machine holds
            _in_layer(stage, script)
        case "COPY":
            _copy(step, stages, project, context)
        case "ENV":
            for word in shlex.split(step.text):
                name, _, value = word.partition("=")
                stage.environment[name] = value.replace("$PATH", stage.environment["PATH"])
        case "WORKDIR":
            stage.directory = step.text
            stage.within("").mkdir(parents=True, exist_ok=True)
        case _:
            _note(step, stage)


def _note(step: Step, stage: Stage) -> None:
    """What is only written down, for whoever runs the image."""
    match step.name:
        case "USER":
            stage.user = step.text
        case "VOLUME":
            stage.volume = step.text
        case "EXPOSE":
            stage.port = int(step.text)
        case "STOPSIGNAL":
            stage.stop = step.text
        case "LABEL":
            stage.labels |= dict(word.split("=", 1) for word in shlex.split(step.text))
        case "ENTRYPOINT":
            stage.entrypoint = step.words()
        case "CMD":
            stage.command = step.words()
        case "HEALTHCHECK":
            stage.health = json.loads(step.text[step.text.index("CMD") + 3 :])
        case unknown:
            raise ValueError(f"Dockerfile:{step.line}: {unknown} is not known here")


def _in_layer(stage: Stage, script: str) -> None:
    given = {name: value for name, value in os.environ.items() if name.startswith("PIP_")} | {"HOME": "/root"}
    inside = [f"{name}={value}" for name, value in (given | stage.environment).items()]
    argv = ["env", "-i", "-C", stage.directory, *inside, "sh", "-ec", script]
    with _places(stage.layer) as places:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", _BUILD, "sh", *argv],
            env=os.environ | places,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=200,
        )
    assert done.returncode == 0, f"{script}\n{done.stdout}"


def _copy(step: Step, stages: list[Stage], project: Path, context: Sequence[str]) -> None:
    flags, rest = step.flags()
    *sources, target = shlex.split(rest)
    stage = stages[-1]
    origin = next((each for each in stages if each.name == flags.get("from")), None)
    for source in sources:
        to = stage.within(target)
        if origin is not None:
            found = origin.within(source)
        else:
            assert source in context, f"Dockerfile:{step.line}: {source} is not in the context"
            found = project / source
        if found.is_dir():
            missing = () if origin is not None else (lambda folder, names: _outside(project, context, folder, names))
            shutil.copytree(found, to, symlinks=True, ignore=missing or None)
        else:
            to = to / found.name if target.endswith("/") else to
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, to)


def _outside(project: Path, context: Sequence[str], folder: str, names: list[str]) -> set[str]:
    """Those of a folder that .dockerignore keeps out."""
    return {name for name in names if str((Path(folder) / name).relative_to(project)) not in context}


@contextmanager
def _places(layer: Path) -> Iterator[dict[str, str]]:
    """What the scripts above are told: the layer, and folders of their own."""
    with tempfile.TemporaryDirectory(dir=layer.parent) as own:
        work, root = Path(own) / "work", Path(own) / "root"
        work.mkdir()
        root.mkdir()
        project = Path(__file__).parent.parent.parent
        yield {"LAYER": str(layer), "WORK": str(work), "ROOT": str(root), "PROJECT": str(project)}


@contextmanager
def container(image: Stage, *, config: Path, volume: Path, log: Path, **environment: str) -> Iterator[Container]:
    """Run the image's entry point and command as its user; killed with all that it started at the end."""
    uid, gid = image.user.split(":")
    inside = [f"{name}={value}" for name, value in (image.environment | environment).items()]
    argv = [
        *("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs", "--bounding-set=-all"),
        *("--inh-caps=-all", "env", "-i", "-C", image.directory, *inside, *image.entrypoint, *image.command),
    ]
    with _places(image.layer) as places, log.open("wb") as output:
        places |= {"CONFIG": str(config), "VOLUME": str(volume), "VOLUME_AT": image.volume}
        process = subprocess.Popen(
            [*("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", _RUN, "sh"), *argv],
            env=os.environ | places | {"PYTHON": sys.executable, "LOOPBACK": _LOOPBACK},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Container(image=image, process=process, log=log, root=places["ROOT"], inside=inside)
        finally:
            process.kill()
            process.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """An image that runs."""

    image: Stage
    process: subprocess.Popen[bytes]
    log: Path
    root: str
    inside: list[str]

    def pid(self) -> int:
        """The first process inside, as this machine counts; 0 before there is one."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def status(self) -> str:
        """What the kernel says of the first process."""
        return Path(f"/proc/{self.pid()}/status").read_text()

    def execute(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run something beside the first process, as its user and in its environment."""
        uid, gid = self.image.user.split(":")
        entered = ["nsenter", f"--target={self.pid()}", "--mount", "--net", "--pid", "chroot", self.root]
        dropped = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs"]
        return subprocess.run(
            [*entered, *dropped, "env", "-i", "-C", self.image.directory, *self.inside, *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
