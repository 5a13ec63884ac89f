"""`POST /v1/audio/speech` as OpenAI has it, and our extensions of it."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta
from starlette.requests import Request

from max_codecs.sound.encoder import SoundEncoder
from max_codecs.sound.formats import FORMATS, SoundFormat
from max_codecs.sound.tempo import Tempo
from max_interfaces import (
    AudioGenerationOutput,
    AudioGenerationRequest,
    GenerationStatus,
    PipelineTask,
    RequestID,
    SamplingParams,
    StreamPosition,
    WordTimestamp,
)
from max_interfaces.messages import ModelInfo

from ..client.stream import OutputStream
from ..raw_json import NULL
from . import bodies, sse
from .exchange import note_tokens
from .face import Chosen, Face
from .playback import Playback
from .problems import HttpProblem, asked
from .streaming import Streamed

PCM_RATE = 24_000  # what clients take it for: nothing in it says
Name = Annotated[str, Meta(max_length=256)]
TokenIds = Annotated[tuple[Annotated[int, Meta(ge=0, le=2**31 - 1)], ...], Meta(max_length=2**16)]


class Voice(msgspec.Struct, frozen=True):
    """A voice by its id; a plain string is the same."""

    id: Annotated[str, Meta(min_length=1, max_length=256)]


class Position(msgspec.Struct, frozen=True):
    """Where in a sound its `buffer_speech_tokens` belong. See `max_interfaces.StreamPosition`."""

    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    frame: Annotated[int, Meta(ge=0)] = 0
    sample: Annotated[int, Meta(ge=0)] = 0


class Normalization(msgspec.Struct, frozen=True):
    """`normalize: false` has numbers, dates and the like not written out first; as Kokoro's server has it."""

    normalize: bool = True


class SpeechFields(msgspec.Struct, frozen=True, kw_only=True):
    """How something is to be spoken: OpenAI's fields, then our own.

    `instructions` is taken and changes nothing: no model here follows any. `sample_rate` is that of what is sent;
    without it each format has its own, pcm always 24,000. `audio_prompt_tokens` are a sample of a voice that is none of
    the model's, `audio_prompt_transcription` its words. With `word_timestamps` it is said when each word is heard,
    where the answer has a place for that.
    """

    model: Name = ""
    voice: Name | Voice | None = None
    instructions: Annotated[str, Meta(max_length=4096)] | None = None
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: Annotated[float, Meta(ge=0.25, le=4.0)] = 1.0
    sample_rate: Annotated[int, Meta(ge=4000, le=192_000)] | None = None
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0)] | None = None
    max_new_tokens: Annotated[int, Meta(ge=1)] | None = None
    audio_prompt_tokens: TokenIds = ()
    audio_prompt_transcription: Annotated[str, Meta(max_length=4096)] = ""
    normalization_options: Normalization = Normalization()
    word_timestamps: bool = False

    @property
    def voice_name(self) -> str | None:
        """The voice's name, however it was given."""
        return self.voice.id if isinstance(self.voice, Voice) else self.voice

    @property
    def sampling(self) -> SamplingParams:
        """What was given of it; the rest is the model's own."""
        names = ("seed", "temperature", "top_p", "top_k", "repetition_penalty", "max_new_tokens")
        return SamplingParams(**{name: value for name in names if (value := getattr(self, name)) is not None})


class TextFields(SpeechFields, frozen=True, kw_only=True):
    """What is to be spoken, too."""

    input: Annotated[str, Meta(min_length=1, max_length=2**21)]


class SpeechBody(TextFields, frozen=True, kw_only=True):
    """All of `POST /v1/audio/speech`. With `stream_format: sse` the sound comes as events; the last of them carries
    `buffer_speech_tokens` and `buffer_position` if `to_be_continued` is set, for the request that goes on from there.
    """

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    stream_format: Literal["audio", "sse"] = "audio"
    buffer_speech_tokens: TokenIds | None = None
    buffer_position: Position | None = None
    to_be_continued: bool = False

    @property
    def is_one_request(self) -> bool:
        """Whether it is about one piece of speech, which no text is cut for."""
        return self.buffer_speech_tokens is not None or self.to_be_continued


async def speak(request: Request) -> Streamed:
    """`POST /v1/audio/speech`: the sound in its format while it is made, or events that carry it."""
    face = Face.of(request)
    body = await face.read(request, SpeechBody)
    chosen = await face.chosen(body.model, PipelineTask.AUDIO_GENERATION)
    with asked():
        if body.stream_format == "audio":
            check_wordless(body, "a sound has no place for them; ask for stream_format sse")
        form, to_rate, sound = open_sound(face, body, chosen.info)
        outputs = outputs_of(face, chosen, body)
    if body.stream_format == "sse":
        return Streamed(
            _events(outputs, sound, body), sse.MIME, sse.HEADERS, lambda problem: problem.event(request.url.path)
        )
    return Streamed(_bytes(outputs, sound), form.mime, {"x-sample-rate": str(to_rate)})


def check_wordless(fields: SpeechFields, why: str) -> None:
    """ValueError if words' times are asked for where that is not the way to ask."""
    if fields.word_timestamps:
        raise ValueError(f"word_timestamps = true: {why}")


class SpeechParameters(SpeechFields, frozen=True, kw_only=True):
    """The `parameters` of a text to be spoken, as the hosted API has it: a FLAC if nothing else is asked for."""

    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "flac"


def speak_inputs(face: Face, info: ModelInfo, inputs: str, parameters: msgspec.Raw) -> Streamed:
    """`POST /models/{name}` of a voice: `{"inputs": text, "parameters": …}`. HttpProblem for what cannot be spoken."""
    fields = SpeechParameters() if parameters == NULL else bodies.shaped(parameters, SpeechParameters)
    voice = voice_of(face, info, fields)
    with asked():
        check_wordless(fields, "a sound has no place for them; ask /v1/audio/speech with stream_format sse")
        form, to_rate, sound = open_sound(face, fields, info)
        params = fields.sampling
    normalize = fields.normalization_options.normalize
    outputs = face.client.speak(inputs, voice=voice, model=info.name, sampling_params=params, normalize=normalize)
    return Streamed(_bytes(outputs, sound), form.mime, {"x-sample-rate": str(to_rate)})


def open_sound(face: Face, fields: SpeechFields, info: ModelInfo) -> tuple[SoundFormat, int, Sound]:
    """The format that is asked for, its sample rate, and what makes it. ValueError if that cannot be had."""
    form = FORMATS[fields.response_format]
    to_rate = fields.sample_rate or (PCM_RATE if form.name == "pcm" else form.rate_for(info.sample_rate))
    rate = info.sample_rate
    encoders = face.encoders
    another = partial(encoders.prepare, form, rate, to_rate)
    encoder, tempo = encoders.take(form, rate, to_rate), Tempo(rate, fields.speed)
    return form, to_rate, Sound(encoder, tempo, fields.speed, Playback(face.metrics, rate), another)


def voice_of(face: Face, info: ModelInfo, fields: SpeechFields) -> str | None:
    """The model's voice that is meant: of a hosted service's voices, each is the first."""
    name = fields.voice_name
    return None if name not in info.voices and name in face.config.voice_aliases else name


class Sound:
    """Outputs, as the bytes that are sent of them, and what they have cost. At the end it calls `when_ended`."""

    def __init__(
        self,
        encoder: SoundEncoder,
        tempo: Tempo,
        speed: float,
        playback: Playback,
        when_ended: Callable[[], None],
    ) -> None:
        self._when_ended = when_ended
        self._speed = speed
        self._words: list[WordTimestamp] = []
        self._encoder = encoder
        self._tempo = tempo
        self._playback = playback
        self.last: AudioGenerationOutput | None = None
        self.tokens = 0

    def push(self, output: AudioGenerationOutput) -> bytes:
        """The bytes that are ready. HttpProblem for a sound that ends before it is whole."""
        if output.final_status is GenerationStatus.CANCELLED:
            raise HttpProblem(503, "unavailable", "the request was cancelled")
        self.last = output
        self.tokens += output.steps_executed
        self._words += output.metadata.words
        data = self._encoder.push(self._tempo.push(output.audio_data))
        if output.is_done:
            data += self._encoder.push(self._tempo.flush()) + self._encoder.finish()
        self._playback.heard(output.audio_data)
        self._playback.sent(data)
        if output.is_done:
            usage = self.usage["input_tokens"], self.usage["output_tokens"]
            self._playback.ended(*usage)
            note_tokens(*usage)
            self._when_ended()
        return data

    def take_words(self) -> list[WordTimestamp]:
        """The words that have become known, in seconds of what is sent; each is given once."""
        words, self._words = self._words, []
        return [replace(word, start=self._sent(word.start), end=self._sent(word.end)) for word in words]

    def _sent(self, seconds: float) -> float:
        """When in what is sent that is heard which was so many seconds into the sound."""
        return max(0.0, seconds / self._speed - self._tempo.early_s)

    @property
    def usage(self) -> dict[str, int]:
        """The tokens of the text, and of the sound."""
        prompt = 0 if self.last is None else self.last.metadata.prompt_tokens or 0
        return {"input_tokens": prompt, "output_tokens": self.tokens, "total_tokens": prompt + self.tokens}


def spoken(
    face: Face, chosen: Chosen, fields: TextFields, *, timed: bool
) -> AsyncGenerator[AudioGenerationOutput, None]:
    """The sound of a text of any length, if it is `timed` with when its words are heard."""
    return face.client.speak(
        fields.input,
        voice=voice_of(face, chosen.info, fields),
        model=chosen.info.name,
        sampling_params=fields.sampling,
        adapter=chosen.adapter,
        normalize=fields.normalization_options.normalize,
        audio_prompt_tokens=fields.audio_prompt_tokens,
        audio_prompt_transcription=fields.audio_prompt_transcription,
        word_timestamps=timed,
    )


def outputs_of(face: Face, chosen: Chosen, body: SpeechBody) -> AsyncGenerator[AudioGenerationOutput, None]:
    """The sound of a text of any length, or of one request where the caller goes on from another."""
    if not body.is_one_request:
        return spoken(face, chosen, body, timed=body.word_timestamps)
    position = None if body.buffer_position is None else StreamPosition(**msgspec.structs.asdict(body.buffer_position))
    tokens = body.buffer_speech_tokens
    request = AudioGenerationRequest(
        RequestID(),
        chosen.info.name,
        body.input,
        body.audio_prompt_tokens,
        body.audio_prompt_transcription,
        body.sampling,
        voice=voice_of(face, chosen.info, body),
        normalize=body.normalization_options.normalize,
        buffer_speech_tokens=None if tokens is None else np.array(tokens, np.int64),
        adapter_id=chosen.adapter,
        to_be_continued=body.to_be_continued,
        buffer_position=position,
        word_timestamps=body.word_timestamps,
    )
    return _streamed(face.client.stream(request))


async def _streamed(outputs: OutputStream[AudioGenerationOutput]) -> AsyncGenerator[AudioGenerationOutput, None]:
    async with contextlib.aclosing(outputs):
        async for output in outputs:
            yield output


async def _bytes(outputs: AsyncGenerator[AudioGenerationOutput, None], sound: Sound) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(outputs):
        async for output in outputs:
            if data := sound.push(output):
                yield data


async def _events(
    outputs: AsyncGenerator[AudioGenerationOutput, None], sound: Sound, body: SpeechBody
) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(_bytes(outputs, sound)) as pieces:
        async for piece in pieces:
            if words := sound.take_words():
                yield _words_event(words)
            yield sse.event({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()})
    if words := sound.take_words():
        yield _words_event(words)
    done: dict[str, object] = {"type": "speech.audio.done", "usage": sound.usage}
    if body.to_be_continued and sound.last is not None:
        done |= _follow_up(sound.last)
    yield sse.event(done)


def _words_event(words: list[WordTimestamp]) -> bytes:
    return sse.event({"type": "speech.audio.words", "words": words})


def _follow_up(last: AudioGenerationOutput) -> dict[str, object]:
    """What a next request needs to go on without a seam."""
    tokens, position = last.buffer_speech_tokens, last.buffer_position
    return {
        "buffer_speech_tokens": [] if tokens is None else tokens.tolist(),
        "buffer_position": None if position is None else asdict(position),
    }
