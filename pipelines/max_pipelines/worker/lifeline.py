"""A worker must not outlive who started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """End this process when its parent is gone, in two ways.

    Standard input is a pipe that the parent holds open: a thread ends us when it closes. And on Linux the kernel
    kills us, even if we are deep in a kernel of the device; that is safe because the server's main thread, which
    started us, lives as long as the server.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, name="lifeline", daemon=True).start()


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)
