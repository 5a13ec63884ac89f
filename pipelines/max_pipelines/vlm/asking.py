"""From what a caller gives to a request of the road."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from max_interfaces import Json, RequestID, TextGenerationRequest

from ..media.given import GivenMedia, what_is_taken
from .media import TEXT_ALONE, PromptMedia
from .model import Model
from .options import Options
from .processors import Processor, tokenizer_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def request_of(
    model: Model,
    processor: Processor,
    prompt: str | Sequence[int],
    options: Options,
    processors: Sequence[str] = (),
    media: PromptMedia = TEXT_ALONE,
    *,
    logprobs: int | None = None,
    max_tokens: int | None = None,
) -> TextGenerationRequest:
    """A request for the text after a formatted prompt, which has a placeholder for each of the `media`.

    ValueError for an option that cannot be had.
    """
    tokenizer = tokenizer_of(processor)
    shown = bool(media.images or media.audios or media.videos)
    return TextGenerationRequest(
        RequestID(),
        model.name,
        text_of(tokenizer, prompt) if shown and isinstance(prompt, str) else ids_of(tokenizer, prompt),
        images=media.images,
        audios=media.audios,
        videos=media.videos,
        processor_options=Json.of({"fps": options.fps}, "fps") if media.videos and options.fps is not None else None,
        sampling_params=options.sampling(tokenizer, max_tokens, processors, logprobs),
        adapter_id=model.adapter,
        running_statistics=True,
    )


def ids_of(tokenizer: PreTrainedTokenizerBase, prompt: str | Sequence[int]) -> tuple[int, ...]:
    """The ids of a prompt. What a template has begun with the begin of a text does not get another one."""
    if not isinstance(prompt, str):
        return tuple(prompt)
    return tuple(tokenizer.encode(prompt, add_special_tokens=not _begun(tokenizer, prompt)))


def text_of(tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    """The same for a prompt that is read in the worker, once its placeholders are as many as they take."""
    if _begun(tokenizer, prompt) and tokenizer.encode("")[:1] == [tokenizer.bos_token_id]:
        return prompt.removeprefix(str(tokenizer.bos_token))
    return prompt


def check_media(model: Model, given: GivenMedia, *, several: bool = False) -> None:
    """ValueError naming the argument, in its plural if there are `several`, that the model cannot take.

    It has to be running.
    """
    kinds = model.media
    for kind in given.counts:
        if kind.value not in kinds:
            raise ValueError(f"{kind.value}{'s' * several}: {what_is_taken(kinds)}")


def _begun(tokenizer: PreTrainedTokenizerBase, prompt: str) -> bool:
    begin = tokenizer.bos_token
    return isinstance(begin, str) and prompt.startswith(begin)
