"""vLLM's worker processes must not outlive ours, not even in the midst of a collective operation."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class DiesWithParent:
    """What is mixed into vLLM's worker class. By itself a worker ends when a pipe closes, once it looks."""

    def die_with_parent(self) -> None:
        """Let the kernel kill this process when the one that started it is gone, or has gone meanwhile."""
        parent = os.getppid()
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)


EXTENSION = f"{DiesWithParent.__module__}.{DiesWithParent.__qualname__}"
