"""Beam search: which continuations of a text are followed, which ended ones are kept, and when that is enough.

The rule is that of transformers' `generate(num_beams=w, do_sample=False)`, version 5: the `w` likeliest continuations
of all beams together are looked at, and those of them that end are kept as hypotheses, the best `w` by sum of log
probabilities / length ** length_penalty; the `w` likeliest that do not end go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

from max_interfaces.protocols import Hypothesis
from max_interfaces.sampling import SamplingParams
from max_interfaces.status import GenerationStatus
from max_interfaces.text import LogProbabilities


@dataclass(frozen=True, slots=True)
class Continuation:
    """A token that may follow a beam, its log probability after the rules, and what is to be told of it."""

    token: int
    log_probability: float
    told: LogProbabilities | None = None


@dataclass(frozen=True, slots=True)
class Beam:
    """A text that may go on: the rank that the text before its last `token` had, and its sum of log probabilities."""

    parent: int
    token: int
    score: float
    told: tuple[LogProbabilities, ...] = ()


START = Beam(0, -1, 0.0)


@dataclass(frozen=True, slots=True)
class Move:
    """What a step makes of a search. `beams` go on, `hypotheses` have ended, the best first in both."""

    beams: tuple[Beam, ...]
    hypotheses: tuple[Hypothesis, ...]
    done: bool


class BeamSearch:
    """The search of one request: up to `width` beams, of equal length, over what the model says of each.

    A text ends with one of `end_ids`, not before `min_new_tokens`, or after `limit` tokens. Only what is possible is
    followed: rules may leave fewer beams than `width`, and fewer hypotheses. Of equal scores the one of the better
    beam, and then of the lower id, is first. `move` is pure, so that a step can be repeated; `take` makes it true.
    """

    def __init__(self, params: SamplingParams, width: int, end_ids: frozenset[int], limit: int) -> None:
        self.width = width
        self.beams: tuple[Beam, ...] = (START,)
        self.hypotheses: tuple[Hypothesis, ...] = ()
        self._end_ids = end_ids
        self._limit = limit
        self._params = params

    @property
    def best(self) -> tuple[Hypothesis, ...]:
        """The `n` best texts that have ended, the best first."""
        return self.hypotheses[: self._params.n]

    def move(self, texts: Sequence[Sequence[int]], following: Sequence[Iterable[Continuation]]) -> Move:
        """The next step from the beams' `texts`, after what may follow each; neither is changed.

        `following` has the likeliest `width` of each beam and as many more as there are `end_ids`, at least.
        """
        ranked = sorted(self._continued(following), key=lambda beam: (-beam.score, beam.parent, beam.token))
        length = len(texts[0]) + 1
        ended = [beam for beam in ranked[: self.width] if self._ends(beam.token, length)]
        alive = tuple([beam for beam in ranked if not self._ends(beam.token, length)][: self.width])
        found = [self._hypothesis(beam, texts[beam.parent]) for beam in ended]
        best = tuple(sorted((*self.hypotheses, *found), key=lambda one: -one.score)[: self.width])
        return Move(alive, best, not alive or self._enough(best, alive[0].score / self._weight(length)))

    def take(self, move: Move) -> None:
        """Go on from where `move` leads."""
        self.beams, self.hypotheses = move.beams, move.hypotheses

    def _continued(self, following: Sequence[Iterable[Continuation]]) -> Iterable[Beam]:
        for rank, (beam, continuations) in enumerate(zip(self.beams, following, strict=True)):
            for one in continuations:
                if isfinite(one.log_probability):  # else it is forbidden
                    told = beam.told if one.told is None else (*beam.told, one.told)
                    yield Beam(rank, one.token, beam.score + one.log_probability, told)

    def _hypothesis(self, beam: Beam, text: Sequence[int]) -> Hypothesis:
        tokens = (*text, beam.token)
        ends = beam.token in self._end_ids and len(tokens) >= self._params.min_new_tokens
        status = GenerationStatus.END_OF_SEQUENCE if ends else GenerationStatus.MAXIMUM_LENGTH
        return Hypothesis(tokens, beam.score / self._weight(len(tokens)), status, LogProbabilities.joined(beam.told))

    def _ends(self, token: int, length: int) -> bool:
        return length >= self._limit or (token in self._end_ids and length >= self._params.min_new_tokens)

    def _enough(self, best: Sequence[Hypothesis], hope: float) -> bool:
        """True if no beam, whose best has the score `hope` if it ends now, is to be waited for."""
        return len(best) == self.width and (self._params.early_stopping or hope <= best[-1].score)

    def _weight(self, length: int) -> float:
        weight: float = length**self._params.length_penalty
        return weight
