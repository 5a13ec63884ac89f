"""The sound of one request: its tokens become frames, its frames samples, its samples chunks."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from max_codecs.chunks import ChunkSchedule
from max_codecs.format import SpeechFormat
from max_codecs.frames import FrameAssembler
from max_interfaces import (
    Attempt,
    AudioCodec,
    AudioGenerationMetadata,
    AudioGenerationOutput,
    AudioGenerationRequest,
    Chunk,
    GenerationStatus,
    StreamPosition,
    StreamStart,
    TokenDelta,
)


class Sound:
    """Takes what the engine did for one request, and gives a chunk when one is ready.

    A chunk leaves as soon as the schedule's number of frames is there. Every frame is given out, from the first to
    the last; only a sound that is to be continued keeps its last look-ahead for the follow-up.
    """

    def __init__(
        self,
        attempt: Attempt[AudioGenerationRequest],
        form: SpeechFormat,
        codec: AudioCodec,
        schedule: ChunkSchedule,
    ) -> None:
        self._request = attempt.request
        self._codec = codec
        self._layout = layout = form.layout
        self._fade_in = form.fade_in
        self._schedule = schedule
        self._assembler = FrameAssembler(layout)
        self._born = time.monotonic()
        self._unsent: list[int] = []  # tokens since the last chunk
        self._frames: list[NDArray[np.int64]] = []  # frames since the last decode
        self._held: list[NDArray[np.float32]] = []  # samples of a sound that is wanted in one piece
        self._chunks = 0
        self._decodes = 0
        self._tokens = len(attempt.tokens)
        self._open(attempt)

    def _open(self, attempt: Attempt[AudioGenerationRequest]) -> None:
        """Open the codec's stream behind an earlier request's buffer and an earlier attempt's tokens."""
        request, width = self._request, self._codec.frame_samples
        buffer = request.buffer_speech_tokens
        history = self._layout.frames(buffer) if buffer is not None else self._layout.frames(np.zeros(0, np.int64))
        position = request.buffer_position
        if position is None:  # the buffer was heard: it only primes the decoder, and the sound begins behind it
            position = StreamPosition(seed=attempt.seed, frame=0, sample=len(history) * width)
        history = np.concatenate([history, self._assembler.push(attempt.tokens)])
        heard = max(position.sample, attempt.next_sample)
        self._seed = position.seed
        self._next_sample = self._decoded = heard
        self._tail = history  # the frames that a follow-up needs, the first of them number `_tail_frame`
        self._tail_frame = position.frame
        self._stream = self._codec.open(StreamStart(position.seed, history, position.frame, heard))
        self._trim_tail()

    def take(self, delta: TokenDelta) -> Chunk[AudioGenerationOutput] | None:
        """The engine's news; a chunk if one is due."""
        self._unsent.extend(delta.tokens)
        self._tokens += len(delta.tokens)
        frames = self._assembler.push(delta.tokens)
        if len(frames):
            self._frames.append(frames)
        done = delta.status.is_done
        if not done and sum(map(len, self._frames)) < self._schedule.size(self._decodes):
            return None
        samples = self._decode(done)
        if not self._request.streaming:
            self._held.append(samples)
            if not done:
                return None
            samples = np.concatenate(self._held)
        if not done and not samples.size:
            return None  # still within the look-ahead
        return self._chunk(samples, delta.status)

    def _decode(self, done: bool) -> NDArray[np.float32]:
        empty = np.zeros((0, self._layout.codes_per_frame), np.int64)
        frames = np.concatenate([empty, *self._frames])
        self._frames.clear()
        self._decodes += 1
        samples = self._stream.push(frames)
        if done and not self._request.to_be_continued:
            samples = np.concatenate([samples, self._stream.flush()])
        self._tail = np.concatenate([self._tail, frames])
        self._trim_tail()
        return self._faded(samples)

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
        surplus = max(0, len(self._tail) - keep)
        self._tail = self._tail[surplus:]
        self._tail_frame += surplus

    def _chunk(self, samples: NDArray[np.float32], status: GenerationStatus) -> Chunk[AudioGenerationOutput]:
        first = self._next_sample
        self._next_sample += samples.size
        tokens = tuple(self._unsent)
        self._unsent.clear()
        done = status.is_done
        output = AudioGenerationOutput(
            status,
            len(tokens),
            samples,
            buffer_speech_tokens=self._layout.ids(self._tail) if done else None,
            buffer_position=StreamPosition(self._seed, self._tail_frame, self._next_sample) if done else None,
            metadata=self._metadata(samples.size, done),
        )
        self._chunks += 1
        return Chunk(self._request.request_id, output, tokens, first, samples.size)

    def _metadata(self, samples: int, done: bool) -> AudioGenerationMetadata:
        rate = self._codec.sample_rate
        return AudioGenerationMetadata(
            sample_rate=rate,
            duration=samples / rate,
            chunk_id=self._chunks,
            timestamp=datetime.now(UTC).isoformat(timespec="milliseconds"),
            final_chunk=done,
            model_name=self._request.model,
            request_id=self._request.request_id,
            tokens_generated=self._tokens,
            processing_time=time.monotonic() - self._born,
        )
