"""The sound of one request: its tokens become frames, its frames samples, its samples chunks."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from max_codecs.chunks import ChunkSchedule
from max_codecs.format import SpeechFormat
from max_codecs.frames import FrameAssembler
from max_codecs.sound.loudness import amplified
from max_interfaces import (
    Attempt,
    AudioCodec,
    AudioGenerationMetadata,
    AudioGenerationOutput,
    AudioGenerationRequest,
    Chunk,
    Failure,
    GenerationStatus,
    StreamPosition,
    TokenDelta,
    WordTimestamp,
)
from max_interfaces.audio import MAX_SPEECH_TOKENS

from .beginning import Beginning
from .leading import LeadingSilence
from .word_times import WordClock

MOST_AT_ONCE = 32  # frames a step decodes, if no more are due: so what another worker left holds nobody up for long


class Sound:
    """Takes what the engine did for one request, and gives a chunk when one is ready, or else a note of its tokens.

    A chunk leaves as soon as the schedule's number of frames is there. Every frame is given out, from the first to
    the last; only a sound that is to be continued keeps its last look-ahead for the follow-up.
    """

    def __init__(
        self,
        attempt: Attempt[AudioGenerationRequest],
        form: SpeechFormat,
        codec: AudioCodec,
        schedule: ChunkSchedule,
        prompt_tokens: int,
        trim_silence_s: float = 0.0,
        clock: WordClock | None = None,
    ) -> None:
        """With a `clock`, the chunks say when words are heard."""
        self._request = attempt.request
        self._codec = codec
        self._layout = layout = form.layout
        self._fade_in = form.fade_in
        self._gain_db = layout.prompt.gain_db(attempt.request.voice)
        self._schedule = schedule
        self._assembler = FrameAssembler(layout)
        self._born = time.monotonic()
        self._held: list[NDArray[np.float32]] = []  # samples of a sound that is wanted in one piece
        self._chunks = attempt.next_seq
        self._earlier = attempt.next_seq  # chunks of other workers
        self._decodes = 0  # by this one
        self._tokens = len(attempt.tokens)
        self._prompt_tokens = prompt_tokens
        beginning = Beginning.of(attempt, layout, codec, self._assembler)
        self._steps = beginning.unheard_tokens  # tokens that no chunk has counted
        self._loose = beginning.loose_tokens  # … which belong to no complete frame, and to the next chunk
        self._frames = [beginning.waiting]  # frames since the last decode
        self._seed = beginning.seed
        self._next_sample = self._decoded = beginning.heard
        self._tail = beginning.up_to_decoded  # the frames that a follow-up needs, the first of them `_tail_frame`
        self._tail_frame = beginning.first
        self._first_sample = max(beginning.origin, attempt.first_sample)
        begins = beginning.heard == 0 and attempt.request.buffer_speech_tokens is None
        self._trimmed = 0  # samples, left out in front of the next chunk
        self._leading = LeadingSilence(codec.sample_rate, trim_silence_s) if begins and trim_silence_s else None
        self._end = beginning.decoded  # the number of the next frame to decode
        self._words = None if clock is None else clock.open(attempt, beginning)
        self._stream = codec.open(beginning.start(codec))
        self._trim_tail()

    def take(self, delta: TokenDelta) -> Chunk[AudioGenerationOutput] | None:
        """The engine's news, and what is to be told of it: sound if some is due, else the new tokens, if any."""
        new = len(delta.tokens)
        self._tokens += new
        self._steps += new
        frames = self._assembler.push(delta.tokens)
        self._loose = 0 if len(frames) else self._loose + new
        if len(frames):
            self._frames.append(frames)
        if self._words is not None:
            self._words.push(delta.tokens)
        samples = self._due(delta.status.is_done)
        if samples is not None:
            return self._chunk(samples, delta)
        return Chunk(self._request.request_id, None, delta.tokens) if new else None

    def failed(self, failure: Failure) -> Chunk[AudioGenerationOutput]:
        """The last chunk of one that cannot go on."""
        request_id, model = self._request.request_id, self._request.model
        metadata = AudioGenerationMetadata(
            chunk_id=self._chunks, final_chunk=True, model_name=model, request_id=request_id
        )
        return Chunk(request_id, AudioGenerationOutput(GenerationStatus.FAILED, 0, metadata=metadata, failure=failure))

    def _due(self, done: bool) -> NDArray[np.float32] | None:
        """The samples that go out now; None if a chunk is not due, or all is still within the look-ahead."""
        # The first is small: somebody waits for it. Those after it go on where another worker was.
        size = self._schedule.size(self._earlier + self._decodes if self._decodes else 0)
        if not done and sum(map(len, self._frames)) < size:
            return None
        samples = self._decode(done, max(size, MOST_AT_ONCE))
        if not self._request.streaming:
            self._held.append(samples)
            if not done:
                return None
            samples = np.concatenate(self._held)
        return samples if done or samples.size else None

    def _decode(self, done: bool, most: int) -> NDArray[np.float32]:
        frames = np.concatenate(self._frames)
        if not done:
            frames, self._frames = frames[:most], [frames[most:]]
        self._decodes += 1
        samples = self._stream.push(frames)
        self._end += len(frames)
        if done and not self._request.to_be_continued:
            samples = np.concatenate([samples, self._stream.flush()])
        self._tail = np.concatenate([self._tail, frames])
        self._trim_tail()
        return self._begun(self._faded(amplified(samples, self._gain_db)), done)

    def _begun(self, samples: NDArray[np.float32], done: bool) -> NDArray[np.float32]:
        """The samples without the silence that the sound begins with; none until something of it can be heard."""
        if self._leading is None:
            return samples
        samples = self._leading.push(samples, done)
        if self._leading.trimmed is not None:
            self._first_sample = self._next_sample = self._trimmed = self._leading.trimmed
            self._leading = None
        return samples

    def _faded(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """The samples, the sound's very first ones faded in, whichever chunks they come in."""
        first = self._decoded
        self._decoded += samples.size
        rising = min(self._fade_in - first, samples.size)
        if rising <= 0:
            return samples
        gain = np.ones(samples.size, np.float32)
        gain[:rising] = np.arange(first, first + rising) / self._fade_in
        return samples * gain

    def _trim_tail(self) -> None:
        keep = self._codec.context_frames + self._codec.lookahead_frames
        keep = min(keep, MAX_SPEECH_TOKENS // self._layout.codes_per_frame)  # a codec may want all there were
        surplus = max(0, len(self._tail) - keep)
        self._tail = self._tail[surplus:]
        self._tail_frame += surplus

    def _chunk(self, samples: NDArray[np.float32], delta: TokenDelta) -> Chunk[AudioGenerationOutput]:
        first = self._next_sample
        self._next_sample += samples.size
        done = delta.status.is_done
        kept = 0 if done else min(self._loose, self._steps)
        steps, self._steps = self._steps - kept, kept
        output = AudioGenerationOutput(
            delta.status,
            steps,
            samples,
            buffer_speech_tokens=self._layout.ids(self._tail) if done else None,
            buffer_position=StreamPosition(self._seed, self._tail_frame, self._next_sample) if done else None,
            metadata=self._metadata(samples.size, delta.status),
        )
        self._chunks += 1
        self._trimmed = 0
        return Chunk(self._request.request_id, output, delta.tokens, first, samples.size)

    def _metadata(self, samples: int, status: GenerationStatus) -> AudioGenerationMetadata:
        rate = self._codec.sample_rate
        return AudioGenerationMetadata(
            sample_rate=rate,
            duration=samples / rate,
            chunk_id=self._chunks,
            timestamp=datetime.now(UTC).isoformat(timespec="milliseconds"),
            final_chunk=status.is_done,
            model_name=self._request.model,
            request_id=self._request.request_id,
            tokens_generated=self._tokens,
            processing_time=time.monotonic() - self._born,
            words=self._due_words(status),
            prompt_tokens=self._prompt_tokens,
            leading_silence=self._trimmed / rate if self._trimmed else None,
        )

    def _due_words(self, status: GenerationStatus) -> tuple[WordTimestamp, ...]:
        """The words that leave with a chunk."""
        if self._words is None:
            return ()
        if not status.is_done:
            return self._words.take(self._first_sample, self._end)
        self._words.finish(cut_off=status is not GenerationStatus.END_OF_SEQUENCE)
        return self._words.take(self._first_sample)
