"""`speak`: a text of any length as one stream of sound, made of one request a part."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from max_interfaces import (
    AudioGenerationMetadata,
    AudioGenerationOutput,
    AudioGenerationRequest,
    GenerationStatus,
    RequestID,
    RequestOptions,
    SamplingParams,
)
from max_interfaces.messages import ModelInfo
from max_interfaces.problems import shown

from ..speech.splitting import Part, split_text
from .outputs import rebuilt
from .stream import OutputStream

MAX_LETTERS = 40  # of one word; no language has a longer one that is spoken in one breath
FADE_S = 0.005  # into a pause and out of it: too short to hear, long enough not to click


class Speaker(Protocol):
    """The part of a client that speaking needs."""

    def model(self, name: str | None = ...) -> ModelInfo:
        """What is known of a served model."""
        ...

    def stream(
        self, request: AudioGenerationRequest, options: RequestOptions = ...
    ) -> OutputStream[AudioGenerationOutput]:
        """The outputs of a request."""
        ...


async def spoken(
    client: Speaker,
    text: str,
    voice: str | None,
    model: str | None,
    sampling_params: SamplingParams,
    options: RequestOptions,
) -> AsyncGenerator[AudioGenerationOutput, None]:
    """A text, one request a part: the next is made while the current one is heard. See `AsyncClient.speak`."""
    info = client.model(model)
    parts = plan(info, text)
    waiting = requests(info, parts, voice, sampling_params)
    joiner = Joiner(info.sample_rate)
    current = client.stream(waiting[0], options).submit()
    ahead: OutputStream[AudioGenerationOutput] | None = None
    try:
        for number, part in enumerate(parts):
            last = number + 1 == len(parts)
            async for output in current:
                if ahead is None and not last:
                    ahead = client.stream(waiting[number + 1], options).submit(ahead=True)
                cancelled = output.final_status is GenerationStatus.CANCELLED
                yield joiner.join(output, part, last or cancelled)
                if cancelled:
                    return
            if ahead is not None:
                current, ahead = ahead, None
    finally:
        for outputs in (current, ahead):
            if outputs is not None:
                await outputs.aclose()


def check_speaks(info: ModelInfo) -> None:
    """ValueError if the model makes no sound."""
    if not info.sample_rate:
        raise ValueError(f"model = {info.name!r}: cannot speak a text; its pipeline ({info.task}) has no sample rate")


def plan(info: ModelInfo, text: str) -> list[Part]:
    """The parts of a text for a model. ValueError if there is nothing to say, or the model does not speak."""
    check_speaks(info)
    if info.max_words:
        from max_voices.text import spell

        parts = [
            part
            for part in split_text(text, info.max_words, lambda part: len(spell(part).split()))
            if _is_speakable(part.text, spell(part.text).split(), info.max_words)
        ]
    else:
        parts = [part for part in split_text(text, 0) if any(map(str.isalnum, part.text))]
    if not parts:
        raise ValueError(f"text = {shown(text)}: has nothing to say that this voice can read; give some words")
    return parts


def _is_speakable(part: str, words: list[str], max_words: int) -> bool:
    """False for a part without a word, such as an emoji. ValueError for one that cannot be cut any further."""
    longest = max(map(len, words), default=0)
    if len(words) > max_words:
        what = f"has {len(words)} words when written out, this voice takes {max_words} at most"
    elif longest > MAX_LETTERS:
        what = f"has a word of {longest} letters, this voice takes {MAX_LETTERS} at most"
    else:
        return bool(words)
    raise ValueError(f"the part {shown(part)} of the text {what}, and it cannot be cut; write it differently")


def requests(
    info: ModelInfo, parts: list[Part], voice: str | None, sampling_params: SamplingParams
) -> list[AudioGenerationRequest]:
    """A request for each part. ValueError for a voice that the model does not have."""
    if voice is not None and info.voices and voice not in info.voices:
        raise ValueError(f"voice = {voice!r}: there is no such voice; there are: {', '.join(info.voices)}")
    return [
        AudioGenerationRequest(RequestID(), info.name, part.text, sampling_params=sampling_params, voice=voice)
        for part in parts
    ]


@dataclass(slots=True)
class Joiner:
    """Turns the outputs of several requests into those of one: numbered through, faded into the pauses between."""

    rate: int
    chunks: int = 0
    steps: int = 0
    _tail: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    _pause: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    _fresh: bool = False  # the next sample is the first after a pause

    def join(self, output: AudioGenerationOutput, part: Part, last: bool) -> AudioGenerationOutput:
        """The output as part of the whole; `last` for the outputs of the last part."""
        samples = output.audio_data
        if samples.size and self._fresh:
            samples = np.concatenate([self._pause, _faded(samples, self._fade, 1)])
            self._fresh = False
        samples = np.concatenate([self._tail, samples])
        self._tail = np.zeros(0, np.float32)
        status = output.final_status
        if not last:
            samples = self._hold_back(samples, output.is_done, part)
            status = GenerationStatus.ACTIVE
        return self._numbered(output, samples, status)

    @property
    def _fade(self) -> int:
        return round(FADE_S * self.rate)

    def _hold_back(self, samples: NDArray[np.float32], done: bool, part: Part) -> NDArray[np.float32]:
        """Only the end of a part shows which samples are to be faded out: keep the last few until then."""
        if done:
            self._fresh = True
            self._pause = np.zeros(round(part.pause_s * self.rate), np.float32)
            return _faded(samples, self._fade, -1)
        kept = min(self._fade, samples.size)
        self._tail = samples[samples.size - kept :]
        return samples[: samples.size - kept]

    def _numbered(
        self, output: AudioGenerationOutput, samples: NDArray[np.float32], status: GenerationStatus
    ) -> AudioGenerationOutput:
        self.steps += output.steps_executed
        number, self.chunks = self.chunks, self.chunks + 1
        metadata: AudioGenerationMetadata = replace(
            output.metadata,
            chunk_id=number,
            duration=samples.size / self.rate,
            final_chunk=status.is_done,
            tokens_generated=self.steps,
        )
        return rebuilt(output, audio_data=samples, final_status=status, metadata=metadata)


def _faded(samples: NDArray[np.float32], size: int, direction: int) -> NDArray[np.float32]:
    """The first samples faded in (direction 1), or the last ones faded out (-1)."""
    size = min(size, samples.size)
    if not size:
        return samples
    ramp = np.linspace(0, 1, size, dtype=np.float32)[::direction]
    faded = samples.copy()
    edge = slice(None, size) if direction == 1 else slice(samples.size - size, None)
    faded[edge] *= ramp
    return faded
