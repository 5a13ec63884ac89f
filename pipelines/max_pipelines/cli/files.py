"""Checks of the files that a command is to write, before the work begins."""

from __future__ import annotations

import os
from pathlib import Path


def check_writable(name: str) -> None:
    """OSError that names the path if nothing can be written there; ValueError for no name."""
    path = Path(name)
    if not name:
        raise ValueError("the name of the output file is empty")
    if not path.parent.is_dir():
        raise FileNotFoundError(2, "its folder does not exist", name)
    if path.is_dir():
        raise IsADirectoryError(21, "is a folder", name)
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PermissionError(13, "cannot be written", name)
