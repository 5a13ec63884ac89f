"""The command `maxpipe`, up to where its memory lies, which cannot be changed later. So it imports little."""

from __future__ import annotations

import sys

from .huge_pages import begin_anew

LASTING = {"serve": False, "worker": True}  # whether it holds tensors


def script() -> int:
    """What the shell starts. Returns the exit code."""
    if sys.argv[1:] and sys.argv[1] in LASTING:
        begin_anew(tensors=LASTING[sys.argv[1]])
    from .cli import main

    return main()
