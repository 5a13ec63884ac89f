"""Beam search: which continuations of a text are followed, which ended ones are kept, and when that is enough.

All of it by a rule, transformers' or vLLM's: see `beam_rules`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Protocol

from max_interfaces.protocols import Hypothesis
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
class Ended:
    """A text that has ended. Most are thrown away again, so what is `told` of its tokens is not put together yet."""

    tokens: tuple[int, ...]
    score: float
    status: GenerationStatus
    told: tuple[LogProbabilities, ...] = ()

    @property
    def hypothesis(self) -> Hypothesis:
        """As it is given."""
        return Hypothesis(self.tokens, self.score, self.status, LogProbabilities.joined(self.told))


@dataclass(frozen=True, slots=True)
class Move:
    """What a step makes of a search: the beams that go on and the texts that have ended, the best first in both."""

    beams: tuple[Beam, ...]
    ended: tuple[Ended, ...]
    done: bool


class SearchRule(Protocol):
    """What one search goes by. `length` counts the new tokens of a text, its last one among them."""

    @property
    def width(self) -> int:
        """How many beams go on at most, and how many texts that have ended are kept."""
        ...

    def part(self, found: Iterable[Beam], length: int) -> tuple[Sequence[Beam], Sequence[Beam]]:
        """Of all that follows the beams: the texts that have ended and count, and those that go on, the best first."""
        ...

    def score(self, beam: Beam, length: int) -> float:
        """What ranks an ended text, or would rank the beam if it ended here."""
        ...

    def status(self, token: int, length: int) -> GenerationStatus:
        """How a text ends with `token`."""
        ...

    def enough(self, kept: Sequence[Ended], hope: float) -> bool:
        """True if no beam, whose best has the score `hope` if it ends now, is to be waited for."""
        ...


class BeamSearch:
    """The search of one request: beams of equal length, over what the model says of each, to find its `count` best.

    Only what is possible is followed: rules may leave fewer beams than the width, and fewer texts that end. Of equal
    scores the one of the better beam, and then of the lower id, is first. `move` is pure, so that a step can be
    repeated; `take` makes it true.
    """

    def __init__(self, rule: SearchRule, count: int) -> None:
        self.beams: tuple[Beam, ...] = (START,)
        self.ended: tuple[Ended, ...] = ()
        self._rule = rule
        self._count = count

    @property
    def best(self) -> tuple[Hypothesis, ...]:
        """The best texts that have ended, the best first."""
        return tuple(one.hypothesis for one in self.ended[: self._count])

    def move(self, texts: Sequence[Sequence[int]], following: Sequence[Iterable[Continuation]]) -> Move:
        """The next step from the beams' `texts`, after what may follow each; neither is changed.

        `following` has as many of the likeliest of each beam as `beam_rules.looked_at` says, at least.
        """
        length = len(texts[0]) + 1
        ended, alive = self._rule.part(self._continued(following), length)
        found = [self._ended(beam, texts[beam.parent]) for beam in ended]
        best = tuple(sorted((*self.ended, *found), key=lambda one: -one.score)[: self._rule.width])
        done = not alive or self._rule.enough(best, self._rule.score(alive[0], length))
        return Move(tuple(replace(beam, told=self._told(beam)) for beam in alive), best, done)

    def take(self, move: Move) -> None:
        """Go on from where `move` leads."""
        self.beams, self.ended = move.beams, move.ended

    def _continued(self, following: Sequence[Iterable[Continuation]]) -> Iterable[Beam]:
        """All that may follow; what is told is of the last token alone."""
        for rank, (beam, continuations) in enumerate(zip(self.beams, following, strict=True)):
            for one in continuations:
                if isfinite(one.log_probability):  # else it is forbidden
                    told = () if one.told is None else (one.told,)
                    yield Beam(rank, one.token, beam.score + one.log_probability, told)

    def _told(self, beam: Beam) -> tuple[LogProbabilities, ...]:
        return (*self.beams[beam.parent].told, *beam.told)

    def _ended(self, beam: Beam, text: Sequence[int]) -> Ended:
        tokens = (*text, beam.token)
        score, status = self._rule.score(beam, len(tokens)), self._rule.status(beam.token, len(tokens))
        return Ended(tokens, score, status, self._told(beam))
