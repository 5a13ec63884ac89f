"""The whole text behind its parts: where in it, and when in the whole sound, their words are."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from max_interfaces import WordTimestamp

_LOOK = 4096  # characters of the text that are looked at at once: about a part


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part is in the whole text: `places` are those of its characters that are no white space."""

    part: str
    places: Sequence[int]

    def words(self, words: Iterable[WordTimestamp], when: Callable[[float], float]) -> tuple[WordTimestamp, ...]:
        """Words of the part, whose seconds are heard in the whole `when`; from 0 to 0 where the text is not known."""
        return tuple(self._placed(word, when) for word in words)

    def _placed(self, word: WordTimestamp, when: Callable[[float], float]) -> WordTimestamp:
        places = self.places[self._solid(word.text_start) : self._solid(word.text_end)]
        start, end = (places[0], places[-1] + 1) if places else (0, 0)
        return replace(word, start=when(word.start), end=when(word.end), text_start=start, text_end=end)

    def _solid(self, end: int) -> int:
        """How many characters of the part up to there are no white space."""
        return len(_solid(self.part[:end]))


class Transcript:
    """The text as far as it is known. Parts hold its characters in order, with other white space between them.

    Parts without a word are never spoken. So each is looked for, as a whole: it is too long to be found by chance.
    """

    def __init__(self, text: str = "") -> None:
        self._unseen: deque[str] = deque()
        self._seen = 0  # characters that were looked at
        self._text = ""  # of these all that are no white space, behind the last part
        self._places = array("q")  # and where in the whole each of them is
        self.write(text)

    def write(self, text: str) -> None:
        """More of it."""
        self._unseen.extend(text[start : start + _LOOK] for start in range(0, len(text), _LOOK))

    def begin(self, part: str) -> Place:
        """The next part."""
        sought = _solid(part)
        while (start := self._text.find(sought)) < 0 and self._unseen:
            self._forget(len(self._text) + 1 - len(sought))
            self._look()
        if start < 0:
            return Place(part, ())
        end = start + len(sought)
        places = self._places[start:end]
        self._forget(end)
        return Place(part, places)

    def _look(self) -> None:
        text = self._unseen.popleft()
        self._text += _solid(text)
        self._places.extend(at for at, character in enumerate(text, self._seen) if not character.isspace())
        self._seen += len(text)

    def _forget(self, end: int) -> None:
        """What is before that."""
        if end > 0:
            self._text, self._places = self._text[end:], self._places[end:]


def _solid(text: str) -> str:
    """What of it is no white space."""
    return "".join(text.split())
