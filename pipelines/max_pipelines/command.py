"""The command `maxpipe`, up to where its memory lies, which has to be said first. So it imports little."""

from __future__ import annotations

import sys

from .huge_pages import begin_anew, place_objects

LASTING = ("serve", "worker")


def script() -> int:
    """What the shell starts. Returns the exit code."""
    if sys.argv[1:] and sys.argv[1] in LASTING:
        begin_anew()
        place_objects()
    from .cli import main

    return main()
