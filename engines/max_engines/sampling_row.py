"""What the sampler knows about one sequence."""

from __future__ import annotations

from max_interfaces.protocols import SequenceStart, TokenConstraint
from max_interfaces.sampling import SamplingParams


class SamplingRow:
    """One sequence as the sampler sees it: its parameters, its prompt and its output so far.

    `output` begins with the ids accepted from another worker, so that penalties, constraint and random stream go on
    where they were. `end_ids` are the ids that end the sequence.
    """

    def __init__(self, start: SequenceStart) -> None:
        params = start.sampling_params
        eos = frozenset() if params.ignore_eos else start.eos_token_ids
        self.name = str(start.request_id)
        self.params: SamplingParams = params
        self.seed: int = start.seed
        self.constraint: TokenConstraint | None = start.constraint
        self.prompt: tuple[int, ...] = start.prompt
        self.output: list[int] = list(start.accepted)
        self.end_ids: frozenset[int] = eos | frozenset(params.stop_token_ids)


# What the engine does not do yet, and the value that means "not asked for". Anything else is refused by name.
_NOT_YET: dict[str, object] = {
    "n": 1,
    "best_of": None,
    "beam_width": None,
    "logprobs": None,
    "top_n_tokens": 0,
    "prompt_logprobs": None,
    "echo": False,
    "truncate": None,
    "grammar": None,
    "bad_words": (),
    "watermark": False,
    "thinking_budget": None,
    "kv_bits": None,
    "max_kv_size": None,
}


def check_start(start: SequenceStart, vocab_size: int) -> None:
    """Refuse what cannot be done: ValueError naming the field, its value and its bound."""
    params = start.sampling_params
    for field, off in _NOT_YET.items():
        value = getattr(params, field)
        if value != off and not (field in ("best_of", "beam_width") and value == 1):
            raise ValueError(
                f"SamplingParams.{field} = {value!r:.80}: this engine does not do it yet; leave it {off!r}"
            )
    if not start.prompt:
        raise ValueError("SequenceStart.prompt = (): needs at least one token")
    named = {
        "SequenceStart.prompt": start.prompt,
        "SequenceStart.accepted": start.accepted,
        "SequenceStart.eos_token_ids": start.eos_token_ids,
        "SamplingParams.stop_token_ids": params.stop_token_ids,
        "SamplingParams.allowed_token_ids": params.allowed_token_ids or (),
        "SamplingParams.logit_bias": params.logit_bias,
    }
    for field, ids in named.items():
        if ids and (min(ids) < 0 or max(ids) >= vocab_size):
            wrong = next(token for token in ids if not 0 <= token < vocab_size)
            raise ValueError(f"{field}: token {wrong} is not in the vocabulary of {vocab_size}")
    if params.allowed_token_ids is not None and not params.allowed_token_ids:
        raise ValueError("SamplingParams.allowed_token_ids = (): no token could ever follow")
