"""The rules that a beam search can go by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from max_interfaces.protocols import SequenceStart
from max_interfaces.sampling import BeamRule, SamplingParams
from max_interfaces.status import GenerationStatus

from .beams import Beam, Ended, SearchRule


@dataclass(frozen=True, slots=True)
class Bounds:
    """What every rule has: a text ends with one of `end_ids`, not before `least` tokens, or after `limit`."""

    width: int
    length_penalty: float
    end_ids: frozenset[int]
    least: int
    limit: int

    def ends(self, token: int, length: int) -> bool:
        """True if `token` ends a text."""
        return token in self.end_ids and length >= self.least

    def status(self, token: int, length: int) -> GenerationStatus:
        """How a text ends with `token`."""
        return GenerationStatus.END_OF_SEQUENCE if self.ends(token, length) else GenerationStatus.MAXIMUM_LENGTH


@dataclass(frozen=True, slots=True)
class TransformersRule(Bounds):
    """That of transformers' `generate(num_beams=w, do_sample=False)`, version 5.

    The `w` likeliest continuations of all beams together are looked at, and those of them that end are kept, the best
    `w` by sum of log probabilities / length ** length_penalty; the `w` likeliest that do not end go on.
    """

    early_stopping: bool

    def part(self, found: Iterable[Beam], length: int) -> tuple[Sequence[Beam], Sequence[Beam]]:
        """The last token of all that a text may have ends it, too."""
        ranked = sorted(found, key=lambda beam: (-beam.score, beam.parent, beam.token))
        if length >= self.limit:
            return ranked[: self.width], ()
        ended = [beam for beam in ranked[: self.width] if self.ends(beam.token, length)]
        return ended, [beam for beam in ranked if not self.ends(beam.token, length)][: self.width]

    def score(self, beam: Beam, length: int) -> float:
        """By the number of new tokens, an end among them."""
        score: float = beam.score / length**self.length_penalty
        return score

    def enough(self, kept: Sequence[Ended], hope: float) -> bool:
        """No proof that the best are found: a beam may become better as it grows."""
        return len(kept) == self.width and (self.early_stopping or hope <= kept[-1].score)


@dataclass(frozen=True, slots=True)
class VLLMRule(Bounds):
    """That of vLLM's `LLM.beam_search`, version 0.32.

    The 2 `w` likeliest continuations of each beam are looked at. All of them that end are kept, and the `w` best of the
    others go on, for as many steps as there may be tokens; then the beams that are left are kept, too. The best `w` are
    so by sum of log probabilities / length ** length_penalty, the length being that of prompt and text. One of
    `uncounted` at the end is not counted, which matters among beams only where an end of sequence is ignored.
    """

    prompt_length: int
    uncounted: frozenset[int]

    def part(self, found: Iterable[Beam], length: int) -> tuple[Sequence[Beam], Sequence[Beam]]:
        """After the last step all have ended."""
        ranked = sorted(found, key=lambda beam: (-self.score(beam, length), beam.parent, beam.token))
        ended = [beam for beam in ranked if self.ends(beam.token, length)]
        alive = [beam for beam in ranked if not self.ends(beam.token, length)][: self.width]
        return ([*ended, *alive], ()) if length >= self.limit else (ended, alive)

    def score(self, beam: Beam, length: int) -> float:
        """By the number of tokens, the prompt's among them."""
        counted = self.prompt_length + length - (beam.token in self.uncounted)
        score: float = beam.score / counted**self.length_penalty
        return score

    def enough(self, kept: Sequence[Ended], hope: float) -> bool:
        """Never: what has ended changes nothing."""
        return False


def looked_at(params: SamplingParams, ends: int) -> int:
    """How many continuations of each beam are looked at, where `ends` ids end a text; 0 for what is no search."""
    if params.beam_width is None or not params.searches:
        return 0
    return 2 * params.beam_width if params.beam_rule is BeamRule.VLLM else params.beam_width + ends


def rule_for(start: SequenceStart, end_ids: frozenset[int], limit: int) -> SearchRule:
    """The rule of one search, in which one of `end_ids` ends a text, or `limit` new tokens do."""
    params = start.sampling_params
    bounds = params.beam_width or 1, params.length_penalty, end_ids, params.min_new_tokens, limit
    if params.beam_rule is BeamRule.VLLM:
        return VLLMRule(*bounds, len(start.prompt), start.eos_token_ids | end_ids)
    return TransformersRule(*bounds, params.early_stopping)
