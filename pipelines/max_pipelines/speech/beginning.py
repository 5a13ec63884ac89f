"""Where a sound begins: behind an earlier request's buffer, and behind what another worker has generated of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from max_codecs.frames import FrameAssembler
from max_codecs.layout import SpeechLayout
from max_interfaces import Attempt, AudioCodec, AudioGenerationRequest, StreamPosition, StreamStart


@dataclass(frozen=True, slots=True, eq=False)
class Beginning:
    """A sound's frames so far, int64[n, codes_per_frame], the first of them the stream's number `first`.

    Of those before number `decoded` the caller has all samples that were certain; the others were not decoded yet, or
    nobody heard of it. `heard`: samples. `unheard_tokens` came after those that made the `decoded` frames, and
    `loose_tokens` of them after those that made any. The frames of the request itself begin with number `before`, its
    sound with sample `origin`.
    """

    seed: int
    frames: NDArray[np.int64]
    first: int
    decoded: int
    heard: int
    unheard_tokens: int
    loose_tokens: int
    before: int
    origin: int

    @classmethod
    def of(
        cls,
        attempt: Attempt[AudioGenerationRequest],
        layout: SpeechLayout,
        codec: AudioCodec,
        assembler: FrameAssembler,
    ) -> Beginning:
        """The beginning of an attempt, whose tokens `assembler` is fed. ValueError for a buffer that is no frames."""
        buffer, position = attempt.request.buffer_speech_tokens, attempt.request.buffer_position
        earlier = layout.frames(np.zeros(0, np.int64) if buffer is None else buffer)
        if position is None:  # the buffer was heard: it only primes the decoder, and the sound begins behind it
            position = StreamPosition(seed=attempt.seed, frame=0, sample=len(earlier) * codec.frame_samples)
        frames = np.concatenate([earlier, assembler.push(attempt.tokens)])
        before, end = position.frame + len(earlier), position.frame + len(frames)
        heard = max(position.sample, attempt.next_sample)
        decoded = before if heard == position.sample else min(max(before, _frames_behind(heard, codec)), end)
        unheard = len(attempt.tokens) - _tokens_of(decoded - before, attempt.tokens, layout)
        loose = len(attempt.tokens) - _tokens_of(assembler.frames, attempt.tokens, layout)
        return cls(position.seed, frames, position.frame, decoded, heard, unheard, loose, before, position.sample)

    def start(self, codec: AudioCodec) -> StreamStart:
        """What the codec needs of it: no more frames before the first unheard one than that depends on."""
        frames = self.up_to_decoded
        surplus = self.heard // codec.frame_samples - codec.context_frames - self.first
        cut = min(max(0, surplus), len(frames))
        return StreamStart(self.seed, frames[cut:], self.first + cut, self.heard)

    @property
    def earlier(self) -> NDArray[np.int64]:
        """The frames of earlier requests."""
        return self.frames[: self.before - self.first]

    @property
    def up_to_decoded(self) -> NDArray[np.int64]:
        """The frames that were decoded."""
        return self.frames[: self.decoded - self.first]

    @property
    def waiting(self) -> NDArray[np.int64]:
        """The frames that are to be decoded."""
        return self.frames[self.decoded - self.first :]


def _frames_behind(samples: int, codec: AudioCodec) -> int:
    """How many frames a stream had taken when so many samples were certain."""
    whole, rest = divmod(samples, codec.frame_samples)
    return whole + max(codec.lookahead_frames, rest > 0)


def _tokens_of(frames: int, tokens: tuple[int, ...], layout: SpeechLayout) -> int:
    """How many of the tokens it took to complete so many frames."""
    assembler = FrameAssembler(layout)
    count = 0
    while assembler.frames < frames:
        assembler.push(tokens[count : count + 1])
        count += 1
    return count
