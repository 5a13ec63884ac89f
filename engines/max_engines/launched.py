"""A step's work that the device has been given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from max_interfaces.text import LogProbabilities

from . import sequence
from .beams import BeamSearch, Move
from .rules import SequenceError
from .sampled import Sampled
from .scheduler import Chunk


@dataclass(frozen=True, eq=False)
class Launched:
    """What is computed, in the order of the step's rows, and what was sampled after it; None if nothing was.

    `prompts[i]` `[tokens, vocabulary]` are the logits of chunk i's prompt, if they were asked for, `hidden[i]`
    `[tokens, hidden]` its hidden states.
    """

    chunks: Sequence[Chunk]
    prompts: Mapping[int, Tensor]
    sampled: Sampled | None
    hidden: Mapping[int, Tensor] = field(default_factory=dict)

    @cached_property
    def rows(self) -> Mapping[sequence.Sequence, int]:
        """Which of the sampled tokens is whose."""
        sampling = [chunk.sequence for chunk in self.chunks if chunk.samples]
        return {sampler: row for row, sampler in enumerate(sampling)}

    def moves(self) -> dict[sequence.Sequence, tuple[BeamSearch, Move]]:
        """Where each beam search goes from here. SequenceError names the first that has nowhere to go."""
        if self.sampled is None or not self.sampled.continuations:
            return {}
        searches = {row.team[0]: row.search for row in self.rows if row.search is not None}
        return {lead: (search, self._move(lead, search, self.sampled)) for lead, search in searches.items()}

    def _move(self, lead: sequence.Sequence, search: BeamSearch, sampled: Sampled) -> Move:
        beams = lead.rows
        found = [sampled.continuations[self.rows[beam]] for beam in beams]
        move = search.move([beam.row.output for beam in beams], found)
        if move.done and not move.ended:
            raise SequenceError(str(lead.request_id), "no token can follow any of its beams: every score is -inf")
        return move

    def prompt_scores(self) -> dict[Chunk, LogProbabilities | None]:
        """The log probabilities of the prompts. SequenceError names the first with one that is no number."""
        scored: dict[Chunk, LogProbabilities | None] = {}
        for index, logits in self.prompts.items():
            chunk = self.chunks[index]
            try:
                scored[chunk] = chunk.sequence.prompt_scores(chunk.first, logits)
            except ValueError as problem:
                reason = f"its prompt has no log probabilities: {problem}"
                raise SequenceError(str(chunk.sequence.request_id), reason) from problem
        return scored
