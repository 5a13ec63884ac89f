"""What a request of the text-generation API says, and what that means for the engine."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from max_interfaces import RequestID, SamplingParams, TextGenerationRequest
from max_interfaces.messages import ModelInfo

from ...config import TextLimits
from ...raw_json import described, json_of, null
from ..problems import VALIDATION, HttpProblem

Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Number = Annotated[float, Meta(ge=-1e30, le=1e30)]
# `check` looks at the bounds, in the API's order and words; here the document is told of them.
POSITIVE = Meta(extra_json_schema={"exclusiveMinimum": 0})
SHARE = Meta(extra_json_schema={"exclusiveMinimum": 0, "exclusiveMaximum": 1})
PENALTY = Meta(extra_json_schema={"allOf": [{"minimum": -2, "maximum": 2}]})  # beside the bounds of the number
NOT_EMPTY = Meta(extra_json_schema={"minLength": 1})
GRAMMAR = described("object", required=["type", "value"], properties={"type": {"type": "string"}})
SEED_BITS = 53  # every reader of JSON can hold them
SAMPLING = ("temperature", "top_k", "top_p", "typical_p")  # one of them asks for sampling


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """How a text is to be generated. null is the same as not given; what nobody knows is ignored."""

    adapter_id: Annotated[str, Meta(max_length=256)] | None = None
    best_of: Count | None = None
    decoder_input_details: bool | None = None
    details: bool | None = None
    do_sample: bool | None = None
    frequency_penalty: Annotated[Number, PENALTY] | None = None
    grammar: Annotated[msgspec.Raw, GRAMMAR] = msgspec.field(default_factory=null)
    max_new_tokens: Annotated[Count, POSITIVE] | None = None
    repetition_penalty: Annotated[Number, POSITIVE] | None = None
    return_full_text: bool | None = None
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    stop: Annotated[list[Annotated[str, Meta(max_length=1024)]], Meta(max_length=1024)] | None = None
    temperature: Annotated[Number, POSITIVE] | None = None
    top_k: Annotated[int, Meta(ge=-(2**31), le=2**20), POSITIVE] | None = None
    top_n_tokens: Count | None = None
    top_p: Annotated[Number, SHARE] | None = None
    truncate: Annotated[Count, POSITIVE] | None = None
    typical_p: Annotated[Number, SHARE] | None = None
    watermark: bool | None = None

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn; else the likeliest is taken."""
        return bool(self.do_sample) or any(getattr(self, name) is not None for name in SAMPLING)

    @property
    def wants_details(self) -> bool:
        """Whether the answer has them."""
        return bool(self.details or self.decoder_input_details)


class Options(msgspec.Struct, frozen=True):
    """The hosted API's older place for what the headers `x-use-cache` and `x-wait-for-model` say."""

    use_cache: bool | None = None
    wait_for_model: bool | None = None


class Asked(msgspec.Struct, frozen=True):
    """A body. `parameters` differ with what the model does, so that they are read once that is known; null for none."""

    inputs: Annotated[str, Meta(max_length=2**21), NOT_EMPTY]
    parameters: msgspec.Raw = msgspec.field(default_factory=null)
    stream: bool = False
    options: Options | None = None


def check(inputs: str, given: Parameters, stream: bool, limits: TextLimits, max_tokens: int) -> None:
    """HttpProblem 422 with the API's message for the first thing that is wrong; `max_tokens` are the model's."""
    for wrong, message in _wrongs(inputs, given, stream, limits, max_tokens):
        if wrong:
            raise invalid(message)


def invalid(message: str) -> HttpProblem:
    """A request that cannot be served as it is."""
    return HttpProblem(422, VALIDATION, f"Input validation error: {message}")


def _wrongs(
    inputs: str, given: Parameters, stream: bool, limits: TextLimits, max_tokens: int
) -> Iterator[tuple[bool, str]]:
    """What may be wrong, in the order in which the API looks."""
    best_of, stops, top, cut = given.best_of or 1, given.stop or (), given.top_n_tokens or 0, given.truncate
    most_input, wanted = max_tokens - 1, given.max_new_tokens
    text = f"`best_of` must be > 0 and <= {limits.max_best_of}. Given: {best_of}"
    yield best_of > limits.max_best_of, text
    yield stream and given.best_of not in (None, 1), "`best_of` != 1 is not supported when streaming tokens"
    yield (
        stream and bool(given.decoder_input_details),
        ("`decoder_input_details` == true is not supported when streaming tokens"),
    )
    yield best_of > 1 and not given.samples, "you must use sampling when `best_of` is > 1"
    yield best_of > 1 and given.seed is not None, "`seed` must not be set when `best_of` > 1"
    yield _not_positive(given.temperature), "`temperature` must be strictly positive"
    yield _not_positive(given.repetition_penalty), "`repetition_penalty` must be strictly positive"
    yield abs(given.frequency_penalty or 0) > 2, "`frequency_penalty` must be >= -2.0 and <= 2.0"
    yield _no_share(given.top_p), "`top_p` must be > 0.0 and < 1.0"
    yield _no_share(given.typical_p), "`typical_p` must be > 0.0 and < 1.0"
    yield _not_positive(given.top_k), "`top_k` must be strictly positive"
    yield wanted == 0, "`max_new_tokens` must be strictly positive"
    text = f"`stop` supports up to {limits.max_stop_sequences} stop sequences. Given: {len(stops)}"
    yield len(stops) > limits.max_stop_sequences, text
    text = f"`top_n_tokens` must be >= 0 and <= {limits.max_top_n_tokens}. Given: {top}"
    yield top > limits.max_top_n_tokens, text
    yield not inputs, "`inputs` cannot be empty"
    text = f"`truncate` must be strictly positive and less than {most_input}. Given: {cut}"
    yield cut is not None and not 0 < cut <= most_input, text


def check_room(prompt_tokens: int, wanted: int | None, max_tokens: int) -> None:
    """HttpProblem 422 for an answer that could not become as long as it may."""
    if wanted is not None and prompt_tokens + wanted > max_tokens:
        raise invalid(
            f"`inputs` tokens + `max_new_tokens` must be <= {max_tokens}. "
            f"Given: {prompt_tokens} `inputs` tokens and {wanted} `max_new_tokens`"
        )


def _not_positive(value: float | None) -> bool:
    return value is not None and value <= 0


def _no_share(value: float | None) -> bool:
    return value is not None and not 0 < value < 1


def sampling_of(given: Parameters) -> SamplingParams:
    """The same for the engine. A seed that is not given is drawn here, for the answer tells it."""
    samples, best_of = given.samples, given.best_of or 1
    return SamplingParams(
        top_k=given.top_k or -1,
        top_p=given.top_p or 1.0,
        temperature=(given.temperature or 1.0) if samples else 0.0,
        frequency_penalty=given.frequency_penalty or 0.0,
        repetition_penalty=given.repetition_penalty or 1.0,
        max_new_tokens=given.max_new_tokens,
        stop=tuple(stop for stop in given.stop or () if stop),
        seed=random.getrandbits(SEED_BITS) if samples and given.seed is None else given.seed,
        typical_p=given.typical_p or 1.0,
        include_stop_text=True,
        n=best_of,
        best_of=best_of if best_of > 1 else None,
        logprobs=0,
        top_n_tokens=given.top_n_tokens or 0,
        prompt_logprobs=0 if given.decoder_input_details else None,
        truncate=given.truncate,
        grammar=json_of(given.grammar, "grammar"),
        watermark=bool(given.watermark),
    )


def request_of(asked: Asked, given: Parameters, info: ModelInfo, path: str) -> TextGenerationRequest:
    """The request for what was asked. ValueError for a value that the engine has no use for."""
    return TextGenerationRequest(
        RequestID(),
        info.name,
        asked.inputs,
        request_path=path,
        sampling_params=sampling_of(given),
        adapter_id=given.adapter_id,
        token_texts=True,
    )
