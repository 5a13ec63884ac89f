"""The end of a text that is still being written: as much of it as what comes may make a border of."""

from __future__ import annotations

import re

from .splitting import bare_word, is_abbreviation

_SPACE = re.compile(r"\s")
# After a letter these end a clause whatever comes; a full stop, a colon or a dash may be within a name or a number.
_CLAUSE_SO_FAR = re.compile(r"""[^\W\d_]([,;!?]*)(["'”’)\]]*)\Z""")


class Tail:
    """The last word of a text without a border so far, and what is to be known of all before it.

    A border ends in white space, and never begins before a word that it ends behind. So borders are looked for only
    when white space comes, from the last word on; and of a word with white space behind it a stand-in will do. Behind
    an abbreviation the next letter tells, too, whether there is a border.
    """

    def __init__(self) -> None:
        self.words = 0  # in all of the text
        self.words_before = 0  # in front of what the last `push` gave
        self.last_space = -1  # where the last " " is that has something else behind it
        self.clause_so_far = ""  # what ends a clause here, even if nothing comes after it
        self._length = 0
        self._space = -1  # where the last " " is
        self._word: list[str] = []  # the last word in pieces, or its stand-in
        self._goes_on = False  # it is the last word that the next letter belongs to
        self._undecided = False  # it ends in an abbreviation, and in white space
        self._end = ""  # a stand-in for the last letter and the marks behind it

    def push(self, text: str) -> str:
        """More of the text; its end, as far as a border may be in it that was none before, or "" if there is none."""
        if not text:
            return ""
        self._note_space(text)
        self._note_clause(text)
        if not (self._undecided or _SPACE.search(text)):
            if not self._goes_on:
                self._word, self._goes_on, self.words = [], True, self.words + 1
            self._word.append(text)
            return ""
        fresh = "".join([*self._word, text])
        self.words_before = self.words - bool(self._word)
        self.words = self.words_before + len(fresh.split())
        self._goes_on = not fresh[-1].isspace()
        self._undecided = not self._goes_on and not fresh.isspace() and is_abbreviation(fresh, "")
        self._word = [fresh.split()[-1]] if self._goes_on else _stand_in(fresh, self._undecided)
        return fresh

    def _note_space(self, text: str) -> None:
        if seen := text.rstrip():
            space = seen.rfind(" ")
            self.last_space = self._space if space < 0 else self._length + space
        if (space := text.rfind(" ")) >= 0:
            self._space = self._length + space
        self._length += len(text)

    def _note_clause(self, text: str) -> None:
        found = _CLAUSE_SO_FAR.search(self._end + text)
        marks, quotes = found.groups() if found else ("", "")
        self.clause_so_far = marks
        mark = "!" if set(marks) & {"!", "?"} else marks[:1]
        self._end = f"a{mark}{quotes[:1]}" if found and (marks or not quotes) else ""


def _stand_in(text: str, undecided: bool) -> list[str]:
    """For a text that ends in white space: the shortest behind which the same are borders."""
    words = text.rstrip()
    if not words:
        return []
    space = "\n" if "\n" in text[len(words) :] else " "
    return [f"{bare_word(words.split()[-1])}.{space}" if undecided else f"a{space}"]
