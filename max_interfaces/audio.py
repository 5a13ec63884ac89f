"""Requests for speech, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from .arrays import FLOAT32, INT64, ArrayOf, freeze
from .bounds import (
    TOKEN_ID_MAX,
    Bounded,
    Count,
    LongText,
    Name,
    Position,
    Seconds,
    Seed,
    ShortText,
    TokenIds,
)
from .equality import same_fields
from .identity import RequestID
from .sampling import DEFAULT_SAMPLING, SamplingParams
from .status import Failure, GenerationStatus

MAX_INPUT_LENGTH = 4096  # characters; the published bound of MAX and OpenAI

MAX_SPEECH_TOKENS = 2**16  # that travel in one request or output
SpeechTokens = Annotated[
    NDArray[np.integer], ArrayOf(kinds="iu", ndim=1, max_size=MAX_SPEECH_TOKENS, dtype=INT64, ge=0, le=TOKEN_ID_MAX)
]
Samples = Annotated[NDArray[np.float32], ArrayOf(kinds="f", ndim=1, max_size=2**26, dtype=FLOAT32)]


SampleRate = Annotated[int, Meta(ge=0, le=768_000)]  # samples per second; 0 where there is no sound
NO_SAMPLES: NDArray[np.float32] = freeze(np.zeros(0, np.float32), FLOAT32)


@dataclass(frozen=True, slots=True)
class StreamPosition(Bounded):
    """Where in a sound its `buffer_speech_tokens` belong, so that a follow-up joins it without a seam.

    `seed` keys the codec's noise, `frame` is the number of the first frame in the buffer, `sample` the first
    sample that has not been given out yet.
    """

    seed: Seed = 0
    frame: Position = 0
    sample: Position = 0


@dataclass(frozen=True, slots=True, eq=False)
class AudioGenerationRequest(Bounded):
    """An immutable request for speech; the first ten fields in MAX's published order.

    `model` names what the server serves. `input` is the text, at most 4096 characters. `prompt`, a string or token
    ids, goes to the model as it is and replaces what would be built from the other fields.
    `audio_prompt_tokens` and `audio_prompt_transcription` are a sample of the voice to continue in, as speech token
    ids, and its words. `_assistant_message_override` replaces the speech-token part of the built prompt.
    `streaming=False` gives one final output with the whole audio, equal to the joined stream.
    `buffer_speech_tokens` int[n] are the last speech tokens of an earlier request, which prime the audio decoder;
    with `buffer_position`, as that request's last output gave both, the sounds join exactly.
    `to_be_continued` withholds the last look-ahead frames for the follow-up.
    `speed` is a factor on the speaking rate, `normalize` whether numbers and the like are written out first.
    With `word_timestamps` the outputs' metadata say when each word of `input` is heard.

    Raises ValueError naming the field, its value and its bound.
    Source: https://docs.modular.com/max/api/python/generated/max.interfaces.AudioGenerationRequest/
    """

    request_id: RequestID
    model: Name
    input: Annotated[str, Meta(max_length=MAX_INPUT_LENGTH)] | None = None
    audio_prompt_tokens: TokenIds = ()
    audio_prompt_transcription: ShortText = ""
    sampling_params: SamplingParams = DEFAULT_SAMPLING
    _assistant_message_override: LongText | None = None
    prompt: TokenIds | LongText | None = None
    streaming: bool = True
    buffer_speech_tokens: SpeechTokens | None = None
    voice: Name | None = None
    speed: Annotated[float, Meta(ge=0.25, le=4)] = 1.0
    normalize: bool = True
    adapter_id: Name | None = None
    to_be_continued: bool = False
    buffer_position: StreamPosition | None = None
    word_timestamps: bool = False

    def check_rules(self) -> None:
        """Something to say, and nothing that contradicts it."""
        name = type(self).__name__
        if self.input is None and self.prompt is None:
            raise ValueError(f"{name}.input = None: give input (a text) or prompt (a string or token ids)")
        if self.prompt is None and self.input is not None and not self.input.strip():
            raise ValueError(f"{name}.input = {self.input!r}: has nothing to say; give some text")
        if self.prompt is not None and not self.prompt:
            raise ValueError(f"{name}.prompt = {self.prompt!r}: must not be empty")
        if self.buffer_position is not None and self.buffer_speech_tokens is None:
            raise ValueError(f"{name}.buffer_position = {self.buffer_position}: needs buffer_speech_tokens beside it")
        if self.word_timestamps and (self.input is None or self.prompt is not None):
            raise ValueError(f"{name}.word_timestamps = True: needs input and no prompt, whose words nobody knows")

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    def __hash__(self) -> int:
        return hash(self.request_id)


@dataclass(frozen=True, slots=True)
class WordTimestamp(Bounded):
    """When a word is heard, in seconds from the start of the sound.

    `word` is how the text that is spoken has it, from its character `text_start` up to `text_end`, counted from 0.
    Several words are one where they are read otherwise than they are written, as "$5 million" is.
    """

    word: Annotated[str, Meta(min_length=1, max_length=MAX_INPUT_LENGTH)]
    start: Seconds
    end: Seconds
    text_start: Position = 0
    text_end: Position = 0


@dataclass(frozen=True, slots=True)
class AudioGenerationMetadata(Bounded):
    """What is known about one chunk. `chunk_id` counts from 0 without gaps; durations and times are in seconds.

    `words` are those that have become known since the chunk before, in order; each comes once. `leading_silence` was
    left out of the sound just before this chunk.
    """

    sample_rate: Annotated[int, Meta(ge=1, le=768_000)] | None = None
    duration: Seconds | None = None
    chunk_id: Count | None = None
    timestamp: Annotated[str, Meta(max_length=64)] | None = None
    final_chunk: bool | None = None
    model_name: Name | None = None
    request_id: RequestID | None = None
    tokens_generated: Count | None = None
    processing_time: Seconds | None = None
    echo: LongText | None = None
    words: Annotated[tuple[WordTimestamp, ...], Meta(max_length=65_536)] = ()
    prompt_tokens: Count | None = None
    leading_silence: Seconds | None = None

    def to_dict(self) -> dict[str, object]:
        """The fields that are set. Zero, False and 0.0 are set."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value is not None and value != ()}


NO_METADATA = AudioGenerationMetadata()


@dataclass(frozen=True, slots=True, eq=False)
class AudioGenerationOutput(Bounded):
    """One chunk of speech. `audio_data` float32[num_samples] in [-1, 1], mono.

    `steps_executed` counts the tokens generated for this chunk. The output whose `is_done` is true is the last;
    `buffer_speech_tokens` and `buffer_position` on it are for a follow-up request; `failure` says why it failed.
    """

    final_status: GenerationStatus
    steps_executed: Count
    audio_data: Samples = field(default_factory=lambda: NO_SAMPLES)
    buffer_speech_tokens: SpeechTokens | None = None
    metadata: AudioGenerationMetadata = NO_METADATA
    buffer_position: StreamPosition | None = None
    failure: Failure | None = None

    @property
    def is_done(self) -> bool:
        """True for the last output of a request."""
        return self.final_status.is_done

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    def __hash__(self) -> int:
        return hash((self.final_status, self.steps_executed, self.metadata.chunk_id, self.audio_data.size))
