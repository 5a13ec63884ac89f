"""What the system says of processes. Nothing of it is known where there is no /proc."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from ..address import IPC
from ..security.disconnect import CREDENTIALS

MEMORY, FILES, THREADS = "memory in MB", "open files", "threads"


def usage(pid: int) -> dict[str, float]:
    """A process's own memory, swapped out or not, its open files and threads: those of them that can be known."""
    folder = Path(f"/proc/{pid}")
    found: dict[str, float] = {}
    with suppress(OSError):  # another user's, or gone
        lines = (folder / "status").read_text(encoding="utf-8", errors="replace").splitlines()
        kilobytes = [int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "VmSwap:"))]
        if kilobytes:  # a process that has ended has none
            found[MEMORY] = sum(kilobytes) / 1024
    for name, what in (("fd", FILES), ("task", THREADS)):
        with suppress(OSError):
            found[what] = len(os.listdir(folder / name))
    return found


def listens_at(address: str) -> bool:
    """Whether somebody listens at an ipc address."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(address.removeprefix(IPC)) == 0


def server_at(address: str) -> int | None:
    """The process that listens at an ipc address, if the system tells."""
    if not address.startswith(IPC) or not hasattr(socket, "SO_PEERCRED"):
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(address.removeprefix(IPC)):
            return None
        pid: int = CREDENTIALS.unpack(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))[0]
    return pid or None  # 0 for one in another container


def workers_of(server: int) -> dict[str, int]:
    """The process ids of a server's own workers, by name."""
    found: dict[str, int] = {}
    with suppress(OSError):
        for task in Path(f"/proc/{server}/task").iterdir():
            for child in (task / "children").read_text(encoding="ascii").split():
                name = _name_of(int(child))
                if name is not None:
                    found[name] = int(child)
    return found


def _name_of(pid: int) -> str | None:
    """What a worker was told to call itself."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
    except OSError:
        return None
    return words[words.index("--name") + 1] if "--name" in words[:-1] else None
