"""Run a worker alone, connected to a server that runs already."""

from __future__ import annotations

import argparse

from ..worker.process import add_arguments as add_worker_arguments
from ..worker.process import run_process


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `worker`."""
    add_worker_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Serve until the server retires it."""
    return run_process(options)
