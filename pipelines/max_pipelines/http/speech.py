"""`POST /v1/audio/speech` as OpenAI has it, and our extensions of it."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import asdict

import msgspec
import numpy as np
from starlette.requests import Request

from max_interfaces import (
    AudioGenerationOutput,
    AudioGenerationRequest,
    PipelineTask,
    RequestID,
    StreamPosition,
    WordTimestamp,
)
from max_interfaces.messages import ModelInfo

from ..client.stream import OutputStream
from ..raw_json import NULL
from . import bodies, sse
from .face import Chosen, Face
from .problems import asked
from .sound import Sound, open_sound
from .speech_body import SpeechBody, SpeechFields, SpeechParameters, TextFields, check_wordless
from .streaming import Streamed


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


def voice_of(face: Face, info: ModelInfo, fields: SpeechFields) -> str | None:
    """The model's voice that is meant: of a hosted service's voices, each is the first."""
    name = fields.voice_name
    return None if name not in info.voices and name in face.config.voice_aliases else name


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
