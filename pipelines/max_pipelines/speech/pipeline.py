"""The speech pipeline: one token engine, one codec, many requests at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from max_codecs.chunks import ChunkSchedule
from max_codecs.format import SpeechFormat
from max_interfaces import (
    Attempt,
    AudioCodec,
    AudioGenerationOutput,
    AudioGenerationRequest,
    Chunk,
    RequestID,
    SequenceStart,
    TokenGenerator,
)

from .prompting import SpeechPrompter, tuned
from .sound import Sound


class SpeechPipeline:
    """Text in, tokens from the engine, samples from the codec. See `Pipeline` for who calls what when."""

    def __init__(
        self,
        form: SpeechFormat,
        chunk_frames: tuple[int, ...],
        prompter: SpeechPrompter,
        generator: TokenGenerator,
        codec: AudioCodec,
        vocab_size: int,
    ) -> None:
        self._form = form
        self._prompter = prompter
        self._generator = generator
        self._codec = codec
        self._schedule = ChunkSchedule(chunk_frames)
        self._constraint = form.constraint(vocab_size)
        self._sounds: dict[RequestID, Sound] = {}

    def admit(self, attempt: Attempt[AudioGenerationRequest]) -> None:
        """Take a request. ValueError for what this model and voice cannot do."""
        request = attempt.request
        prompt = self._prompter.prompt(request)
        sound = Sound(attempt, self._form, self._codec, self._schedule)
        self._generator.add(
            SequenceStart(
                request.request_id,
                prompt,
                tuned(request.sampling_params, self._form.sampling),
                attempt.seed,
                frozenset(self._form.layout.end_ids),
                self._constraint,
                attempt.tokens,
                priority=attempt.options.priority,
                cache_salt=attempt.options.tenant,
            )
        )
        self._sounds[request.request_id] = sound

    def execute(self, active: Collection[RequestID]) -> Sequence[Chunk[AudioGenerationOutput]]:
        """One engine step; then sound for those that have a chunk's worth of frames."""
        deltas = self._generator.step(active)
        chunks = (self._sounds[request_id].take(delta) for request_id, delta in deltas.items())
        return [chunk for chunk in chunks if chunk is not None]

    def release(self, request_id: RequestID) -> None:
        """Forget a request: its pages, its codec state."""
        self._generator.release(request_id)
        self._sounds.pop(request_id, None)
