"""What a model writes between `<think>` and `</think>`, apart from what follows."""

from __future__ import annotations

from collections.abc import Iterator

from .pieces import Piece, Reader, Reasoning, unfinished

START, END = "<think>", "</think>"


class ThinkingReader:
    """Reads the block that a text may begin with; what follows is for the reader `then`.

    A tag later in a text is one that the model speaks of. `inside` says that the prompt has opened the block. Blanks
    around the tags are nobody's.
    """

    def __init__(self, then: Reader, *, inside: bool = False) -> None:
        self._then = then
        self._held = ""
        self._read = self._thought if inside else self._begun
        self._blank = True  # as long as nothing was thought, or said behind it

    def push(self, text: str) -> Iterator[Piece]:
        """See `Reader`."""
        self._held += text
        return self._read()

    def finish(self) -> Iterator[Piece]:
        """See `Reader`."""
        text, self._held = self._held, ""
        if self._read == self._thought:
            yield from self._thoughts(text)
        elif self._read == self._begun:
            yield from self._then.push(text)
        yield from self._then.finish()

    def _begun(self) -> Iterator[Piece]:
        """Before it is known whether there is a block."""
        text = self._held.lstrip()
        if text.startswith(START):
            self._held = text.removeprefix(START)
            self._read = self._thought
            yield from self._read()
        elif not START.startswith(text):
            self._read = self._said
            yield from self._said()

    def _thought(self) -> Iterator[Piece]:
        """Within the block."""
        thought, end, rest = self._held.partition(END)
        if end:
            self._held = rest
            yield from self._thoughts(thought)
            self._read = self._behind
            yield from self._read()
        else:
            certain = unfinished(thought, END)
            self._held = thought[certain:]
            yield from self._thoughts(thought[:certain])

    def _thoughts(self, text: str) -> Iterator[Piece]:
        text = text.lstrip() if self._blank else text
        if text:
            self._blank = False
            yield Reasoning(text)

    def _behind(self) -> Iterator[Piece]:
        """Behind it, before anything is said."""
        self._held = self._held.lstrip()
        if self._held:
            self._read = self._said
            yield from self._said()

    def _said(self) -> Iterator[Piece]:
        text, self._held = self._held, ""
        return self._then.push(text)
