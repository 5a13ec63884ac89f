"""`python -m max_pipelines.http CONFIG --connect ADDRESS --socket FD`: one face process."""

from __future__ import annotations

import argparse
import sys

from max_interfaces import ConfigError

from .process import add_arguments, run_process


def main() -> int:
    """Run a face until it is told to end. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="maxpipe http", description="the HTTP face of a server")
    add_arguments(parser)
    try:
        return run_process(parser.parse_args())
    except ConfigError as problem:
        print(f"maxpipe http: {problem}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
