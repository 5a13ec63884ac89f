"""Which characters of a text are read as which words, whatever writes its numbers and signs out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Spell = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Written:
    """The characters from `start` up to `end` of a text, which are read as so many words."""

    start: int
    end: int
    words: int


def written_words(text: str, spell: Spell) -> list[Written]:
    """A text's words between white space in order, those that are read as none left out.

    `spell` writes words out in letters, perhaps several as one: "$5 million" are "five million dollars". Such are one
    here, for nothing says which of them is which.
    """
    pieces = [(match.start(), match.end()) for match in re.finditer(r"\S+", text)]
    read = words_of(spell(text))
    alone = [words_of(spell(text[start:end])) for start, end in pieces]
    if [word for words in alone for word in words] == read:
        counts = [len(words) for words in alone]
    else:
        pieces, counts = _together(text, spell, pieces, read)
    return [Written(*piece, count) for piece, count in zip(pieces, counts, strict=True) if count]


def words_of(spelled: str) -> list[str]:
    """The words of a text that is written out, without their marks: these depend on what is around."""
    bare = ("".join(filter(str.isalnum, word)) for word in spelled.split())
    return [word for word in bare if word]


def _together(
    text: str, spell: Spell, pieces: Sequence[tuple[int, int]], read: list[str]
) -> tuple[list[tuple[int, int]], list[int]]:
    """Pieces with so many words each, cut only where that changes nothing in how the text is read."""
    groups: list[tuple[int, int]] = []
    counts: list[int] = []
    begin = done = 0
    for number, (_, end) in enumerate(pieces):
        left, right = words_of(spell(text[:end])), words_of(spell(text[end:]))
        is_last = number + 1 == len(pieces)
        if is_last or (left + right == read and len(left) >= done):
            words = len(read) if is_last else len(left)
            groups.append((pieces[begin][0], end))
            counts.append(words - done)
            begin, done = number + 1, words
    return groups, counts
