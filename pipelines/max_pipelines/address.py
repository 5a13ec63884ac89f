"""Where a server listens: ipc:// within one host, inproc:// within one process, never plain tcp://."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from max_interfaces import ConfigError

IPC = "ipc://"
INPROC = "inproc://"
MAX_IPC_PATH = 107  # sun_path of a Unix socket, less its closing zero


def check_address(address: str) -> str:
    """The address, if a server may listen there. ConfigError says why not."""
    if address.startswith("tcp://"):
        raise ConfigError(f"{address}: tcp is refused, it would not be encrypted; use ipc:// with a path")
    if not address.startswith((IPC, INPROC)) or not address.partition("://")[2]:
        raise ConfigError(f"{address}: no address; write ipc:///path/to/socket")
    path = address.removeprefix(IPC)
    if address.startswith(IPC) and len(path.encode()) > MAX_IPC_PATH:
        raise ConfigError(f"{address}: the path is longer than {MAX_IPC_PATH} bytes, the most a socket may have")
    return address


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that only this user can enter, for a server's socket; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="maxpipe-") as folder:  # mode 0700
        yield Path(folder)


@contextlib.contextmanager
def claimed(address: str) -> Iterator[None]:
    """Hold an ipc path for one server. ConfigError if another server has it; a dead one's leftover is removed.

    libzmq itself would take the path away from a living server without a word.
    """
    if not address.startswith(IPC):
        yield
        return
    path = Path(address.removeprefix(IPC))
    lock = _lock(path)
    try:
        if _answers(path):
            raise ConfigError(f"{address}: in use by another server; stop it or choose another path")
        path.unlink(missing_ok=True)
        yield
    finally:
        path.unlink(missing_ok=True)
        _lock_path(path).unlink(missing_ok=True)
        os.close(lock)


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _lock(path: Path) -> int:
    try:
        lock = os.open(_lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise ConfigError(f"{IPC}{path}: cannot be created ({problem.strerror})") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise ConfigError(f"{IPC}{path}: in use by another server; stop it or choose another path") from None
    return lock


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        code = probe.connect_ex(str(path))
    return code not in (errno.ENOENT, errno.ECONNREFUSED)
