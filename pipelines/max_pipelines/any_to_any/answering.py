"""From prompts to what is said to them, over the road."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_interfaces import (
    Json,
    RequestFailed,
    RequestID,
    SamplingParams,
    TextGenerationOutput,
    TextGenerationRequest,
    TextGenerationRequestMessage,
)

from ..many import NO_DEADLINE, as_asked, run_all
from ..vlm.model import Model

NO_SAMPLES = np.zeros(0, np.float32)
Prompt = str | tuple[int, ...] | tuple[TextGenerationRequestMessage, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One prompt, a text, ids, or messages, and how it is to be answered; with a `voice` aloud, with `guidance` by a
    picture.
    """

    prompt: Prompt
    params: SamplingParams
    voice: str | None = None
    images: tuple[bytes, ...] = ()
    audios: tuple[bytes, ...] = ()
    videos: tuple[bytes, ...] = ()
    goes_on: bool = False  # within the last message
    processor: Mapping[str, Any] = field(default_factory=dict)
    guidance: float | None = None

    def request(self, model: str) -> TextGenerationRequest:
        """As the road takes it. ValueError, naming the field, for what it cannot be."""
        conversation = isinstance(self.prompt, tuple) and bool(self.prompt) and not isinstance(self.prompt[0], int)
        return TextGenerationRequest(
            RequestID(),
            model,
            None if conversation else self.prompt,  # type: ignore[arg-type]
            self.prompt if conversation else (),  # type: ignore[arg-type]
            images=self.images,
            audios=self.audios,
            videos=self.videos,
            sampling_params=self.params,
            add_generation_prompt=not self.goes_on,
            continue_final_message=self.goes_on,
            processor_options=Json.of(dict(self.processor), "processor_kwargs") if self.processor else None,
            return_prompt=True,
            voice=self.voice,
            guidance=self.guidance,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What was said: `tokens` after those of the `prompt`, their text, and its sound, float32[samples]; or what was
    drawn, uint8[height, width, 3].
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    text: str
    samples: NDArray[np.float32]
    sample_rate: int
    pixels: NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, output: TextGenerationOutput) -> Answer:
        """Of a whole output."""
        samples = NO_SAMPLES if output.audio_data is None else output.audio_data
        return cls(output.prompt_tokens, output.tokens, output.text, samples, output.sample_rate, output.image_data)


def answers(model: Model, asked: Sequence[Asked]) -> list[Answer]:
    """Those to all prompts, which run at once. ValueError for what the model cannot do; RequestFailed if it breaks."""
    jobs = [partial(_answer, model, one) for one in asked]
    found = model.held.run(run_all(jobs, False, _counted, "prompts"))
    for one in found:
        if isinstance(one, Exception):
            raise one
    return [one for one in found if isinstance(one, Answer)]


def pieces(model: Model, asked: Asked) -> Iterator[TextGenerationOutput]:
    """The answer to one, as it is made."""
    return model.held.iterate(_pieces(model, asked))


async def _pieces(model: Model, asked: Asked) -> AsyncGenerator[TextGenerationOutput, None]:
    async with aclosing(model.client.stream(asked.request(model.name), NO_DEADLINE)) as outputs:
        try:
            async for output in outputs:
                yield output
        except RequestFailed as problem:
            raise as_asked(problem) from None


async def _answer(model: Model, asked: Asked) -> Answer:
    return Answer.of(await model.client.generate(asked.request(model.name), NO_DEADLINE))


def _counted(answer: Answer) -> tuple[int, int]:
    return len(answer.prompt), len(answer.tokens)
