"""The speech pipeline: one token engine, one codec, many requests at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache, partial

from max_codecs.chunks import ChunkSchedule
from max_codecs.format import SpeechFormat
from max_interfaces import (
    Attempt,
    AudioCodec,
    AudioGenerationOutput,
    AudioGenerationRequest,
    Chunk,
    DeviceLost,
    RequestID,
    SequenceStart,
    TokenDelta,
    TokenGenerator,
)

from ..config import SpeechConfig
from ..problems import failure_of, report
from .prompting import SpeechPrompter, tuned
from .sound import Sound
from .word_times import WordClock

CONSTRAINTS = 64  # that are kept, for texts of so many lengths
SpeechChunk = Chunk[AudioGenerationOutput]


class SpeechPipeline:
    """Text in, tokens from the engine, samples from the codec. See `Pipeline` for who calls what when."""

    def __init__(
        self,
        form: SpeechFormat,
        config: SpeechConfig,
        prompter: SpeechPrompter,
        generator: TokenGenerator,
        codec: AudioCodec,
        vocab_size: int,
        clock: WordClock | None = None,
    ) -> None:
        """Without a `clock` nobody can be told when words are heard."""
        self._form = form
        self._prompter = prompter
        self._generator = generator
        self._codec = codec
        self._clock = clock
        self._schedule = ChunkSchedule(config.chunk_frames)
        self._trim_s = config.trim_silence_s
        self._constraint = lru_cache(CONSTRAINTS)(partial(form.constraint, vocab_size))
        self._sounds: dict[RequestID, Sound] = {}
        self._failed: set[RequestID] = set()  # they have had their last chunk, and wait for their release

    def admit(self, attempt: Attempt[AudioGenerationRequest]) -> None:
        """Take a request. ValueError for what this model and voice cannot do."""
        request = attempt.request
        prompt, text, shared = self._prompter.prompt(request)
        clock = self._clock if request.word_timestamps else None
        if request.word_timestamps and clock is None:
            raise ValueError("word_timestamps: this voice cannot tell when its words are heard; leave it out")
        sound = Sound(attempt, self._form, self._codec, self._schedule, len(prompt), self._trim_s, clock)
        self._generator.add(
            SequenceStart(
                request.request_id,
                prompt,
                tuned(request.sampling_params, self._form.sampling, text),
                attempt.seed,
                frozenset(self._form.layout.end_ids),
                self._constraint(None if text is None else len(text.split())),
                attempt.tokens,
                priority=attempt.options.priority,
                cache_salt=attempt.options.tenant,
                adapter=request.adapter_id,
                shared_prefix=shared,
            )
        )
        self._sounds[request.request_id] = sound

    def execute(self, active: Collection[RequestID]) -> Sequence[SpeechChunk]:
        """One engine step; then sound for those that have a chunk's worth of frames, a note for those that have not."""
        if self._failed:
            active = [request_id for request_id in active if request_id not in self._failed]
        deltas = self._generator.step(active)
        chunks = [self._take(request_id, delta) for request_id, delta in deltas.items()]
        return [chunk for chunk in chunks if chunk is not None]

    def release(self, request_id: RequestID) -> None:
        """Forget a request: its pages, its codec state."""
        self._generator.release(request_id)
        self._sounds.pop(request_id, None)
        self._failed.discard(request_id)

    def _take(self, request_id: RequestID, delta: TokenDelta) -> SpeechChunk | None:
        """What is to be told of one request. What goes wrong with it ends it alone: the engine's step is done."""
        sound = self._sounds[request_id]
        try:
            return sound.take(delta)
        except DeviceLost:
            raise
        except Exception as problem:
            report(problem)
            self._failed.add(request_id)
            return sound.failed(failure_of(problem))
