"""`speak`: a text of any length as one stream of sound, made of one request a part."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from max_interfaces import (
    AudioGenerationMetadata,
    AudioGenerationOutput,
    AudioGenerationRequest,
    GenerationStatus,
    InvalidRequest,
    PipelineTask,
    RequestID,
    RequestOptions,
    SamplingParams,
    WordTimestamp,
)
from max_interfaces.messages import ModelInfo
from max_interfaces.problems import shown

from ..speech.arriving import ArrivingText
from ..speech.splitting import Part, split_text
from .feed import Feed
from .outputs import rebuilt
from .stream import OutputStream
from .transcript import Transcript

MAX_LETTERS = 40  # of one word; no language has a longer one that is spoken in one breath
FADE_S = 0.005  # into a pause and out of it: too short to hear, long enough not to click


class Flush:
    """Among the pieces of a text: what was written so far is to be spoken now, whatever comes."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How all parts of a text are spoken."""

    voice: str | None
    sampling_params: SamplingParams
    options: RequestOptions
    adapter: str | None = None
    word_timestamps: bool = False


class Speaker(Protocol):
    """The part of a client that speaking needs."""

    def stream(
        self, request: AudioGenerationRequest, options: RequestOptions = ...
    ) -> OutputStream[AudioGenerationOutput]:
        """The outputs of a request."""
        ...


async def spoken(
    client: Speaker,
    parts: AsyncIterator[Part],
    info: ModelInfo,
    manner: Manner,
    transcript: Transcript,
) -> AsyncGenerator[AudioGenerationOutput, None]:
    """The sound of parts as they come, a request each: the next is made while the current one is heard.

    Only what goes on within a sentence waits for the end of what it goes on from, and begins where that has ended. The
    parts are those of the text in `transcript`.
    """
    joiner = Joiner(info.sample_rate, transcript)
    streams: list[OutputStream[AudioGenerationOutput]] = []  # the one that is heard, and the one that is made ahead

    def begin(part: Part, behind: AudioGenerationOutput | None = None, *, ahead: bool = False) -> None:
        request = request_of(info, part, manner, behind)
        streams.append(client.stream(request, manner.options).submit(ahead=ahead))

    async with Feed(parts) as feed:
        try:
            part = await feed.next()
            if part is not None:
                begin(part)
            while part is not None:
                following: Part | None = None
                output: AudioGenerationOutput | None = None
                async for output in streams[0]:
                    cancelled = output.final_status is GenerationStatus.CANCELLED
                    if following is None and (following := feed.waiting()) is not None and not part.is_joined:
                        begin(following, ahead=True)
                    if following is not None and part.is_joined and output.is_done and not cancelled:
                        begin(following, output, ahead=True)
                    yield joiner.join(output, part, cancelled or (following is None and feed.ended))
                    if cancelled:
                        return
                del streams[0]
                if following is None and not feed.ended and (following := await feed.next()) is not None:
                    begin(following, output if part.is_joined else None)
                part = following
            if not joiner.ended:  # it was not known of the last part that it was the last
                yield joiner.end(info)
        finally:
            for stream in streams:
                await stream.aclose()


def check_speaks(info: ModelInfo) -> None:
    """InvalidRequest if the model makes no sound, or none of a text that is given."""
    if info.task == PipelineTask.TEXT_GENERATION and info.sample_rate:
        what = "it speaks what it writes; ask for a text with a voice"
        raise InvalidRequest(f"model = {info.name!r}: cannot speak a text that is given: {what}")
    if not info.sample_rate:
        raise InvalidRequest(
            f"model = {info.name!r}: cannot speak a text; its pipeline ({info.task}) has no sample rate"
        )


def word_count(info: ModelInfo) -> Callable[[str], int]:
    """How many words a model takes a text for."""
    if not info.max_words:
        return lambda text: len(text.split())
    from max_voices.text import spell

    return lambda text: len(spell(text).split())


def speakable(info: ModelInfo, parts: Iterable[Part]) -> list[Part]:
    """Those that have a word. InvalidRequest for one that the model cannot take, and that cannot be cut any further."""
    if not info.max_words:
        return [part for part in parts if any(map(str.isalnum, part.text))]
    from max_voices.text import spell

    return [part for part in parts if _is_speakable(part.text, spell(part.text).split(), info.max_words)]


def plan(info: ModelInfo, text: str) -> list[Part]:
    """The parts of a text for a model. InvalidRequest if there is nothing to say, or the model does not speak."""
    check_speaks(info)
    parts = speakable(info, split_text(text, info.max_words, word_count(info)))
    if not parts:
        raise InvalidRequest(f"text = {shown(text)}: has nothing to say that this voice can read; give some words")
    return parts


async def parts_of(info: ModelInfo, text: str) -> AsyncIterator[Part]:
    """The parts of a whole text. InvalidRequest as `plan`."""
    for part in plan(info, text):
        yield part


async def parts_as_written(
    info: ModelInfo, texts: AsyncIterator[str | Flush], transcript: Transcript | None = None
) -> AsyncIterator[Part]:
    """The parts of a text that comes in pieces of any size, each as soon as it can be spoken, noted in a transcript."""
    arriving = ArrivingText(info.max_words, word_count(info))
    async for piece in texts:
        if transcript is not None and not isinstance(piece, Flush):
            transcript.write(piece)
        for part in speakable(info, arriving.flush() if isinstance(piece, Flush) else arriving.push(piece)):
            yield part
    for part in speakable(info, arriving.flush()):
        yield part


def _is_speakable(part: str, words: list[str], max_words: int) -> bool:
    """False for a part without a word, such as an emoji. InvalidRequest for one that cannot be cut any further."""
    longest = max(map(len, words), default=0)
    if len(words) > max_words:
        what = f"has {len(words)} words when written out, this voice takes {max_words} at most"
    elif longest > MAX_LETTERS:
        what = f"has a word of {longest} letters, this voice takes {MAX_LETTERS} at most"
    else:
        return bool(words)
    raise InvalidRequest(f"the part {shown(part)} of the text {what}, and it cannot be cut; write it differently")


def check_voice(info: ModelInfo, voice: str | None) -> None:
    """InvalidRequest for a voice that the model does not have."""
    if voice is not None and info.voices and voice not in info.voices:
        raise InvalidRequest(f"voice = {voice!r}: there is no such voice; there are: {', '.join(info.voices)}")


def request_of(
    info: ModelInfo,
    part: Part,
    manner: Manner,
    behind: AudioGenerationOutput | None = None,
) -> AudioGenerationRequest:
    """The request for one part, which goes on `behind` the last output of another if one is given."""
    return AudioGenerationRequest(
        RequestID(),
        info.name,
        part.text,
        sampling_params=manner.sampling_params,
        voice=manner.voice,
        adapter_id=manner.adapter,
        buffer_speech_tokens=None if behind is None else behind.buffer_speech_tokens,
        buffer_position=None if behind is None else behind.buffer_position,
        to_be_continued=part.followed,
        word_timestamps=manner.word_timestamps,
    )


@dataclass(slots=True)
class Joiner:
    """Turns the outputs of several requests into those of one: numbered through, faded into the pauses between."""

    rate: int
    transcript: Transcript
    chunks: int = 0
    steps: int = 0
    prompts: int = 0  # tokens of the prompts of the parts that have ended
    _tail: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    _pause: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    _fresh: bool = False  # the next sample is the first after a pause
    _samples: int = 0  # that were given out or are held back
    _start: int | None = None  # where among them the part's sound begins, once it has
    ended: bool = False

    def join(self, output: AudioGenerationOutput, part: Part, last: bool) -> AudioGenerationOutput:
        """The output as part of the whole; `last` for the outputs of what is known to be the last part."""
        samples = output.audio_data
        if samples.size and self._start is None:
            self._start = self._samples + (self._pause.size if self._fresh else 0)
        if samples.size and self._fresh:
            samples = np.concatenate([self._pause, _faded(samples, self._fade, 1)])
            self._fresh = False
        self._samples += samples.size
        words = self.transcript.place(output.metadata.words, (self._start or 0) / self.rate)
        if output.is_done:
            self._start = None
        samples = np.concatenate([self._tail, samples])
        self._tail = np.zeros(0, np.float32)
        status = output.final_status
        if not last:
            status = GenerationStatus.ACTIVE
            if not part.is_joined:
                samples = self._hold_back(samples, output.is_done, part)
        return self._numbered(output, samples, status, words)

    def end(self, info: ModelInfo) -> AudioGenerationOutput:
        """The last output, where the one before it did not know that it was."""
        metadata = AudioGenerationMetadata(sample_rate=info.sample_rate, model_name=info.name)
        last = AudioGenerationOutput(GenerationStatus.END_OF_SEQUENCE, 0, metadata=metadata)
        return self._numbered(last, self._tail, GenerationStatus.END_OF_SEQUENCE)

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
        self,
        output: AudioGenerationOutput,
        samples: NDArray[np.float32],
        status: GenerationStatus,
        words: tuple[WordTimestamp, ...] = (),
    ) -> AudioGenerationOutput:
        self.steps += output.steps_executed
        number, self.chunks = self.chunks, self.chunks + 1
        self.ended = status.is_done
        prompts = self.prompts + (output.metadata.prompt_tokens or 0)
        if output.is_done:
            self.prompts = prompts
        metadata: AudioGenerationMetadata = replace(
            output.metadata,
            chunk_id=number,
            duration=samples.size / self.rate,
            final_chunk=status.is_done,
            tokens_generated=self.steps,
            words=words,
            prompt_tokens=prompts,
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
