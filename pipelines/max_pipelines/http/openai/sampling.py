"""The fields of both endpoints that say how tokens are chosen."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from max_interfaces import Json, SamplingParams

MOST_CHOICES = 128  # OpenAI's own bound
MOST_LOGPROBS = 20  # likewise, and vLLM's

TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Limit = Annotated[int, Meta(ge=0, le=2**20)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Stop = Annotated[str, Meta(max_length=1024)]
KEYS = {"propertyNames": {"pattern": "^(0|[1-9][0-9]{0,9})$"}}  # for the document: those of objects are strings
Bias = Annotated[dict[TokenId, Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=1024, extra_json_schema=KEYS)]
NAMES = {
    "temperature": "temperature",
    "top_p": "top_p",
    "n": "n",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "logit_bias": "logit_bias",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "min_tokens": "min_new_tokens",
    "ignore_eos": "ignore_eos",
    "stop_token_ids": "stop_token_ids",
    "include_stop_str_in_output": "include_stop_text",
    "skip_special_tokens": "skip_special_tokens",
}
"""The fields, and what the engine calls them; the two agree on every default."""


class StreamOptions(msgspec.Struct, frozen=True):
    """With `include_usage` a stream's last event says what it has cost."""

    include_usage: bool | None = None


class SamplingFields(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's fields, then what others have added. null is as if the field were not there; others are ignored."""

    model: Annotated[str, Meta(max_length=256)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=MOST_CHOICES)] | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=64)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: Bias | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**20)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=100)] | None = None
    min_tokens: Limit | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=1024)] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None

    @property
    def choices(self) -> int:
        """How many answers are wanted."""
        return self.n or 1

    @property
    def includes_usage(self) -> bool:
        """Whether a stream is to say what it has cost."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def sampling(self, **more: int | bool | Json | None) -> SamplingParams:
        """What the engine is asked for, with `more` that only one endpoint has. ValueError names a bound."""
        given = {ours: value for theirs, ours in NAMES.items() if (value := getattr(self, theirs)) is not None}
        if self.seed is not None:
            given["seed"] = self.seed % 2**63  # theirs may be negative
        return SamplingParams(**given, stop=self._stops, **more)  # type: ignore[arg-type]

    @property
    def _stops(self) -> tuple[str, ...]:
        """The stop texts; an empty one, which some clients send, stops nothing."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(stop for stop in stops if stop)
