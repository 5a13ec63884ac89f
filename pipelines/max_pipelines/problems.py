"""What goes wrong with a request: the whole story for the worker's own log, one line for the client."""

from __future__ import annotations

import sys
import traceback

from max_interfaces import Failure, FailureKind

LONGEST = 4096  # characters of a reason, as the wire takes them


def report(problem: Exception) -> None:
    """Print where it came from."""
    traceback.print_exception(problem, file=sys.stderr)


def sendable(text: str) -> str:
    """As much of it as a message may hold. An error may name a file, and that a name that UTF-8 cannot carry."""
    return text[:LONGEST].encode(errors="replace").decode()


def failure_of(problem: Exception) -> Failure:
    """Why a request has failed that met an error of ours, or of a model's."""
    return Failure(FailureKind.WORKER_ERROR, sendable(f"{type(problem).__name__}: {problem}"))
