"""Where a server listens: ipc:// within one host, never plain tcp://."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from max_interfaces import ConfigError

IPC = "ipc://"
INPROC = "inproc://"  # a server and its workers as threads; nobody else can reach it
MAX_IPC_PATH = 107  # sun_path of a Unix socket, less its closing zero


def check_address(address: str) -> str:
    """The address, if a server may listen there. ConfigError says why not."""
    if address.startswith("tcp://"):
        raise ConfigError(f"{address}: tcp is refused, it would not be encrypted; use ipc:// with a path")
    path = address.removeprefix(IPC)
    # ZeroMQ reads @name as a socket without a file, which no permission protects, and * as any path.
    if not address.startswith(IPC) or not path or path[0] in "@*" or path[-1] == "/" or "\0" in path:
        raise ConfigError(f"{address}: no address; write ipc:///path/to/socket")
    if len(path.encode()) > MAX_IPC_PATH:
        raise ConfigError(f"{address}: the path is longer than {MAX_IPC_PATH} bytes, the most a socket may have")
    return address


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that only this user can enter, for a server's socket; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="maxpipe-") as folder:  # mode 0700
        yield Path(folder)


@contextlib.contextmanager
def claimed(address: str) -> Iterator[None]:
    """Hold an ipc path for one server. ConfigError if somebody else has it; a dead server's leftover is removed.

    libzmq itself would take the path away from a living server without a word.
    """
    path = Path(address.removeprefix(IPC))
    with _locked(path):
        _remove_leftover(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    file = path.with_name(path.name + ".lock")
    try:
        lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise ConfigError(f"{IPC}{path}: cannot be created ({problem.strerror})") from None
    try:
        _hold(lock, file, path)
        try:
            yield
        finally:
            file.unlink(missing_ok=True)
    finally:
        os.close(lock)


def _hold(lock: int, file: Path, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = file.stat().st_ino == os.fstat(lock).st_ino
    except OSError:
        held = False
    if not held:  # or its holder has just removed the file that we opened, and a third server may hold a new one
        raise ConfigError(f"{IPC}{path}: in use by another server; stop it or choose another path")


def _remove_leftover(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise ConfigError(f"{IPC}{path}: a file that is no socket is there; remove it or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        if probe.connect_ex(str(path)) not in (errno.ENOENT, errno.ECONNREFUSED):
            raise ConfigError(f"{IPC}{path}: in use by another server; stop it or choose another path")
    path.unlink(missing_ok=True)
