"""Which characters of a text are read as which words, whatever writes its numbers and signs out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, takewhile

Spell = Callable[[str], str]

_TRIES = 16  # places where a run of words may be cut: who has more words that are read as one gets them as one
_MOST_READ = 2**16  # characters, to find where a text may be cut: about a second


@dataclass(frozen=True, slots=True)
class Written:
    """The characters from `start` up to `end` of a text, which are read as so many words."""

    start: int
    end: int
    words: int


def written_words(text: str, spell: Spell) -> list[Written]:
    """A text's words between white space in order, those that are read as none left out.

    `spell` writes words out in letters, perhaps several as one: "$5 million" are "five million dollars". Such are one
    here, for nothing says which of them is which, and so is what is left once `spell` was given too much to read.
    """
    return list(_Cutter(text, spell).cut_all())


def words_of(spelled: str) -> list[str]:
    """The words of a text that is written out, without their marks: these depend on what is around."""
    bare = ("".join(filter(str.isalnum, word)) for word in spelled.split())
    return [word for word in bare if word]


@dataclass(frozen=True, slots=True)
class _Piece:
    """What stands between white space, and how it is read alone; or a run of such that are read as nothing."""

    start: int
    end: int
    alone: Sequence[str]


class _Cutter:
    """Cuts a text only where that changes nothing in how it is read."""

    def __init__(self, text: str, spell: Spell) -> None:
        self._text = text
        self._spell = spell
        self._pieces = list(_pieces(text, spell))
        self._budget = _MOST_READ

    def cut_all(self) -> Iterator[Written]:
        """All of the text."""
        return self._cut(0, len(self._pieces), words_of(self._spell(self._text)))

    def _cut(self, begin: int, end: int, read: list[str]) -> Iterator[Written]:
        """The pieces from `begin` up to `end`, which together are read so."""
        pieces = self._pieces[begin:end]
        if _joined(pieces) == read:
            yield from (Written(piece.start, piece.end, len(piece.alone)) for piece in pieces if piece.alone)
            return
        for place in islice(_places(pieces, read), _TRIES):
            early = self._read(begin, begin + place)
            if early is None or read[: len(early)] != early:
                continue
            late = read[len(early) :]
            if self._read(begin + place, end) == late:
                yield from self._cut(begin, begin + place, early)
                yield from self._cut(begin + place, end, late)
                return
        if read:
            yield Written(pieces[0].start, pieces[-1].end, len(read))

    def _read(self, begin: int, end: int) -> list[str] | None:
        """How the pieces from `begin` up to `end` are read together; None once too much was read."""
        text = self._text[self._pieces[begin].start : self._pieces[end - 1].end]
        self._budget -= len(text)
        return words_of(self._spell(text)) if self._budget >= 0 else None


def _pieces(text: str, spell: Spell) -> Iterator[_Piece]:
    alone: dict[str, list[str]] = {}
    run: _Piece | None = None  # of those without a word
    for match in re.finditer(r"\S+", text):
        if match[0] not in alone:
            alone[match[0]] = words_of(spell(match[0]))
        if words := alone[match[0]]:
            yield from filter(None, [run])
            run = None
            yield _Piece(*match.span(), words)
        else:
            run = _Piece(run.start if run else match.start(), match.end(), ())
    yield from filter(None, [run])


def _places(pieces: Sequence[_Piece], read: list[str]) -> Iterator[int]:
    """Behind how many pieces it may be possible to cut, each once, the most likely first.

    That is behind those that are read as they are alone, or one before, from either end; and near the middle.
    """
    early = _alike(pieces, read)
    late = len(pieces) - _alike([_reversed(piece) for piece in reversed(pieces)], read[::-1])
    middle = len(pieces) // 2
    around = chain.from_iterable((middle + step, middle - step) for step in range(len(pieces)))
    places = dict.fromkeys(chain((early, early - 1, late, late + 1), around))
    return (place for place in places if 0 < place < len(pieces))


def _alike(pieces: Sequence[_Piece], read: list[str]) -> int:
    """How many of the first pieces are read as they are alone."""
    done = 0

    def is_alike(piece: _Piece) -> bool:
        nonlocal done
        first, done = done, done + len(piece.alone)
        return read[first:done] == list(piece.alone)

    return sum(1 for _ in takewhile(is_alike, pieces))


def _reversed(piece: _Piece) -> _Piece:
    return _Piece(piece.start, piece.end, piece.alone[::-1])


def _joined(pieces: Sequence[_Piece]) -> list[str]:
    return list(chain.from_iterable(piece.alone for piece in pieces))
