"""What processes of one machine share beside a file: numbers that the kernel frees, and which disks are no disks."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poller.model.errors import SettingsError

_MOST = 1_000
_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset(
    {
        *("afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs"),
        *("gpfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"),
    }
)


@contextmanager
def slot(path: Path) -> Iterator[int]:
    """Hold the lowest number, from 1, that nobody else holds for this file.

    The lock belongs to an open file that children do not inherit, so the kernel frees it with the context or with the
    process, however that ends. Nobody waits: what another holds is passed over.

    Raises:
        SettingsError: the folder `PATH.slots` cannot be used, or all numbers are held.
    """
    folder = path.with_name(path.name + ".slots")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, _MOST + 1):
            file = os.open(folder / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
            except BaseException:
                os.close(file)
                raise
            else:
                break
        else:
            raise SettingsError(f"store: all {_MOST} numbers in {folder} are held, allowed: at most {_MOST} processes")
    except OSError as error:
        raise SettingsError(f"store: {folder} cannot be used: {os.strerror(error.errno or 0)}") from None
    try:
        yield number
    finally:
        os.close(file)


def network_file_system(folder: Path, mounts: Path = _MOUNTS) -> str:
    """The kind of network file system that a folder lies on; "" where it is a disk, or where that cannot be known.

    Args:
        folder: which exists.
        mounts: the table of Linux; other systems have none.

    Raises:
        OSError: no such folder.
    """
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        left, _, right = line.partition(" - ")
        kind = right.split(" ", 1)[0]
        if left.split(" ")[2:3] == [number] and kind in _NETWORK:
            return kind
    return ""
