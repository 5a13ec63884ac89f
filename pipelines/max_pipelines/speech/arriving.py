"""A text that is still being written, cut into parts as soon as each can be spoken."""

from __future__ import annotations

import re
from collections.abc import Callable

from .splitting import CLAUSE_END, SENTENCE_END, Part, is_abbreviation, split_text

FIRST_WORDS = 3  # a clause that may be spoken before its sentence is there has at least so many: less sounds lost


class ArrivingText:
    """Whole sentences, each when it is complete; the first sound need not wait for that, so its first clause is enough.

    However the text comes, every word of it is in one part, in order. `max_words` and `count` are as in `split_text`.
    """

    def __init__(self, max_words: int, count: Callable[[str], int] = lambda part: len(part.split())) -> None:
        self._max_words = max_words
        self._count = count
        self._held = ""
        self._silent = True  # nothing has been given since the beginning, or since the last flush

    def push(self, text: str) -> list[Part]:
        """More of the text; the parts that are complete now."""
        self._held += text
        end = _last_border(self._held, SENTENCE_END)
        if not end and self._silent:
            end = self._first_clause()
        if not end and self._max_words:
            end = self._overflow()
        return self._give(end)

    def flush(self) -> list[Part]:
        """What is still held is complete."""
        parts = self._give(len(self._held))
        self._silent = True
        return parts

    def _give(self, end: int) -> list[Part]:
        ready, self._held = self._held[:end], self._held[end:]
        parts = split_text(ready, self._max_words, self._count)
        self._silent = self._silent and not parts
        return parts

    def _first_clause(self) -> int:
        for match in CLAUSE_END.finditer(self._held):
            if len(self._held[: match.end()].split()) >= FIRST_WORDS:
                return match.end()
        return 0

    def _overflow(self) -> int:
        """Up to the last whole word, if that is more than one part takes."""
        end = self._held.rstrip().rfind(" ") + 1
        return end if self._count(self._held[:end]) > self._max_words else 0


def _last_border(text: str, border: re.Pattern[str]) -> int:
    """Where the last complete sentence ends. What may yet be an abbreviation is none."""
    end = 0
    for match in border.finditer(text):
        piece = text[end : match.end()].strip()
        if piece and not is_abbreviation(piece):
            end = match.end()
    return end
