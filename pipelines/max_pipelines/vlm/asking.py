"""From what a caller gives to a request of the road."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from max_interfaces import RequestID, TextGenerationRequest

from .model import Model
from .options import Options

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def request_of(
    model: Model,
    processor: PreTrainedTokenizerBase,
    prompt: str | Sequence[int],
    options: Options,
    processors: Sequence[str] = (),
    *,
    logprobs: int | None = None,
    max_tokens: int | None = None,
) -> TextGenerationRequest:
    """A request for the text after a formatted prompt. ValueError for an option that cannot be had."""
    return TextGenerationRequest(
        RequestID(),
        model.name,
        ids_of(processor, prompt),
        sampling_params=options.sampling(processor, max_tokens, processors, logprobs),
        adapter_id=model.adapter,
        running_statistics=True,
    )


def ids_of(processor: PreTrainedTokenizerBase, prompt: str | Sequence[int]) -> tuple[int, ...]:
    """The ids of a prompt. What a template has begun with the begin of a text does not get another one."""
    if not isinstance(prompt, str):
        return tuple(prompt)
    begin = processor.bos_token
    begun = isinstance(begin, str) and prompt.startswith(begin)
    return tuple(processor.encode(prompt, add_special_tokens=not begun))


def refuse_media(**given: object) -> None:
    """ValueError for what a model that reads text only cannot take."""
    for name, value in given.items():
        if value is not None and value != []:
            raise ValueError(f"{name}: this model reads text only")
