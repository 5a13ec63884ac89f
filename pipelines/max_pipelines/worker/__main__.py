"""`python -m max_pipelines.worker CONFIG --connect ADDRESS`: one worker process."""

from __future__ import annotations

import argparse
import os
import signal
import sys

import zmq

from max_interfaces import ConfigError

from ..address import check_address
from ..config import load_config
from .lifeline import die_with_parent
from .loop import run_worker


def main(arguments: list[str] | None = None) -> int:
    """Run a worker until it is told to retire. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="maxpipe worker", description="one worker, connected to a server")
    parser.add_argument("config", help="the server's YAML file")
    parser.add_argument("--connect", required=True, metavar="ADDRESS", help="the server's ipc:// address")
    parser.add_argument("--name", default="worker", help="what it calls itself; two workers need two names")
    parser.add_argument("--supervised", action="store_true", help="end when standard input closes")
    options = parser.parse_args(arguments)
    if options.supervised:
        die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server decides
    try:
        config = load_config(options.config)
        address = check_address(options.connect)
    except ConfigError as problem:
        print(f"maxpipe worker: {problem}", file=sys.stderr)  # noqa: T201
        return 2
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # read once, when torch is first imported
        os.environ[variable] = str(config.workers.threads)
    return run_worker(config, address, options.name, zmq.Context.instance())


if __name__ == "__main__":
    sys.exit(main())
