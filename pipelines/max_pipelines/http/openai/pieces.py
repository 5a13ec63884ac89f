"""What a model's text is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol, TypeAlias


class Reasoning(NamedTuple):
    """What it thought."""

    text: str


class Content(NamedTuple):
    """What it said."""

    text: str


class CallBegins(NamedTuple):
    """It calls a function; `number` counts its calls. The arguments follow."""

    number: int
    name: str


class Arguments(NamedTuple):
    """More of the arguments of a call, as JSON."""

    number: int
    text: str


Piece: TypeAlias = Reasoning | Content | CallBegins | Arguments


class Reader(Protocol):
    """Takes a text that comes in pieces apart. The same result, joined, for any split of the text."""

    def push(self, text: str) -> Iterator[Piece]:
        """What is certain now. To be read to its end."""
        ...

    def finish(self) -> Iterator[Piece]:
        """The rest: nothing more will come."""
        ...


class Plain:
    """A text that is content and nothing else."""

    def push(self, text: str) -> Iterator[Piece]:
        """See `Reader`."""
        if text:
            yield Content(text)

    def finish(self) -> Iterator[Piece]:
        """See `Reader`."""
        return iter(())


def unfinished(text: str, *marks: str) -> int:
    """Where the longest end of `text` begins that is the beginning of a mark, and no whole one; else its length."""
    longest = max(map(len, marks))
    for at in range(max(0, len(text) - longest + 1), len(text)):
        if any(mark.startswith(text[at:]) for mark in marks):
            return at
    return len(text)
