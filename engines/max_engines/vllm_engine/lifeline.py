"""vLLM's worker processes end together, and with ours, even in the midst of a collective operation.

By itself a worker ends when a pipe closes, once it looks; one that waits for a dead neighbour spins and does not look.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class DiesWithParent:
    """What is mixed into vLLM's worker class."""

    def die_with_parent(self) -> None:
        """Let the kernel kill this process when the one that started it is gone, or has gone meanwhile."""
        parent = os.getppid()
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)


EXTENSION = f"{DiesWithParent.__module__}.{DiesWithParent.__qualname__}"


def end_together(processes: Sequence[BaseProcess]) -> None:
    """When one of them is gone, kill the others: else vLLM waits nine seconds for them before it says so."""

    def watch() -> None:
        wait([process.sentinel for process in processes])
        for process in processes:
            process.kill()

    if processes:
        threading.Thread(target=watch, name="vllm-workers", daemon=True).start()
