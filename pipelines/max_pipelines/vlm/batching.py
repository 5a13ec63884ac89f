"""`batch_generate`: many prompts at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from max_interfaces import TextGenerationOutput, TextGenerationRequest

from ..many import NO_DEADLINE, run_all
from .asking import check_media, request_of
from .media import PromptMedia, of_each, read_media
from .model import Model
from .options import Options
from .processors import Processor
from .results import GIGABYTE, BatchResponse, BatchStats, told

MAX_TOKENS = 128


def batch_generate(
    model: Model,
    processor: Processor,
    images: Sequence[object] | object | None = None,
    audios: Sequence[object] | object | None = None,
    prompts: Sequence[str | Sequence[int]] | None = None,
    max_tokens: int | Sequence[int] = MAX_TOKENS,
    verbose: bool = False,
    group_by_shape: bool = True,
    track_image_sizes: bool = True,
    videos: Sequence[object] | object | None = None,
    **kwargs: Any,
) -> BatchResponse:
    """The text for each formatted prompt, in one batch; `max_tokens` is one number, or one for each.

    `images`, `audios` and `videos` are one for each prompt, or None. No image is padded, whatever its neighbours' sizes
    are, so that `group_by_shape` changes nothing. `track_image_sizes` tells the size that each image had. Keyword
    arguments are those of `Options`, for all alike. `verbose` prints statistics. ValueError for what this model cannot
    do, or another number of limits, images, sounds or films than of prompts; RequestFailed if it breaks.
    """
    if not prompts:
        raise ValueError("prompts: must not be empty")
    options = Options.of(kwargs)
    limits = [max_tokens] * len(prompts) if isinstance(max_tokens, int) else list(max_tokens)
    if len(limits) != len(prompts):
        raise ValueError(f"max_tokens: {len(limits)} of them for {len(prompts)} prompts; give one, or one for each")
    given = of_each(images, audios, videos, len(prompts))
    begin = time.perf_counter()
    held = model.held
    for one in given:
        check_media(model, one, several=True)
    sized = track_image_sizes and any(one.images for one in given)
    media = [read_media(one, options.shape, sized=sized) for one in given]
    texts = held.run(_all(model, processor, prompts, media, limits, options))
    stats = _summed(texts, time.perf_counter() - begin)
    if verbose:
        print(*told(stats), sep="\n", flush=True)
    return BatchResponse([text.text for text in texts], stats, [one.size for one in media] if sized else None)


async def _all(
    model: Model,
    processor: Processor,
    prompts: Sequence[str | Sequence[int]],
    media: Sequence[PromptMedia],
    limits: Sequence[int],
    options: Options,
) -> list[TextGenerationOutput]:
    with options.named_processors(shared=model.shared) as processors:
        requests = [
            request_of(model, processor, prompt, options, processors, beside, max_tokens=limit)
            for prompt, beside, limit in zip(prompts, media, limits, strict=True)
        ]
        jobs = [partial(_text, model, request) for request in requests]
        found = await run_all(jobs, False, _counted, "prompts")
    for one in found:
        if isinstance(one, Exception):
            raise one
    return [one for one in found if not isinstance(one, Exception)]


async def _text(model: Model, request: TextGenerationRequest) -> TextGenerationOutput:
    return await model.client.generate(request, NO_DEADLINE)


def _counted(text: TextGenerationOutput) -> tuple[int, int]:
    return text.num_prompt_tokens, len(text.tokens)


def _summed(texts: Sequence[TextGenerationOutput], seconds: float) -> BatchStats:
    """All figures in one. Prompts are read side by side: until the slowest has been, and from the first one on."""
    figures = [text.statistics for text in texts if text.statistics is not None]
    read = sum(text.num_prompt_tokens for text in texts)
    made = sum(len(text.tokens) for text in texts)
    prompt_s = max((one.prompt_s for one in figures), default=0.0)
    generation_s = max(0.0, seconds - min((one.prompt_s for one in figures), default=0.0))
    return BatchStats(
        prompt_tokens=read,
        prompt_tps=read / prompt_s if prompt_s else 0.0,
        prompt_time=prompt_s,
        generation_tokens=made,
        generation_tps=made / generation_s if generation_s else 0.0,
        generation_time=generation_s,
        peak_memory=max((one.peak_memory for one in figures), default=0) / GIGABYTE,
    )
