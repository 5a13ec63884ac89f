"""What the sampler knows about one sequence."""

from __future__ import annotations

from max_interfaces.protocols import SequenceStart, TokenConstraint
from max_interfaces.sampling import SamplingParams

from .beam_rules import looked_at
from .kv_format import check_kv
from .log_probabilities import MOST_LIKELIEST, MOST_ROW_VALUES, Wanted
from .processors import lookup
from .token_counts import TokenCounts


class SamplingRow:
    """One sequence as the sampler sees it: its parameters, its prompt and its output so far.

    `output` begins with the ids accepted from another worker, so that penalties, constraint and random stream go on
    where they were; it only ever grows, but for a beam that becomes another. `unread` more have been sampled, but
    nobody knows them yet. `end_ids` are the ids that end the sequence. A beam wants so many `continuations`, and no
    token.
    """

    def __init__(self, start: SequenceStart) -> None:
        params = start.sampling_params
        eos = frozenset() if params.ignore_eos else start.eos_token_ids
        self.name = str(start.request_id)
        self.params: SamplingParams = params
        self.seed: int = start.seed
        self.constraint: TokenConstraint | None = start.constraint
        self.bad_words: tuple[tuple[int, ...], ...] = start.bad_words
        self.prompt: tuple[int, ...] = start.prompt
        self.unread = 0
        self.end_ids: frozenset[int] = eos | frozenset(params.stop_token_ids)
        self.wanted: Wanted | None = Wanted.of_output(params)
        self.continuations = looked_at(params, len(self.end_ids))
        self.say([*start.accepted])

    def say(self, output: list[int]) -> None:
        """Make `output`, which is the row's own from now on, what has been said."""
        self.output = output
        self._generated, self._counted = TokenCounts(), 0
        self._seen, self._first, self._last = TokenCounts(), 0, 0  # of the ids at these positions, prompt first

    @property
    def position(self) -> int:
        """Which of the output's tokens is sampled next."""
        return len(self.output) + self.unread

    @property
    def reads_output(self) -> bool:
        """True if what is sampled next depends on which tokens came before: they must be known."""
        params = self.params
        return (
            self.constraint is not None
            or bool(self.bad_words or params.logits_processors or params.watermark)
            or params.repetition_penalty != 1
            or bool(params.frequency_penalty or params.presence_penalty)
        )

    @property
    def length(self) -> int:
        """Tokens in all, prompt and output."""
        return len(self.prompt) + len(self.output)

    def tokens(self, first: int, last: int) -> list[int]:
        """Token ids at positions `first` to `last` (excluded), the prompt's first one being 0."""
        prompt, output = self.prompt, self.output
        if first >= len(prompt):
            return output[first - len(prompt) : last - len(prompt)]
        return [*prompt[first:last], *output[: max(0, last - len(prompt))]]

    def generated(self) -> TokenCounts:
        """Counts of the output. Costs what is new since the last call."""
        self._generated.add(self.output[self._counted :])
        self._counted = len(self.output)
        return self._generated

    def seen(self) -> TokenCounts:
        """Counts of prompt and output, or of their last `repetition_context_size`. Costs what is new."""
        size, last = self.params.repetition_context_size, self.length
        first = 0 if size is None else max(0, last - size)
        self._seen.remove(self.tokens(self._first, min(first, self._last)))
        self._seen.add(self.tokens(max(first, self._last), last))
        self._first, self._last = first, last
        return self._seen


def width_of(params: SamplingParams) -> int:
    """How many beams a sequence has; 1 if it is none that is searched for."""
    return params.beam_width or 1


def check_start(start: SequenceStart, vocab_size: int) -> None:
    """Refuse what cannot be done: ValueError naming the field, its value and its bound.

    What the text pipeline sees to is nothing to a sequence and is not looked at: best_of, echo, truncate, stop,
    bad_words (their ids come in `SequenceStart.bad_words`), grammar, thinking_budget (both come as its constraint) and
    how to detokenise.
    """
    params = start.sampling_params
    check_kv(params)
    if not start.prompt:
        raise ValueError("SequenceStart.prompt = (): needs at least one token")
    if params.allowed_token_ids is not None and not params.allowed_token_ids:
        raise ValueError("SamplingParams.allowed_token_ids = (): no token could ever follow")
    if start.accepted and params.searches:
        raise ValueError(f"SequenceStart.accepted has {len(start.accepted)} ids: a beam search begins with its prompt")
    for field in ("kv_bits", "max_kv_size"):
        value = getattr(params, field)
        if value is not None and params.searches:
            raise ValueError(f"SamplingParams.{field} = {value}: beams keep all keys and values; leave it None")
    if not all(start.bad_words):
        raise ValueError("SequenceStart.bad_words: has a run without ids; each needs at least one")
    _check_ids(start, vocab_size)
    _check_log_probabilities(start, vocab_size)
    for name in params.logits_processors:
        try:
            lookup(name)
        except ValueError as error:
            raise ValueError(f"SamplingParams.logits_processors: {error}") from None


def _check_ids(start: SequenceStart, vocab_size: int) -> None:
    params = start.sampling_params
    named = {
        "SequenceStart.prompt": start.prompt,
        "SequenceStart.accepted": start.accepted,
        "SequenceStart.eos_token_ids": start.eos_token_ids,
        "SequenceStart.bad_words": [token for run in start.bad_words for token in run],
        "SamplingParams.stop_token_ids": params.stop_token_ids,
        "SamplingParams.allowed_token_ids": params.allowed_token_ids or (),
        "SamplingParams.logit_bias": params.logit_bias,
    }
    for field, ids in named.items():
        if ids and (min(ids) < 0 or max(ids) >= vocab_size):
            wrong = next(token for token in ids if not 0 <= token < vocab_size)
            raise ValueError(f"{field}: token {wrong} is not in the vocabulary of {vocab_size}")


def _check_log_probabilities(start: SequenceStart, vocab_size: int) -> None:
    params = start.sampling_params
    for field in ("logprobs", "prompt_logprobs"):
        count = getattr(params, field)
        if count is not None and min(count, vocab_size) > MOST_LIKELIEST:
            raise ValueError(
                f"SamplingParams.{field} = {count}: must be at most {MOST_LIKELIEST}, or -1 for the whole vocabulary"
            )
    values = (len(start.prompt) - 1) * vocab_size
    if params.prompt_logprobs == -1 and values > MOST_ROW_VALUES:
        raise ValueError(
            f"SamplingParams.prompt_logprobs = -1: {len(start.prompt)} tokens times a vocabulary of {vocab_size} are "
            f"more than {MOST_ROW_VALUES} values; ask for at most {MOST_LIKELIEST} of the likeliest"
        )
