"""`python -m max_pipelines.server CONFIG --address ADDRESS`: the server below an embedded client."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from max_interfaces import ConfigError

from ..config import load_config
from .serve import serve_embedded


def main() -> int:
    """Serve until the parent is gone. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="maxpipe server", description="a server that ends with its parent")
    parser.add_argument("config")
    parser.add_argument("--address", required=True)
    parser.add_argument("--parent", type=int, required=True, help="process id of the client")
    options = parser.parse_args()
    try:
        return serve_embedded(load_config(options.config), Path(options.config), options.address, options.parent)
    except ConfigError as problem:
        print(f"maxpipe: {problem}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
