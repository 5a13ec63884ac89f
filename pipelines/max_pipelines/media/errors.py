"""What goes wrong with media: always a ValueError, and it says with which item."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 300  # characters of what a library says


class _Refused(ValueError):
    """Found by us while a library was at work."""


@contextmanager
def named(name: str) -> Iterator[None]:
    """Let each ValueError begin with the item's name."""
    try:
        yield
    except ValueError as problem:
        raise ValueError(f"{name}: {problem}") from problem.__cause__


@contextmanager
def decoding(what: str) -> Iterator[None]:
    """Whatever a library raises when it meets bytes that are not what they should be, as a ValueError.

    Decoders raise nearly anything: struct.error, IndexError, TypeError, MemoryError.
    """
    try:
        yield
    except _Refused:
        raise
    except Exception as problem:
        said = f"{type(problem).__name__}: {problem}"[:LONGEST]
        raise ValueError(f"cannot be decoded as {what} ({said})") from problem


def refuse(text: str) -> _Refused:
    """A refusal of ours, which `decoding` passes on as it is."""
    return _Refused(text)
