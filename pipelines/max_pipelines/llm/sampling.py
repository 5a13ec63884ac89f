"""How tokens are chosen, in vLLM's words."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self

from max_interfaces import SamplingParams as OurParams

from .guided import GuidedDecodingParams

GREEDY_BELOW = 1e-5  # temperatures below are 0: vLLM's rule
OURS = {  # what a field is called by us, where the names differ
    "max_tokens": "max_new_tokens",
    "min_tokens": "min_new_tokens",
    "include_stop_str_in_output": "include_stop_text",
    "truncate_prompt_tokens": "truncate",
}
SAME = (
    "n", "best_of", "presence_penalty", "frequency_penalty", "repetition_penalty", "top_p", "top_k", "min_p",
    "ignore_eos", "logprobs", "prompt_logprobs", "detokenize", "skip_special_tokens", "spaces_between_special_tokens",
)  # fmt: skip
_THEIRS = {ours: theirs for theirs, ours in OURS.items()}
_NAMES = re.compile("|".join(sorted(_THEIRS, key=len, reverse=True)))


class RequestOutputKind(Enum):
    """What each output of `LLM.stream` holds: all so far, what is new, or, once, all. Batches are given whole."""

    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


@dataclass
class SamplingParams:
    """vLLM's sampling parameters, with its names and defaults; those of 0.6.4, and what today's has kept of them.

    Other than there `top_k` 0 is off, as today's vLLM has it, and greedy decoding may be asked for `n` (equal) texts.
    `logits_processors` are functions of (output ids, scores), (prompt ids, output ids, scores), or names of functions
    that were registered with `max_engines.processors.register`; functions need `LLM(…, transport="thread")`.
    ValueError, by these names, for what is out of its bounds.
    Source: https://docs.vllm.ai (SamplingParams, 0.6.4 and 0.32).
    """

    n: int = 1
    best_of: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    min_p: float = 0.0
    seed: int | None = None
    stop: str | Sequence[str] | None = None
    stop_token_ids: Sequence[int] | None = None
    bad_words: Sequence[str] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    detokenize: bool = True
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    logits_processors: Sequence[str | Callable[..., Any]] | None = None
    include_stop_str_in_output: bool = False
    truncate_prompt_tokens: int | None = None
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE
    guided_decoding: GuidedDecodingParams | None = None
    logit_bias: Mapping[int, float] | None = None
    allowed_token_ids: Sequence[int] | None = None
    structured_outputs: GuidedDecodingParams | None = None
    thinking_token_budget: int | None = None

    def __post_init__(self) -> None:
        self.translated()

    @classmethod
    def from_optional(cls, **given: Any) -> Self:
        """The parameters where None stands for the default. TypeError for a name that is none."""
        return cls(**{name: value for name, value in given.items() if value is not None})

    def clone(self) -> Self:
        """A copy that can be changed."""
        return copy(self)

    def translated(
        self, seed: int | None = None, processors: Sequence[str] = (), kv_bits: int | None = None
    ) -> OurParams:
        """As the road takes them; `seed` is for a request without its own, `processors` stand for `logits_processors`.

        With `kv_bits` keys and values are quantised from the first token on.

        ValueError, by vLLM's names, for what is out of its bounds.
        """
        forms = [form for form in (self.guided_decoding, self.structured_outputs) if form is not None]
        if len(forms) > 1:
            raise ValueError("SamplingParams: guided_decoding and structured_outputs are one thing; leave one out")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"SamplingParams.max_tokens = {self.max_tokens}: must be at least 1")
        own = None if self.seed is None else self.seed % 2**63  # theirs may be negative
        given: dict[str, Any] = {name: getattr(self, name) for name in SAME}
        given |= {ours: getattr(self, theirs) for theirs, ours in OURS.items()}
        try:
            return OurParams(
                **given,
                temperature=0.0 if 0 < self.temperature < GREEDY_BELOW else self.temperature,
                seed=seed if own is None else own,
                stop=_texts(self.stop),
                stop_token_ids=tuple(self.stop_token_ids or ()),
                bad_words=_texts(self.bad_words),
                logit_bias=self.logit_bias or {},
                allowed_token_ids=None if self.allowed_token_ids is None else tuple(self.allowed_token_ids),
                grammar=forms[0].translated() if forms else None,
                thinking_budget=self.thinking_token_budget,
                logits_processors=tuple(processors),
                kv_bits=kv_bits,
                quantized_kv_start=0,
            )
        except ValueError as problem:
            raise ValueError(in_their_words(str(problem))) from None


def in_their_words(problem: str) -> str:
    """A refusal of ours with the names that this face's caller knows."""
    return _NAMES.sub(lambda found: _THEIRS[found[0]], problem)


def with_prompt(processor: Callable[..., Any]) -> Callable[..., Any]:
    """A processor as ours are called. vLLM has two kinds: with the prompt's ids and without."""
    try:
        count = len(inspect.signature(processor).parameters)
    except (TypeError, ValueError):  # written in C
        count = 2
    if count >= 3:
        return lambda prompt, output, scores: processor(list(prompt), list(output), scores)
    return lambda prompt, output, scores: processor(list(output), scores)


def _texts(given: str | Sequence[str] | None) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given or ())
