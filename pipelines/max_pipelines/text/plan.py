"""What a request asks of its sequences, worked out once: both places of an option merged, texts made into ids."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from max_interfaces import SamplingParams, TextGenerationRequest, Tokenizer


@dataclass(frozen=True, slots=True, eq=False)
class TextPlan:
    """The sampling of each sequence, and how its tokens become the answer.

    `sequences` are generated and `answers` of them given. If they are `ranked`, those are the best, the best first, and
    nothing can be given before all have ended. One that is `searched` is given as `answers` texts when the search has
    ended. `logprobs` says whether the caller asked for log probabilities, which ranking needs in any case.
    """

    sampling_params: SamplingParams
    bad_words: tuple[tuple[int, ...], ...]
    stop: tuple[str, ...]
    stop_token_ids: frozenset[int]  # those that are no end of a text in any case
    include_stop_text: bool
    min_new_tokens: int
    sequences: int
    answers: int
    ranked: bool
    searched: bool
    echo: bool
    logprobs: bool
    return_prompt: bool

    @property
    def at_once(self) -> bool:
        """True if nothing is given before all of it is known: then an attempt begins anew."""
        return self.ranked or self.searched

    @property
    def wants_prompt(self) -> bool:
        """True if the prompt's ids are to be given."""
        return self.echo or self.return_prompt or self.sampling_params.prompt_logprobs is not None


def plan_of(request: TextGenerationRequest, tokenizer: Tokenizer, eos_token_ids: Collection[int]) -> TextPlan:
    """The plan of a request. ValueError for options that exclude each other.

    `stop` and `logprobs` may stand in the request and in its sampling parameters: all stop texts hold, and the larger
    number of log probabilities. `n` with temperature 0 gives equal texts, as OpenAI's API does.
    """
    params = request.sampling_params
    stop = tuple(dict.fromkeys((*params.stop, *request.stop)))
    if stop and not params.detokenize:
        raise ValueError(f"stop = {stop!r:.80}: a stop text needs detokenize = True; or give stop_token_ids")
    if params.prompt_logprobs is not None and params.max_new_tokens == 0:
        raise ValueError("max_new_tokens = 0: prompt_logprobs come with the first new token; ask for 1")
    searched = params.searches
    if stop and searched:
        raise ValueError(f"stop = {stop!r:.80}: a beam search looks at ids, and not at texts; give stop_token_ids")
    if request.guidance is not None:
        params = replace(params, detokenize=False)  # codes of a picture are no text
    asked = _most(params.logprobs, request.logprobs or None)
    sequences = 1 if searched else params.n if params.best_of is None else params.best_of
    ranked = params.best_of is not None and sequences > 1
    return TextPlan(
        sampling_params=replace(params, logprobs=0 if asked is None and ranked else asked),
        bad_words=bad_words(params.bad_words, tokenizer),
        stop=stop,
        stop_token_ids=frozenset(params.stop_token_ids) - (frozenset() if params.ignore_eos else set(eos_token_ids)),
        include_stop_text=params.include_stop_text,
        min_new_tokens=params.min_new_tokens,
        sequences=sequences,
        answers=params.n,
        ranked=ranked,
        searched=searched,
        echo=request.echo or params.echo,
        logprobs=asked is not None or params.top_n_tokens > 0,
        return_prompt=request.return_prompt,
    )


def _most(first: int | None, second: int | None) -> int | None:
    """The larger number of log probabilities; -1 is the whole vocabulary."""
    given = [number for number in (first, second) if number is not None]
    if not given:
        return None
    return -1 if -1 in given else max(given)


def bad_words(words: tuple[str, ...], tokenizer: Tokenizer) -> tuple[tuple[int, ...], ...]:
    """The runs of ids that spell the words, at the beginning of a text and behind a blank. Source: vLLM's rule."""
    spellings = [spelling for word in words for spelling in (word, " " + word.lstrip())]
    runs = [tuple(tokenizer.encode(spelling, add_special_tokens=False)) for spelling in spellings]
    return tuple(dict.fromkeys(run for run in runs if run))
