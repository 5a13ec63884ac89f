"""Compiled libraries: found, seen to be of this version, and opened."""

from __future__ import annotations

import ctypes
import warnings
import zlib
from functools import cache
from pathlib import Path


@cache
def open_library(source: Path, variant: str) -> ctypes.CDLL | None:
    """The library that `hatch_build.py` made of a source, for one kind of machine; None if it is not there."""
    path = source.with_name(f"{source.stem}-{variant}.so")
    if not path.exists():
        return None
    try:
        library = ctypes.CDLL(str(path))
        made_from = ctypes.c_uint32.in_dll(library, "source_digest").value
        source_is = digest(source.parent)
    except (OSError, ValueError) as problem:
        warnings.warn(f"compiled operations are not used, which costs speed: {problem}", stacklevel=2)
        return None
    if made_from != source_is:
        warnings.warn(
            f"{path} is of another version, and not used, which costs speed: install maxpipe again",
            stacklevel=2,
        )
        return None
    return library


def digest(folder: Path) -> int:
    """A number of all sources in a folder."""
    sources = sorted([*folder.glob("*.cpp"), *folder.glob("*.h")])
    return zlib.crc32(b"".join(path.read_bytes() for path in sources))
