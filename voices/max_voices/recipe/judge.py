"""The judge: pocketsphinx with the English model that comes in its package."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pocketsphinx import Decoder

from max_voices.recipe.corpus import plain

_SILENCE = np.zeros(4000, np.int16)  # 0.25 s around each utterance, the same for all who are judged


@dataclass(frozen=True, slots=True)
class Hearing:
    """What was heard of one sentence."""

    said: str
    heard: str

    @property
    def aligned(self) -> tuple[tuple[str, str], ...]:
        """Said words beside heard ones, with the fewest that differ; "" where a word was left out or added."""
        said, heard = self.said.split(), self.heard.split()
        errors = _errors(said, heard)
        pairs, row, place = list[tuple[str, str]](), len(said), len(heard)
        while row or place:
            least = errors[row][place]
            if row and place and least == errors[row - 1][place - 1] + (said[row - 1] != heard[place - 1]):
                row, place = row - 1, place - 1
                pairs.append((said[row], heard[place]))
            elif row and least == errors[row - 1][place] + 1:
                row -= 1
                pairs.append((said[row], ""))
            else:
                place -= 1
                pairs.append(("", heard[place]))
        return tuple(reversed(pairs))

    @property
    def errors(self) -> int:
        """Word substitutions, insertions and deletions."""
        return _errors(self.said.split(), self.heard.split())[-1][-1]


def _errors(said: Sequence[str], heard: Sequence[str]) -> list[list[int]]:
    """The fewest errors between the first words of both, for each two numbers of words (Levenshtein)."""
    table = [list(range(len(heard) + 1))]
    for number, word in enumerate(said, 1):
        row = [number]
        for place, other in enumerate(heard):
            row.append(min(row[place] + 1, table[-1][place + 1] + 1, table[-1][place] + (word != other)))
        table.append(row)
    return table


class Judge:
    def __init__(self) -> None:
        self._decoder = Decoder(samprate=16000, loglevel="FATAL")

    def hear(self, said: str, samples: npt.NDArray[np.float32]) -> Hearing:
        """Transcribes float32 samples in −1…1 at 16 kHz."""
        whole = np.concatenate([_SILENCE, (samples.clip(-1, 1) * 32767).astype(np.int16), _SILENCE])
        self._decoder.start_utt()
        self._decoder.process_raw(whole.tobytes(), False, True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return Hearing(plain(said), plain(hypothesis.hypstr) if hypothesis else "")


def word_error_rate(hearings: Sequence[Hearing]) -> float:
    """Errors over all words, sentences joined: the usual definition."""
    return sum(h.errors for h in hearings) / sum(len(h.said.split()) for h in hearings)
