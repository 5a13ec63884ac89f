"""`best_of`: the sequences of a request wait until all have ended; then the likeliest are given."""

from __future__ import annotations

from dataclasses import dataclass, field

from max_interfaces.text import LogProbabilities

from .plan import TextPlan
from .sequence import TextSequence

MOST_HELD = 2**22  # log probabilities: some 0.4 GiB of Python's floats and dicts


def check_held(plan: TextPlan, longest: int, vocab_size: int) -> None:
    """ValueError for a request that is given at once if its log probabilities would fill the memory.

    Nothing of them can be given away before the last text has ended. A text has up to `longest` tokens.
    """
    params = plan.sampling_params
    each = vocab_size if params.logprobs == -1 else 1 + max(params.logprobs or 0, params.top_n_tokens)
    field, texts = ("beam_width", 2 * (params.beam_width or 1)) if plan.searched else ("best_of", plan.sequences)
    held = texts * longest * each  # a search has beams, and as many texts that have ended
    if plan.at_once and held > MOST_HELD:
        raise ValueError(
            f"SamplingParams.{field} = {getattr(params, field)}: texts of {longest} tokens with {each} "
            f"log probabilities each make {held}, at most {MOST_HELD} can be held back; ask for fewer, "
            "or for a lower max_new_tokens"
        )


@dataclass(slots=True, eq=False)
class Held:
    """All of one sequence's output, with the log probabilities of its tokens."""

    sequence: TextSequence
    tokens: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)  # what each of them adds
    rest: str = ""  # what their end adds
    pieces: list[LogProbabilities] = field(default_factory=list)

    @property
    def mean_log_probability(self) -> float:
        """Of a token; 0 if there is none."""
        values = [value for piece in self.pieces for value in piece.token_log_probabilities]
        return sum(values) / len(values) if values else 0.0

    @property
    def log_probabilities(self) -> LogProbabilities | None:
        """Those of all tokens."""
        return LogProbabilities.joined(self.pieces)


class Ranking:
    """Holds the output of all sequences of a request back, to give the `answers` best of them.

    The best has the highest mean log probability of a token, so that a long text is not worse for being long.
    Source: OpenAI's `best_of`, "the highest log probability per token".
    """

    def __init__(self, answers: int) -> None:
        self._answers = answers
        self._held: dict[int, Held] = {}

    def hold(
        self,
        sequence: TextSequence,
        tokens: tuple[int, ...],
        texts: tuple[str, ...],
        rest: str,
        log_probabilities: LogProbabilities | None,
    ) -> None:
        """Keep what a sequence gave, as it gave it."""
        held = self._held.setdefault(sequence.index, Held(sequence))
        held.tokens += tokens
        held.texts += texts
        held.rest += rest
        if log_probabilities is not None:
            held.pieces.append(log_probabilities)

    def best(self) -> list[Held]:
        """The best first; of equals the one that was begun first."""
        ranked = sorted(self._held.values(), key=lambda held: (-held.mean_log_probability, held.sequence.index))
        return ranked[: self._answers]
