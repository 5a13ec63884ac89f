"""`speak`: a text of any length as one stream of sound, made of one request a part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Protocol

from max_interfaces import (
    AudioGenerationOutput,
    AudioGenerationRequest,
    GenerationStatus,
    InvalidRequest,
    PipelineTask,
    RequestID,
    RequestOptions,
    SamplingParams,
)
from max_interfaces.audio import MAX_INPUT_LENGTH
from max_interfaces.messages import ModelInfo
from max_interfaces.problems import shown

from ..speech.arriving import ArrivingText
from ..speech.splitting import Part, split_text
from .feed import Feed
from .joining import Joiner
from .stream import OutputStream
from .transcript import Transcript

MAX_READ = 1024  # pieces of a text whose reading is kept: each is counted, alone and in a sentence, then looked at
MAX_LETTERS = 40  # of one word; no language has a longer one that is spoken in one breath


class Flush:
    """Among the pieces of a text: what was written so far is to be spoken now, whatever comes."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How all parts of a text are spoken: in the voice of that name, or of a sample, of which each has both fields."""

    voice: str | None
    sampling_params: SamplingParams
    options: RequestOptions
    adapter: str | None = None
    normalize: bool = True
    audio_prompt_tokens: Sequence[int] = ()
    audio_prompt_transcription: str = ""
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
    joiner = Joiner(info, transcript)
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
                    if following is None and (following := feed.waiting()) is not None and not part.joined:
                        begin(following, ahead=True)
                    if following is not None and part.joined and output.is_done and not cancelled:
                        begin(following, output, ahead=True)
                    yield joiner.join(output, part, cancelled or (following is None and feed.ended))
                    if cancelled:
                        return
                del streams[0]
                if following is None and not feed.ended and (following := await feed.next()) is not None:
                    begin(following, output if part.joined else None)
                part = following
            if not joiner.ended:  # it was not known of the last part that it was the last
                yield joiner.end()
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


def reading(info: ModelInfo, normalize: bool = True) -> Callable[[str], str]:
    """A text as the model is given it, by which its words are counted."""
    normalized = info.normalizes and normalize
    if not (normalized or info.spells):
        return str
    from max_voices.text import read

    return lru_cache(MAX_READ)(partial(read, normalized=normalized, spelled=info.spells))


def speakable(info: ModelInfo, parts: Iterable[Part], read: Callable[[str], str]) -> list[Part]:
    """Those that have a word. InvalidRequest for one that the model cannot take, and that cannot be cut any further."""
    return [part for part in parts if _is_speakable(part.text, read(part.text), info)]


def plan(info: ModelInfo, text: str, normalize: bool = True) -> Iterator[Part]:
    """The parts of a text for a model, sentence by sentence, as they are asked for.

    InvalidRequest before the first if the model does not speak, there is nothing to say, or a word is too long.
    """
    check_speaks(info)
    check_encodable(text)
    read = reading(info, normalize)
    sentences = split_text(text, 0)
    _check_can_be_cut(info, text, sentences, read)
    silent = True
    for sentence in sentences:
        cut = split_text(sentence.text, info.max_words, lambda part: len(read(part).split()))
        for part in speakable(info, cut, read):
            silent = False
            yield part
    if silent:
        raise InvalidRequest(f"text = {shown(text)}: has nothing to say that this voice can read; give some words")


async def parts_of(info: ModelInfo, text: str, normalize: bool) -> AsyncIterator[Part]:
    """The parts of a whole text, found in a thread: to read it takes a while. InvalidRequest as `plan`.

    Each is given when the next has been looked for, so that of the last one it is known at once that it is the last.
    """
    parts = plan(info, text, normalize)
    part = await asyncio.to_thread(next, parts, None)
    while part is not None:
        following = await asyncio.to_thread(next, parts, None)
        yield part
        part = following


async def parts_as_written(
    info: ModelInfo, texts: AsyncIterator[str | Flush], normalize: bool, transcript: Transcript | None = None
) -> AsyncIterator[Part]:
    """The parts of a text that comes in pieces of any size, each as soon as it can be spoken, noted in a transcript."""
    read = reading(info, normalize)
    arriving = ArrivingText(info.max_words, lambda part: len(read(part).split()))
    async for piece in texts:
        check_encodable("" if isinstance(piece, Flush) else piece)
        if transcript is not None and not isinstance(piece, Flush):
            transcript.write(piece)
        for part in speakable(info, arriving.flush() if isinstance(piece, Flush) else arriving.push(piece), read):
            yield part
    for part in speakable(info, arriving.flush(), read):
        yield part


def _check_can_be_cut(info: ModelInfo, text: str, sentences: Iterable[Part], read: Callable[[str], str]) -> None:
    """InvalidRequest for what will be too long however the text is cut. Only what may be is read: few words are."""
    pieces = text.split() if info.max_words else [sentence.text for sentence in sentences]
    short = min(MAX_LETTERS, info.max_words // 2) if info.max_words else MAX_INPUT_LENGTH
    for piece in dict.fromkeys(piece for piece in pieces if len(piece) > short):
        _is_speakable(piece, read(piece), info)


def _is_speakable(part: str, read: str, info: ModelInfo) -> bool:
    """False for a part without a word, such as an emoji. InvalidRequest for one that cannot be cut any further."""
    words = read.split()
    longest = max(map(len, words), default=0)
    if info.max_words and len(words) > info.max_words:
        what = f"has {len(words)} words when written out, this voice takes {info.max_words} at most"
    elif len(part) > MAX_INPUT_LENGTH:
        what = f"has {len(part)} characters, a request takes {MAX_INPUT_LENGTH} at most"
    elif info.spells and longest > MAX_LETTERS:
        what = f"has a word of {longest} letters, this voice takes {MAX_LETTERS} at most"
    else:
        return any(map(str.isalnum, read))
    raise InvalidRequest(f"the part {shown(part)} of the text {what}, and it cannot be cut; write it differently")


def check_encodable(text: str) -> None:
    """InvalidRequest for half a surrogate pair, which no text on its way can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        half = ascii(text[problem.start])
        raise InvalidRequest(f"text: has {half} at {problem.start}, which is no character; leave it out") from None


def check_voice(info: ModelInfo, voice: str | None) -> None:
    """InvalidRequest for a voice that the model does not have; where voices may be added, its worker knows."""
    if voice is not None and info.voices and voice not in info.voices and not info.takes_samples:
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
        tuple(manner.audio_prompt_tokens),
        manner.audio_prompt_transcription,
        sampling_params=manner.sampling_params,
        voice=manner.voice,
        normalize=manner.normalize,
        adapter_id=manner.adapter,
        buffer_speech_tokens=None if behind is None else behind.buffer_speech_tokens,
        buffer_position=None if behind is None else behind.buffer_position,
        to_be_continued=part.followed,
        word_timestamps=manner.word_timestamps,
    )
