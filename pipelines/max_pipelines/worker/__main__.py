"""`python -m max_pipelines.worker CONFIG --connect ADDRESS`: one worker process."""

from __future__ import annotations

import argparse
import sys

from max_interfaces import ConfigError

from .process import add_arguments, run_process


def main() -> int:
    """Run a worker until it is told to retire. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="maxpipe worker", description="one worker, connected to a server")
    add_arguments(parser)
    try:
        return run_process(parser.parse_args())
    except ConfigError as problem:
        print(f"maxpipe worker: {problem}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
