"""The whole text behind its parts: where in it, and when in the whole sound, their words are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from max_interfaces import WordTimestamp

_KEPT = 2**16  # characters behind the last word, before they are let go: to cut them off costs what all the text costs


class Transcript:
    """The text as far as it is known. Parts hold its words in order, with other white space between them."""

    def __init__(self, text: str = "") -> None:
        self._pieces: list[str] = []  # that came since the last look
        self._text = text
        self._at = 0  # the end of the last word
        self._start = 0  # the place of `_text` in the whole

    def write(self, text: str) -> None:
        """More of it."""
        self._pieces.append(text)

    def place(self, words: Iterable[WordTimestamp], when: Callable[[float], float]) -> tuple[WordTimestamp, ...]:
        """The next words, of a part whose seconds are heard in the whole `when`."""
        if self._at > _KEPT:
            self._text, self._start, self._at = self._text[self._at :], self._start + self._at, 0
        if self._pieces:
            self._text = "".join([self._text, *self._pieces])
            self._pieces = []
        return tuple(self._placed(word, when) for word in words)

    def _placed(self, word: WordTimestamp, when: Callable[[float], float]) -> WordTimestamp:
        start: int | None = None
        for piece in word.word.split():
            at = max(self._at, self._text.find(piece, self._at))
            start = at if start is None else start
            self._at = at + len(piece)
        return replace(
            word,
            start=when(word.start),
            end=when(word.end),
            text_start=self._start + (self._at if start is None else start),
            text_end=self._start + self._at,
        )
