"""A text that is still being written, cut into parts as soon as each can be spoken."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from .splitting import CLAUSE_END, NO_PAUSE_S, SENTENCE_END, Part, is_abbreviation, split_text

FIRST_WORDS = 3  # a clause that may be spoken before its sentence is there has at least so many: less sounds lost
# After a letter these end a clause whatever comes; a full stop, a colon or a dash may be within a name or a number.
_CLAUSE_SO_FAR = re.compile(r"""(?<=[^\W\d_])[,;!?]+["'”’)\]]*\Z""")
_ENDS_MORE = re.compile(r"[!?\n]")  # than a clause


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
        if end := _last_border(self._held, SENTENCE_END):
            return self._give(end)
        if self._silent and (border := self._first_clause()):
            return self._give(border.end(), goes_on=not _ENDS_MORE.search(border[0]))
        return self._give(self._overflow() if self._max_words else 0, goes_on=True)

    def flush(self) -> list[Part]:
        """What is still held is complete."""
        parts = self._give(len(self._held))
        self._silent = True
        return parts

    def _give(self, end: int, *, goes_on: bool = False) -> list[Part]:
        """The parts up to there; `goes_on` if that is within a sentence."""
        ready, self._held = self._held[:end], self._held[end:]
        parts = split_text(ready, self._max_words, self._count)
        self._silent = self._silent and not parts
        if goes_on and parts:
            parts[-1] = replace(parts[-1], pause_s=NO_PAUSE_S, followed=any(map(str.isalnum, self._held)))
        return parts

    def _first_clause(self) -> re.Match[str] | None:
        for border in (*CLAUSE_END.finditer(self._held), *_CLAUSE_SO_FAR.finditer(self._held)):
            if len(self._held[: border.end()].split()) >= FIRST_WORDS:
                return border
        return None

    def _overflow(self) -> int:
        """Up to where parts are full, if what is there is more than one takes. The last of them may yet get more."""
        end = self._held.rstrip().rfind(" ") + 1
        parts = split_text(self._held[:end], self._max_words, self._count)
        if len(parts) < 2:
            return 0
        words = [match.start() for match in re.finditer(r"\S+", self._held[:end])]
        return words[-len(parts[-1].text.split())]


def _last_border(text: str, border: re.Pattern[str]) -> int:
    """Where the last complete sentence ends. What may yet be an abbreviation is none."""
    end = 0
    for match in border.finditer(text):
        piece = text[end : match.end()].strip()
        if piece and not is_abbreviation(piece):
            end = match.end()
    return end
