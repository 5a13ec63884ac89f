"""How tokens are chosen: one frozen class under every face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from .bounds import Bounded, Name, Seed, TokenId, TokenIds
from .values import FrozenMapping, Json

Probability = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]  # the range that OpenAI and MAX document
TokenLimit = Annotated[int, Meta(ge=0, le=2**20)]
TokenText = Annotated[str, Meta(min_length=1, max_length=256)]
NO_BIAS: FrozenMapping[int, float] = FrozenMapping({})
_DRAWS_NOTHING = "means nothing with a beam_width, as no token is drawn; leave it"
_SEARCHING = {"length_penalty": 1.0, "early_stopping": False, "beam_rule": "transformers"}  # and what is off
_DRAWING = {"best_of": None, "top_k": -1, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0}  # and what is off


class BeamRule(StrEnum):
    """Whose rule a beam search goes by: which texts are followed and kept, how they are scored, when it ends."""

    TRANSFORMERS = "transformers"
    VLLM = "vllm"


@dataclass(frozen=True, slots=True)
class SamplingParams(Bounded):
    """Sampling options of one request; the first fourteen in MAX's published order, with its defaults.

    `temperature` 0 is greedy. `top_k` -1 or 0, `top_p` 1, `min_p` 0, `typical_p` 1 and penalties at 0 (or 1 for the
    repetition penalty) are off. `seed` None asks the dispatcher for one. `logprobs` None is off, -1 the whole
    vocabulary. `logits_processors` names functions that were registered in the worker's own process, which only the
    thread transport shares with its caller. `prefill_step_size` bounds the tokens of the prompt that a step reads. Each
    face translates its own defaults and "off" values into these.

    `beam_width` is off by None, and greedy by 1: so many beams are searched, and the `n` best texts given, by the sum
    of their log probabilities / length ** `length_penalty`. A search ends when no beam could become better than the
    worst of `beam_width` ended texts if it ended now; with `early_stopping` as soon as there are so many. That is the
    `beam_rule` of transformers. By vLLM's the length is that of prompt and text without its end, a search goes on for
    all of `max_new_tokens`, whatever has ended, and one beam is a search, too.

    `kv_bits` 8 or 4 keeps keys and values quantised, in groups of `kv_group_size` along a head's width (or the head, if
    it is narrower), once the prompt or all that was computed has `quantized_kv_start` tokens. With `max_kv_size` a
    token sees the first 4 tokens and the last `max_kv_size` - 4, itself among them. None is off.

    `thinking_budget` bounds the tokens between `thinking_start_token` and `thinking_end_token`, which are single tokens
    that were added to the model's tokenizer.

    Raises ValueError naming the field, its value and its bound.
    Source: https://docs.modular.com/max/api/python/interfaces (MAX 25.7 to 26.3).
    """

    top_k: Annotated[int, Meta(ge=-1, le=2**20)] = -1
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    min_p: Probability = 0.0
    temperature: Annotated[float, Meta(ge=0, le=100)] = 1.0
    frequency_penalty: Penalty = 0.0
    presence_penalty: Penalty = 0.0
    repetition_penalty: Annotated[float, Meta(gt=0, le=100)] = 1.0
    max_new_tokens: TokenLimit | None = None
    min_new_tokens: TokenLimit = 0
    ignore_eos: bool = False
    stop: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=1024)], ...], Meta(max_length=64)] = ()
    stop_token_ids: Annotated[tuple[TokenId, ...], Meta(max_length=1024)] = ()
    detokenize: bool = True
    seed: Seed | None = None
    typical_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    repetition_context_size: TokenLimit | None = None
    include_stop_text: bool = False
    bad_words: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...], Meta(max_length=1024)] = ()
    allowed_token_ids: TokenIds | None = None
    logit_bias: Annotated[Mapping[TokenId, Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=1024)] = NO_BIAS
    n: Annotated[int, Meta(ge=1, le=256)] = 1
    best_of: Annotated[int, Meta(ge=1, le=256)] | None = None
    beam_width: Annotated[int, Meta(ge=1, le=64)] | None = None
    length_penalty: Annotated[float, Meta(ge=-10, le=10)] = 1.0
    logprobs: Annotated[int, Meta(ge=-1, le=2**20)] | None = None
    top_n_tokens: Annotated[int, Meta(ge=0, le=1024)] = 0
    prompt_logprobs: Annotated[int, Meta(ge=-1, le=2**20)] | None = None
    echo: bool = False
    truncate: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    grammar: Json | None = None
    watermark: bool = False
    thinking_budget: TokenLimit | None = None
    kv_bits: Annotated[int, Meta(ge=4, le=8)] | None = None
    kv_group_size: Annotated[int, Meta(ge=16, le=256)] = 64
    max_kv_size: Annotated[int, Meta(ge=16, le=2**20)] | None = None
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    logits_processors: Annotated[tuple[Name, ...], Meta(max_length=16)] = ()
    quantized_kv_start: TokenLimit = 5000
    prefill_step_size: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    early_stopping: bool = False
    thinking_start_token: TokenText = "<think>"
    thinking_end_token: TokenText = "</think>"
    beam_rule: BeamRule = BeamRule.TRANSFORMERS

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):  # one stop string is the commonest case, and a str is also a sequence
            object.__setattr__(self, "stop", (self.stop,))
        if self.stop is None:
            object.__setattr__(self, "stop", ())
        if self.stop_token_ids is None:
            object.__setattr__(self, "stop_token_ids", ())
        Bounded.__post_init__(self)

    def check_rules(self) -> None:
        """Lower limits below upper ones; and `top_k` has one way to be off."""
        if self.top_k == 0:
            object.__setattr__(self, "top_k", -1)
        if self.max_new_tokens is not None and self.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"SamplingParams.min_new_tokens = {self.min_new_tokens}: "
                f"must be at most max_new_tokens = {self.max_new_tokens}"
            )
        if self.best_of is not None and self.best_of < self.n:
            raise ValueError(f"SamplingParams.best_of = {self.best_of}: must be at least n = {self.n}")
        if self.beam_width is not None:
            self._check_search(self.beam_width)
            return
        for field, off in _SEARCHING.items():
            if getattr(self, field) != off:
                raise ValueError(f"SamplingParams.{field} = {getattr(self, field)}: means nothing without a beam_width")

    def _check_search(self, width: int) -> None:
        """A search draws nothing, and has its own way to the best."""
        if self.n > width:
            raise ValueError(f"SamplingParams.n = {self.n}: must be at most beam_width = {width}")
        if self.temperature not in (0, 1):
            raise ValueError(f"SamplingParams.temperature = {self.temperature}: {_DRAWS_NOTHING} 0.0")
        if self.early_stopping and self.beam_rule is BeamRule.VLLM:
            raise ValueError("SamplingParams.early_stopping = True: by vLLM's beam_rule no search stops early")
        for field, off in _DRAWING.items():
            if getattr(self, field) != off:
                raise ValueError(f"SamplingParams.{field} = {getattr(self, field)}: {_DRAWS_NOTHING} {off}")

    @property
    def searches(self) -> bool:
        """True if texts are followed side by side. One beam is greedy by transformers' rule."""
        return self.beam_width is not None and (self.beam_width > 1 or self.beam_rule is BeamRule.VLLM)

    @property
    def greedy(self) -> bool:
        """True when the likeliest token is always taken, or the likeliest few."""
        return self.temperature == 0 or self.beam_width is not None

    def __hash__(self) -> int:
        return hash((self.temperature, self.top_k, self.top_p, self.seed, self.max_new_tokens, self.stop))


DEFAULT_SAMPLING = SamplingParams()
