"""A text that is still being written, cut into parts as soon as each can be spoken."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from io import SEEK_END, StringIO

from max_interfaces import InvalidRequest

from .splitting import CLAUSE_END, SENTENCE_END, Part, ends, is_abbreviation, split_text
from .tail import Tail

FIRST_WORDS = 3  # a clause that may be spoken before its sentence is there has at least so many: less sounds lost
MAX_HELD = 2**16  # characters without a border, some ten thousand words: nobody says that in one breath
_ENDS_MORE = re.compile(r"[!?\n]")  # than a clause


class ArrivingText:
    """Whole sentences, each when it is complete; the first sound need not wait for that, so its first clause is enough.

    However the text comes, every word of it is in one part, in order. `max_words` and `count` are as in `split_text`.
    A piece costs what its own characters cost, whatever is held: borders are looked for in the tail of the text alone.
    """

    def __init__(self, max_words: int, count: Callable[[str], int] = lambda part: len(part.split())) -> None:
        self._max_words = max_words
        self._count = count
        self._silent = True  # nothing has been given since the beginning, or since the last flush
        self._hold("")

    def push(self, text: str) -> list[Part]:
        """More of it; the parts that are complete now. InvalidRequest for more than `MAX_HELD` without a border."""
        fresh = self._tail.push(text)  # the end of what is held, as far as new borders may be in it
        self._held.write(text)
        self._length += len(text)
        parts = self._cut(fresh)
        if self._length > MAX_HELD:
            self._hold("")
            raise InvalidRequest(
                f"text: has more than {MAX_HELD} characters without the end of a sentence, the most that is held; "
                "end the sentence, or flush"
            )
        return parts

    def flush(self) -> list[Part]:
        """What is still held is complete."""
        parts = self._give(self._length)
        self._silent = True
        return parts

    def _cut(self, fresh: str) -> list[Part]:
        before = self._length - len(fresh)
        if end := max(ends(fresh, SENTENCE_END, is_abbreviation), default=0):
            return self._give(before + end)
        if self._silent:
            for border in CLAUSE_END.finditer(fresh):
                if self._tail.words_before + len(fresh[: border.end()].split()) >= FIRST_WORDS:
                    return self._give(before + border.end(), goes_on=not _ENDS_MORE.search(border[0]))
            if (marks := self._tail.clause_so_far) and self._tail.words >= FIRST_WORDS:
                return self._give(self._length, goes_on=not _ENDS_MORE.search(marks))
        return self._give(self._overflow() if self._max_words else 0, goes_on=True)

    def _give(self, end: int, *, goes_on: bool = False) -> list[Part]:
        """The parts up to there; `goes_on` if that is within a sentence."""
        if not end:
            return []
        text = self._held.getvalue()
        ready, rest = text[:end], text[end:]
        self._hold(rest)
        parts = split_text(ready, self._max_words, self._count)
        self._silent = self._silent and not parts
        if goes_on and parts:
            parts[-1] = replace(parts[-1], joined=True, followed=any(map(str.isalnum, rest)))
        return parts

    def _hold(self, text: str) -> None:
        self._held = StringIO(text)
        self._held.seek(0, SEEK_END)
        self._length = len(text)
        self._tail = Tail()
        self._tail.push(text)
        self._checked = 0  # up to where it is known to be one part
        self._full = False  # that part is more than is taken, as one word alone may be

    def _overflow(self) -> int:
        """Up to where parts are full, if what is there is more than one takes. The last of them may yet get more.

        Only another word can make it more, so that what is held is counted once for each.
        """
        end = self._tail.last_space + 1
        if end <= self._checked:
            return 0
        self._held.seek(self._checked)
        more = self._count(self._held.read(end - self._checked)) > 0
        self._held.seek(0, SEEK_END)
        self._checked = end
        if not (more or self._full):
            return 0
        ready = self._held.getvalue()[:end]
        is_more = self._count(ready) > self._max_words
        self._full = more and is_more
        parts = split_text(ready, self._max_words, self._count) if is_more else []
        if len(parts) < 2:
            return 0
        words = [match.start() for match in re.finditer(r"\S+", ready)]
        return words[-len(parts[-1].text.split())]
