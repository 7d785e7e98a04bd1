"""A PostgreSQL server of its own folder on a free loopback port; it can be killed and started again with its rows."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.processes import START, free_port

_USERS = ("postgres", "nobody")
"""Whom the server runs as where we are root, which it refuses."""


class Postgres:
    """A server that runs, or is down."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.name = "postgres"
        self.port = free_port()
        self.log = folder / "output"
        self._data = folder / "data"
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.address(self.port)

    def address(self, port: int, database: str = "postgres") -> str:
        """How the store names it, perhaps through a proxy's port."""
        return f"postgresql://poller:secret@127.0.0.1:{port}/{database}"

    def output(self) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-8000:]

    def initialize(self) -> None:
        """Make an empty cluster."""
        command = [str(self._programs / "initdb"), "-D", str(self._data), "-U", "poller", "-A", "trust", "-E", "UTF8"]
        subprocess.run(
            [*command, "--locale=C", "--no-sync", "--no-instructions"],
            check=True,
            stdout=subprocess.DEVNULL,
            **_as_somebody(),
        )

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: it ended, or did not answer in time; the message holds what it printed.
        """
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",  # the machine does not lose its power between two tests
            "max_connections": "60",
            "shared_buffers": "16MB",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, "-p", str(self.port), *options],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **_as_somebody(),
            )
        deadline = time.monotonic() + START
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"postgres does not answer:\n{self.output()}")
            time.sleep(0.05)

    def stop(self, sign: signal.Signals = signal.SIGKILL) -> None:
        """End it: SIGKILL as a crash would, with all its processes; SIGINT as an administrator."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            if sign == signal.SIGKILL:
                os.killpg(process.pid, sign)
            else:
                process.send_signal(sign)
            process.wait(30)

    def _answers(self) -> bool:
        """Whether it is ready for a client: it answers a request for TLS, and its file says so."""
        status = self._data / "postmaster.pid"
        try:
            ready = status.read_text().splitlines()[-1].strip() == "ready"
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return ready
        except (OSError, IndexError):
            return False


def _as_somebody() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    return {"user": _somebody().pw_name, "group": _somebody().pw_gid, "extra_groups": [], "cwd": "/"}


def _somebody() -> pwd.struct_passwd:
    known = {user.pw_name: user for user in pwd.getpwall()}
    return next(known[name] for name in _USERS if name in known)


def programs() -> Path:
    """The folder of `initdb` and `postgres`: that of the newest version that Debian installed, else the PATH's.

    Raises:
        RuntimeError: there is none.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[4]))
    if found:
        return found[-1].parent
    if where := shutil.which("postgres"):
        return Path(where).resolve().parent
    raise RuntimeError("PostgreSQL is not installed: run `tests/servers/debian.sh`")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """An empty server, gone with the context."""
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = Postgres(folder, programs())
        data = folder / "data"
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(data, _somebody().pw_uid, _somebody().pw_gid)
        try:
            server.initialize()
            server.start()
            yield server
        finally:
            server.stop()
