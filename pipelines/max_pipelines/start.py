"""`python -m max_pipelines.start MODULE ARGUMENT...`: a process of ours, of the module `MODULE.__main__`.

What it imports is put where its objects shall lie, which has to be said first; so this imports little.
"""

from __future__ import annotations

import sys
from importlib import import_module

from .huge_pages import place_objects


def main() -> int:
    """Become that module's process. Returns its exit code."""
    place_objects()
    module = sys.argv.pop(1)
    return int(import_module(f"{module}.__main__").main())


if __name__ == "__main__":
    sys.exit(main())
