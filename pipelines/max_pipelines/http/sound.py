"""Outputs of speech, as the bytes that are sent of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from max_codecs.sound.encoder import SoundEncoder
from max_codecs.sound.formats import FORMATS, SoundFormat
from max_codecs.sound.tempo import Tempo
from max_interfaces import AudioGenerationOutput, GenerationStatus, WordTimestamp
from max_interfaces.messages import ModelInfo

from .exchange import note_tokens
from .face import Face
from .playback import Playback
from .problems import HttpProblem
from .speech_body import SpeechFields

PCM_RATE = 24_000  # what clients take it for: nothing in it says


def open_sound(face: Face, fields: SpeechFields, info: ModelInfo) -> tuple[SoundFormat, int, Sound]:
    """The format that is asked for, its sample rate, and what makes it. ValueError if that cannot be had."""
    form = FORMATS[fields.response_format]
    to_rate = fields.sample_rate or (PCM_RATE if form.name == "pcm" else form.rate_for(info.sample_rate))
    rate = info.sample_rate
    encoders = face.encoders
    another = partial(encoders.prepare, form, rate, to_rate)
    encoder, tempo = encoders.take(form, rate, to_rate), Tempo(rate, fields.speed)
    return form, to_rate, Sound(encoder, tempo, fields.speed, Playback(face.metrics, rate), another)


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
