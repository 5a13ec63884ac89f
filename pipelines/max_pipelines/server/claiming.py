"""Holding an ipc path for one server, and leaving nothing there however it ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from max_interfaces import ConfigError

from ..address import IPC, PRIVATE_PREFIX

WAIT_S, LOOK_S = 1.0, 0.005  # for what is left of a server that was killed to be tidied up
# Runs when the server's end of the pipe closes, and holds its lock until then, so that nobody else is at the path.
JANITOR = """trap '' INT HUP TERM; read -r _; rm -f -- "$1" "$1.lock"
case "$2" in ?*) rm -f -- "$2/config.yaml"; rmdir -- "$2";; esac 2>/dev/null"""


@contextlib.contextmanager
def claimed(address: str) -> Iterator[None]:
    """Hold an ipc path for one server. ConfigError if somebody else has it; a dead server's leftover is removed.

    libzmq itself would take the path away from a living server without a word.
    """
    path = Path(address.removeprefix(IPC))
    with _locked(path) as lock:
        _remove_leftover(path)
        with _janitor(path, lock):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def _janitor(path: Path, lock: int) -> Iterator[None]:
    """A process of a few kilobytes that removes the files should this one be killed, which cannot do it itself."""
    folder = str(path.parent) if path.parent.name.startswith(PRIVATE_PREFIX) else ""
    command = ["/bin/sh", "-c", JANITOR, "janitor", str(path), folder]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=(lock,), start_new_session=True
        )
    except OSError:  # no shell here: then files may stay behind
        yield
        return
    try:
        yield
    finally:
        process.kill()  # before its pipe closes: the files may be another server's by then
        process.communicate()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    file = path.with_name(path.name + ".lock")
    try:
        lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise ConfigError(f"{IPC}{path}: cannot be created ({problem.strerror})") from None
    try:
        _hold(lock, file, path)
        try:
            yield lock
        finally:
            file.unlink(missing_ok=True)
    finally:
        os.close(lock)


def _hold(lock: int, file: Path, path: Path) -> None:
    """Take the lock. One whose server was killed is free in a moment."""
    until = time.monotonic() + WAIT_S
    while not _taken(lock, file):
        if time.monotonic() >= until:
            # Or its holder has just removed the file that we opened, and a third server may hold a new one.
            raise ConfigError(f"{IPC}{path}: in use by another server; stop it or choose another path")
        select.select([], [], [], LOOK_S)  # a lock has no descriptor that tells when it is free


def _taken(lock: int, file: Path) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file.stat().st_ino == os.fstat(lock).st_ino
    except OSError:
        return False


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
