"""`generate` and `stream_generate`: one prompt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from max_interfaces import GenerationStatus, RequestFailed, TextGenerationOutput
from max_interfaces.text import GenerationStatistics

from ..many import NO_DEADLINE, as_asked
from ..media.given import GivenMedia, films_listed, listed
from .asking import check_media, request_of
from .media import read_media
from .model import Model
from .options import Options
from .processors import Processor
from .results import GIGABYTE, GenerationResult, told

WHOLE_VOCABULARY = -1
RULE = "=" * 10
NO_FIGURES = GenerationStatistics()
REASONS = {
    GenerationStatus.MAXIMUM_LENGTH: "length",
    GenerationStatus.END_OF_SEQUENCE: "stop",
    GenerationStatus.STOP_SEQUENCE: "stop",
}


def stream_generate(
    model: Model,
    processor: Processor,
    prompt: str | Sequence[int],
    image: object = None,
    audio: object = None,
    video: object = None,
    **kwargs: Any,
) -> Iterator[GenerationResult]:
    """One result for each token, as soon as it is made, with the text that it makes certain.

    The `prompt` is formatted already, see `apply_chat_template`; or token ids. `image`, `audio` and `video` are one or
    a list, in the order of their placeholders: paths, URLs, bytes, images of Pillow, arrays; a film may be its frames,
    as a list or an array, or (frames, how many a second). Keyword arguments are those of `Options`. ValueError for what
    this model cannot do; RequestFailed if it breaks. Leaving the loop early ends it.
    """
    options = Options.of(kwargs)
    given = GivenMedia(listed(image), listed(audio), films_listed(video))
    return model.held.iterate(_results(model, processor, prompt, options, given))


def generate(
    model: Model,
    processor: Processor,
    prompt: str | Sequence[int],
    image: object = None,
    audio: object = None,
    video: object = None,
    verbose: bool = False,
    **kwargs: Any,
) -> GenerationResult:
    """The whole text, with the figures of its last token; see `stream_generate`.

    `verbose` prints the prompt, the text while it is made, and the statistics.
    """
    show = print if verbose else _silent
    show(RULE, f"Prompt: {prompt}", "", sep="\n", flush=True)
    texts: list[str] = []
    result = GenerationResult()
    for result in stream_generate(model, processor, prompt, image, audio, video, **kwargs):
        show(result.text, end="", flush=True)
        texts.append(result.text)
    result.text = "".join(texts)
    show("", RULE, *told(result), sep="\n", flush=True)
    return result


async def _results(
    model: Model,
    processor: Processor,
    prompt: str | Sequence[int],
    options: Options,
    given: GivenMedia,
) -> AsyncGenerator[GenerationResult, None]:
    check_media(model, given)
    media = await asyncio.to_thread(read_media, given, options.shape)
    with options.named_processors(shared=model.shared) as processors:
        request = request_of(model, processor, prompt, options, processors, media, logprobs=WHOLE_VOCABULARY)
        async with aclosing(model.client.stream(request, NO_DEADLINE)) as outputs:
            last = GenerationResult()
            try:
                async for output in outputs:
                    for result in _of(output, last):
                        last = result
                        yield result
            except RequestFailed as problem:
                raise as_asked(problem) from None


def _of(output: TextGenerationOutput, before: GenerationResult) -> Iterator[GenerationResult]:
    """A result for each token of an output; its text comes with the last. One without a token ends an empty text."""
    figures, given = output.statistics or NO_FIGURES, output.log_probabilities
    rows = None if given is None else given.all_log_probabilities
    last = len(output.tokens) - 1
    for at, token in enumerate(output.tokens or (None,)):
        count = before.generation_tokens + (token is not None)
        yield (
            before := GenerationResult(
                text=output.text if at >= last else "",
                token=before.token if token is None else token,
                logprobs=before.logprobs if token is None or rows is None else rows[at],
                prompt_tokens=output.num_prompt_tokens,
                generation_tokens=count,
                total_tokens=output.num_prompt_tokens + count,
                prompt_tps=figures.prompt_tokens_per_second,
                generation_tps=figures.generated_tokens_per_second,
                peak_memory=figures.peak_memory / GIGABYTE,
                cached_tokens=figures.cached_tokens,
                finish_reason=REASONS.get(output.final_status) if at >= last else None,
            )
        )


def _silent(*_: object, **__: object) -> None:
    """Nothing is shown."""
