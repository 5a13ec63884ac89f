"""Our sampling parameters as vLLM's, one by one; what vLLM does otherwise than our engine is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from vllm.sampling_params import SamplingParams as TheirParams

from max_interfaces.protocols import SequenceStart

from ..log_probabilities import MOST_LIKELIEST
from ..random_stream import child_seed
from ..sampling_row import check_start

# Fields that `their_params` translates, and those that the pipeline sees to or that mean nothing by themselves. Any
# other is refused unless it is off, so that a new one is not overlooked.
TRANSLATED = {
    "allowed_token_ids",
    "beam_width",
    "frequency_penalty",
    "ignore_eos",
    "logit_bias",
    "logprobs",
    "max_new_tokens",
    "min_new_tokens",
    "min_p",
    "presence_penalty",
    "prompt_logprobs",
    "repetition_penalty",
    "seed",
    "stop_token_ids",
    "temperature",
    "top_k",
    "top_p",
}
ABOVE = {
    "bad_words",
    "beam_rule",
    "best_of",
    "detokenize",
    "early_stopping",
    "echo",
    "grammar",
    "include_stop_text",
    "kv_group_size",
    "length_penalty",
    "n",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "stop",
    "thinking_budget",
    "thinking_end_token",
    "thinking_start_token",
    "truncate",
}
OF_START = {
    "accepted",
    "bad_words",
    "cache_salt",
    "constraint",
    "eos_token_ids",
    "priority",
    "prompt",
    "request_id",
    "sampling_params",
    "seed",
}
LOWEST, HIGHEST = 0.01, 2.0  # vLLM's temperatures besides 0


def check_sequence(start: SequenceStart, vocab_size: int) -> None:
    """ValueError, naming the field, for what no engine or not this one can do."""
    check_start(start, vocab_size)
    for reason in _refusals(start):
        raise ValueError(f"{reason}, in engine.kind vllm")


def their_params(start: SequenceStart, limit: int, end_ids: frozenset[int]) -> TheirParams:
    """For a sequence of at most `limit` tokens in all, which any of `end_ids` ends.

    vLLM takes the accepted tokens for a part of the prompt. Its random stream is its own, and begins anew after a
    resume: under another seed, or the same numbers would come again.
    """
    params, done = start.sampling_params, len(start.accepted)
    theirs = TheirParams(
        temperature=0.0 if params.greedy else params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        frequency_penalty=params.frequency_penalty,
        presence_penalty=params.presence_penalty,
        repetition_penalty=params.repetition_penalty,
        seed=child_seed(start.seed, done),
        max_tokens=limit - done,
        min_tokens=max(0, min(params.min_new_tokens, limit) - done),
        stop_token_ids=sorted(end_ids),
        ignore_eos=True,  # `end_ids` has them
        logprobs=params.logprobs,
        prompt_logprobs=params.prompt_logprobs,
        logit_bias=dict(params.logit_bias) or None,
        allowed_token_ids=None if params.allowed_token_ids is None else list(params.allowed_token_ids),
        detokenize=False,
    )
    theirs._bad_words_token_ids = [list(run) for run in start.bad_words] or None  # its own field wants a tokenizer
    return theirs


def _refusals(start: SequenceStart) -> Iterator[str]:
    params = start.sampling_params
    if params.searches:
        yield f"SamplingParams.beam_width = {params.beam_width}: must be None"
    if not params.greedy and not LOWEST <= params.temperature <= HIGHEST:
        yield f"SamplingParams.temperature = {params.temperature}: must be 0, or from {LOWEST} to {HIGHEST}"
    for field in fields(params):
        value = getattr(params, field.name)
        if field.name not in TRANSLATED | ABOVE and value not in (
            field.default,
            1 if field.name == "beam_width" else None,
        ):
            yield f"SamplingParams.{field.name} = {value!r:.80}: must be {field.default!r}"
    for field in fields(start):
        if field.name not in OF_START and getattr(start, field.name) != field.default:
            yield f"SequenceStart.{field.name}: must be {field.default!r}"
    for name in ("logprobs", "prompt_logprobs"):
        if getattr(params, name) == -1:
            yield f"SamplingParams.{name} = -1: must be at most {MOST_LIKELIEST}, not the whole vocabulary"
    if start.constraint is not None and params.logprobs is not None:
        yield "SamplingParams.logprobs: there are none under a grammar (or best_of, or a thinking budget)"
    if start.accepted:
        yield from _refused_resumes(start)


def _refused_resumes(start: SequenceStart) -> Iterator[str]:
    """vLLM counts output for these, and would not count what another worker has generated."""
    again = "cannot go on after a worker was lost; ask again"
    for field in ("frequency_penalty", "presence_penalty"):
        if getattr(start.sampling_params, field):
            yield f"SamplingParams.{field}: a sequence that has one {again}"
    if any(len(run) > 1 for run in start.bad_words):
        yield f"SamplingParams.bad_words: a sequence that has some of several tokens {again}"
    if start.sampling_params.prompt_logprobs is not None:
        yield f"SamplingParams.prompt_logprobs: a sequence that has some {again}"
