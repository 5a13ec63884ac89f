"""An answer that is spoken: what is asked for, and the objects that carry its sound."""

from __future__ import annotations

import base64
import uuid
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType
from numpy.typing import NDArray

from max_codecs.sound.encoder import SoundEncoder
from max_codecs.sound.formats import FORMATS
from max_interfaces.messages import ModelInfo

from ..face import Face
from ..playback import Playback
from ..sound import PCM_RATE
from ..speech_body import Name, Voice

Modalities = Annotated[list[Literal["text", "audio"]], Meta(min_length=1, max_length=2)]
PCM = "pcm16"


class AudioFields(msgspec.Struct, frozen=True):
    """In which voice and format an answer is spoken; in a stream it is `pcm16`, 24,000 samples a second."""

    voice: Name | Voice
    format: Literal["wav", "aac", "mp3", "flac", "opus", "pcm16"]

    def voice_of(self, face: Face, info: ModelInfo) -> str:
        """The model's voice that is meant: of a hosted service's, the first. ValueError for one it lacks."""
        if not info.voices:
            raise ValueError(f"modalities: {info.name} writes, and does not speak; ask it for text")
        name = self.voice.id if isinstance(self.voice, Voice) else self.voice
        if name in info.voices:
            return name
        if name in face.config.voice_aliases:
            return info.voices[0]
        raise ValueError(f"audio.voice = {name!r:.80}: must be one of {', '.join(info.voices)}")


class Audio(msgspec.Struct, frozen=True, kw_only=True):
    """A sound, or more of one: `data` is base64. Nothing is kept here: `expires_at` is when it was made."""

    id: str | UnsetType = UNSET
    data: str | UnsetType = UNSET
    transcript: str | UnsetType = UNSET
    expires_at: int | UnsetType = UNSET


class AnswerSound:
    """The sound of one answer, from the model's samples to what is sent of them."""

    def __init__(self, face: Face, info: ModelInfo, fields: AudioFields, created: int) -> None:
        form = FORMATS["pcm" if fields.format == PCM else fields.format]
        rate = info.sample_rate
        to_rate = PCM_RATE if form.name == "pcm" else form.rate_for(rate)
        self._encoder: SoundEncoder = face.encoders.take(form, rate, to_rate)
        self._playback = Playback(face.metrics, rate)
        self._created = created
        self.id = f"audio_{uuid.uuid4().hex}"

    def whole(self, samples: NDArray[np.float32] | None, transcript: str) -> Audio:
        """All of it."""
        data = self.more(samples, done=True)
        return Audio(id=self.id, data=data, transcript=transcript, expires_at=self._created)

    def more(self, samples: NDArray[np.float32] | None, *, done: bool) -> str:
        """What can be sent after some more samples; at the end all that is left."""
        data = b""
        if samples is not None:
            data += self._encoder.push(samples)
            self._playback.heard(samples)
        if done:
            data += self._encoder.finish()
        self._playback.sent(data)
        if done:
            self._playback.ended()
        return base64.b64encode(data).decode()

    @property
    def end(self) -> Audio:
        """What a stream says last of it."""
        return Audio(expires_at=self._created)
