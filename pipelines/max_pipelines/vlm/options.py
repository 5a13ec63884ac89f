"""The keyword arguments of `generate` and its like, as sampling parameters of the road."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Self

from max_interfaces import SamplingParams

from ..own_processors import registered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_TOKENS = 2048
THINKING = ("thinking_budget", "thinking_start_token", "thinking_end_token")
SAME = ("temperature", "top_p", "min_p", "typical_p", "kv_bits", "kv_group_size", "quantized_kv_start", "max_kv_size")
ABSENT = (
    "apc_manager", "apc_tenant", "draft_block_size", "draft_kind", "draft_model", "frequency_context_size", "input_ids",
    "kv_key_bits", "kv_key_scheme", "kv_value_bits", "kv_value_scheme", "mask", "pixel_values", "presence_context_size",
    "prompt_cache", "prompt_cache_state", "sampler", "stopping_criteria", "vision_cache",
)  # fmt: skip
OFF: dict[str, tuple[object, ...]] = {  # what is not had, and the values besides None that ask for nothing
    **dict.fromkeys(ABSENT, ()),
    "kv_quant_scheme": ("uniform",),
    "p_less": (False,),
    "top_n_sigma": (0,),
}


@dataclass(frozen=True)
class Options:
    """mlx-vlm's names and defaults. `top_k` 0, `repetition_penalty` 0 or None are off; temperature 0 is greedy.

    `fps` frames a second are seen of a film; None: as many as the model's processor takes by itself.

    Source: mlx-vlm's `generate_step` and `generate`.
    """

    max_tokens: int = MAX_TOKENS
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float | None = None
    repetition_context_size: int | None = 20
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[int, float] | None = None
    logits_processors: Sequence[str | Callable[..., Any]] | None = None
    seed: int | None = None
    kv_bits: int | None = None
    kv_group_size: int = 64
    quantized_kv_start: int = 5000
    max_kv_size: int | None = None
    prefill_step_size: int | None = 2048
    eos_tokens: Sequence[str | int] | None = None
    skip_special_tokens: bool = False
    enable_thinking: bool = False
    thinking_budget: int | None = None
    thinking_start_token: str = "<think>"
    thinking_end_token: str = "</think>"
    resize_shape: int | Sequence[int] | None = None
    fps: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """From keyword arguments. TypeError for one that nobody knows, ValueError for one that cannot be had."""
        own = {name: value for name, value in given.items() if name in cls.__dataclass_fields__ and name != "more"}
        return cls(**own, more={name: value for name, value in given.items() if name not in own})

    def __post_init__(self) -> None:
        known = [name for name in self.__dataclass_fields__ if name != "more"]
        for name, value in self.more.items():
            if name not in OFF:
                near = get_close_matches(name, [*known, *OFF], 1)
                raise TypeError(f"unknown argument {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
            if value is not None and not (isinstance(value, bool | int | float | str) and value in OFF[name]):
                raise ValueError(f"{name} = {value!r:.80}: is not to be had here; leave it out")
        if self.resize_shape is not None:
            resized(self.resize_shape)

    @property
    def shape(self) -> tuple[int, int] | None:
        """(height, width) that images are made."""
        return None if self.resize_shape is None else resized(self.resize_shape)

    def named_processors(self, *, shared: bool) -> AbstractContextManager[tuple[str, ...]]:
        """The names of `logits_processors`, functions of (all ids so far, scores), while a call runs."""
        return registered(self.logits_processors or (), _over_all, shared=shared)

    def sampling(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int | None = None,
        processors: Sequence[str] = (),
        logprobs: int | None = None,
    ) -> SamplingParams:
        """As the road takes them. ValueError, by these names, for what is out of its bounds."""
        try:
            return SamplingParams(
                **{name: getattr(self, name) for name in SAME},
                top_k=self.top_k or -1,
                repetition_penalty=self.repetition_penalty or 1.0,
                repetition_context_size=self.repetition_context_size,
                presence_penalty=self.presence_penalty or 0.0,
                frequency_penalty=self.frequency_penalty or 0.0,
                logit_bias=self.logit_bias or {},
                max_new_tokens=self.max_tokens if max_tokens is None else max_tokens,
                seed=self.seed,
                prefill_step_size=self.prefill_step_size,
                stop_token_ids=end_ids(self.eos_tokens or (), tokenizer),
                skip_special_tokens=self.skip_special_tokens,
                **self._thinking(),
                logprobs=logprobs,
                logits_processors=tuple(processors),
            )
        except ValueError as problem:
            raise ValueError(str(problem).replace("max_new_tokens", "max_tokens")) from None

    def _thinking(self) -> dict[str, Any]:
        """Nothing is counted unless `enable_thinking` says so."""
        if not self.enable_thinking:
            return {}
        return {name: getattr(self, name) for name in THINKING}


def _over_all(processor: Callable[..., Any]) -> Callable[..., Any]:
    return lambda prompt, output, scores: processor([*prompt, *output], scores)


def end_ids(tokens: Sequence[str | int], tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The ids of further tokens that end a text. ValueError for a text that is not one token."""
    found: list[int] = []
    for token in (tokens,) if isinstance(tokens, str) else tokens:
        if isinstance(token, int):
            found.append(token)
            continue
        ids = tokenizer.encode(token, add_special_tokens=False)
        if len(ids) != 1:
            raise ValueError(f"eos_tokens: {token!r} is {len(ids)} tokens for this model; an end must be one")
        found.append(ids[0])
    return tuple(found)


def resized(shape: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) of `resize_shape`: one number is a square. ValueError for anything else."""
    numbers = [shape] if isinstance(shape, int) else list(shape)
    if len(numbers) not in (1, 2) or not all(type(number) is int and number > 0 for number in numbers):
        raise ValueError(f"resize_shape = {shape!r}: must be 1 or 2 integers, (height, width)")
    return numbers[0], numbers[-1]
