"""How a text is to be spoken, as OpenAI has it, and our extensions of it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from max_interfaces import SamplingParams

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


class SpeechParameters(SpeechFields, frozen=True, kw_only=True):
    """The `parameters` of a text to be spoken, as the hosted API has it: a FLAC if nothing else is asked for."""

    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "flac"


def check_wordless(fields: SpeechFields, why: str) -> None:
    """ValueError if words' times are asked for where that is not the way to ask."""
    if fields.word_timestamps:
        raise ValueError(f"word_timestamps = true: {why}")
