"""What goes wrong: the whole story for our own log, one line for the client.

Nobody ends because the log cannot be written: its disk may be full, or its reader gone.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from typing import TextIO

from max_interfaces import Failure, FailureKind

LONGEST = 4096  # characters of a reason, as the wire takes them


def say(text: str, stream: TextIO | None) -> None:
    """Print a text at once, if that can be done: a process may also have been started without the stream."""
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):  # it cannot be written; it is closed
            print(text, file=stream, flush=True)


def complain(text: str) -> None:
    """A line for the log."""
    say(f"maxpipe: {text}", sys.stderr)


def report(problem: Exception) -> None:
    """Print where it came from."""
    say("".join(traceback.format_exception(problem)).rstrip(), sys.stderr)


def sendable(text: str) -> str:
    """As much of it as a message may hold. An error may name a file, and that a name that UTF-8 cannot carry."""
    return text[:LONGEST].encode(errors="replace").decode()


def failure_of(problem: Exception) -> Failure:
    """Why a request has failed that met an error of ours, or of a model's."""
    return Failure(FailureKind.WORKER_ERROR, sendable(f"{type(problem).__name__}: {problem}"))
