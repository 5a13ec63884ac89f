"""vLLM's worker processes end together, and with ours, even in the midst of a collective operation; no file stays.

By itself a worker ends when a pipe closes, once it looks; one that waits for a dead neighbour spins and does not look.
"""

from __future__ import annotations

import ctypes
import glob
import os
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h
SHARED = Path("/dev/shm")


class LeavesNothing:
    """What is mixed into vLLM's worker class."""

    def leave_nothing(self) -> None:
        """Let the kernel end this process when the one that started it is gone, or has gone meanwhile.

        On a CPU its workers share memory by name. All have it open by now, so the names can go: then the memory goes
        with the last of them.
        """
        parent = os.getppid()
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)
        name = os.environ.get("VLLM_DIST_IDENT")
        for path in SHARED.glob(f"{glob.escape(name)}*-cpushm_*") if name else ():
            path.unlink(missing_ok=True)


EXTENSION = f"{LeavesNothing.__module__}.{LeavesNothing.__qualname__}"


def end_together(processes: Sequence[BaseProcess]) -> None:
    """When one of them is gone, kill the others: else vLLM waits nine seconds for them before it says so."""

    def watch() -> None:
        wait([process.sentinel for process in processes])
        for process in processes:
            process.kill()

    if processes:
        threading.Thread(target=watch, name="vllm-workers", daemon=True).start()
