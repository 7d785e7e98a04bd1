"""The image, as far as a machine without a container engine shows it: `image.py` says what stands in for what.

Not shown here: that an engine reads the file as we do, the base image's own Python and libraries, other architectures.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from poller import __version__
from poller.aws.session import Service
from tests.system.daemon import waited
from tests.system.image import Container, Stage, build, container, steps

ROOT = Path(__file__).parent.parent.parent
CONFIG = """\
aws: {region: eu-west-1}
store: sqlite:///var/lib/poller/state.db
server: {host: 0.0.0.0}
functions:
  local: {command: [python3, custom_runtime.py, echo], directory: .}
"""
ANYWHERE = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}

pytestmark = [
    pytest.mark.timeout(240),  # the first test installs what the image holds
    pytest.mark.skipif(
        (sys.platform != "linux" or os.geteuid() != 0) and not os.environ.get("CI"),
        reason="a layer over this machine's root takes Linux, and root",
    ),
]


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Built once, by the first of the workers that run tests side by side."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    built = shared / "image.pickle"
    with (shared / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            built.write_bytes(pickle.dumps(build(ROOT, shared / "image")))
        found = pickle.loads(built.read_bytes())
    assert isinstance(found, Stage)
    return found


@pytest.fixture
def volume(image: Stage, tmp_path: Path) -> Path:
    """Empty, and owned as the image has it: so an engine makes it."""
    folder = tmp_path / "volume"
    folder.mkdir()
    owner = image.within(image.volume).stat()
    os.chown(folder, owner.st_uid, owner.st_gid)
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    mapping = (ROOT / "config" / "minimal.yaml").read_text()
    (folder / "poller.yaml").write_text(CONFIG + mapping[mapping.index("mappings:") :])
    shutil.copy(ROOT / "tests" / "functions" / "custom_runtime.py", folder)
    return folder


def owners(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_uid for path in folder.iterdir()}


async def healthy(running: Container) -> None:
    def look() -> bool:
        assert running.process.poll() is None, running.log.read_text()
        return "listening" in running.log.read_text()

    await waited("an address that is listened on", look)


async def test_the_image_serves_as_nobody_in_particular_and_writes_to_its_volume_alone(
    image: Stage, config: Path, volume: Path, tmp_path: Path
):
    with container(image, config=config, volume=volume, log=tmp_path / "log", **ANYWHERE) as running:
        await healthy(running)
        answered = running.execute(*image.health)
        assert answered.returncode == 0, answered.stderr
        invoked = running.execute("poller", "invoke", "/etc/poller", "local")
        assert (invoked.returncode, invoked.stdout) == (0, "{}\n"), invoked.stderr
        shown = running.execute("poller", "status")
        assert "orders" in shown.stdout, shown.stderr
        state = running.status()
        assert "\nUid:\t10001\t10001\t10001\t10001\n" in state
        assert "\nCapEff:\t0000000000000000\n" in state
        assert "\nNoNewPrivs:\t1\n" in state
        for path in ("/opt/poller/x", "/etc/poller/x", "/tmp/x", "/x"):
            refused = running.execute("python", "-c", f"open({path!r}, 'w')")
            assert "Read-only file system" in refused.stderr, path
        os.kill(running.pid(), getattr(signal, image.stop))
        await waited("the end", lambda: running.process.poll() is not None)
        assert running.process.returncode == 0, running.log.read_text()
    assert "Traceback" not in running.log.read_text()
    assert owners(volume)["state.db"] == 10001


async def test_the_health_check_asks_no_proxy_and_fails_when_nothing_answers(
    image: Stage, config: Path, volume: Path, tmp_path: Path
):
    proxied = ANYWHERE | {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    with container(image, config=config, volume=volume, log=tmp_path / "log", **proxied) as running:
        await healthy(running)
        assert running.execute(*image.health).returncode == 0
        os.kill(running.pid(), signal.SIGSTOP)
        assert running.execute(*image.health).returncode != 0


def test_the_image_holds_every_service_that_is_called_and_no_installer(image: Stage):
    """A service is described in the venv, or the first call to it fails."""
    (data,) = image.within("/opt/poller").glob("lib/python3.*/site-packages/botocore/data")
    described = {folder.name for folder in data.iterdir() if folder.is_dir()}
    assert described == {*get_args(Service), "sso", "sso-oidc", "signin"}
    assert not list(image.within("/opt/poller/bin").glob("pip*"))
    assert image.within("/opt/poller/bin/poller").exists()


def test_the_image_holds_nothing_but_the_venv_its_user_and_its_folders(image: Stage):
    folders = {path.name for path in image.layer.iterdir()}
    stand_in = Path(sys.base_prefix).parts[1]
    assert folders <= {"opt", "etc", "var", stand_in}
    assert [path.name for path in image.within("/opt").iterdir()] == ["poller"]
    size = sum(path.lstat().st_size for path in image.within("/opt/poller").rglob("*"))
    assert size < 96 * 2**20


def test_the_image_says_what_it_is_and_how_it_is_to_be_run(image: Stage):
    assert image.labels["org.opencontainers.image.version"] == __version__
    assert (image.user, image.volume, image.port, image.stop) == ("10001:10001", "/var/lib/poller", 9464, "SIGTERM")
    assert [*image.entrypoint, *image.command] == ["poller", "run", "/etc/poller"]


def test_the_dockerfile_has_no_fault_that_its_linter_knows():
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert linter is not None
    done = subprocess.run([linter, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_an_instruction_that_is_not_known_is_never_left_out(tmp_path: Path):
    (tmp_path / ".dockerignore").write_text("")
    (tmp_path / "Dockerfile").write_text("FROM x\nONBUILD RUN y\n")
    with pytest.raises(ValueError, match="Dockerfile:2: ONBUILD"):
        build(tmp_path, tmp_path / "layers")


def test_a_step_that_fails_fails_the_build(tmp_path: Path):
    (tmp_path / ".dockerignore").write_text("")
    (tmp_path / "Dockerfile").write_text("FROM x\nRUN echo seen && false\n")
    with pytest.raises(AssertionError, match="seen"):
        build(tmp_path, tmp_path / "layers")


def test_what_is_ignored_cannot_be_copied(tmp_path: Path):
    (tmp_path / ".dockerignore").write_text("*\n!Dockerfile\n")
    (tmp_path / "secret").write_text("x")
    (tmp_path / "Dockerfile").write_text("FROM x\nCOPY secret ./\n")
    with pytest.raises(AssertionError, match="secret is not in the context"):
        build(tmp_path, tmp_path / "layers")


def test_an_instruction_may_run_over_lines_and_comments():
    (first, second) = steps("RUN one \\\n# why\n && two\n\nUSER 1:1\n")
    assert (first.name, first.text.split()) == ("RUN", ["one", "&&", "two"])
    assert (second.line, second.text) == (5, "1:1")
