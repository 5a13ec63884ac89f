"""Codes to sound, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np
from numpy.typing import NDArray

from ..arrays import INT64, ArrayOf
from ..bounds import Position, Seed

Frames = Annotated[NDArray[np.int64], ArrayOf(kinds="i", ndim=2, max_size=2**20, dtype=INT64)]


@dataclass(frozen=True, slots=True)
class StreamStart:
    """Where a stream of sound begins: at its first frame, or in the middle, rebuilt from tokens.

    A frame is the smallest set of codes that stands for a whole number of samples, `AudioCodec.frame_samples`.
    `history` int64[frames, codes_per_frame] are the last frames before those that will be pushed, the first of
    them the stream's frame number `history_frame` (0 at the start of the sound). Samples before `next_sample`
    have been heard and are not given again.
    """

    seed: Seed = 0
    history: Frames | None = None
    history_frame: Position = 0
    next_sample: Position = 0


class CodecStream(Protocol):
    """The decoder's state for one sound. One thread owns it; dropping it frees everything."""

    def push(self, frames: NDArray[np.int64]) -> NDArray[np.float32]:
        """Take frames int64[frames, codes_per_frame]; return the samples float32[n] that are now certain.

        The first push of a stream opened with a history returns the history's unheard samples too. Any split
        of the same frames into pushes gives the same samples in all.
        """
        ...

    def flush(self) -> NDArray[np.float32]:
        """The samples that were held back for look-ahead, float32[n]. The stream takes no more frames."""
        ...


class AudioCodec(Protocol):
    """Codes to sound. Stateful per stream; look-ahead and context are computed from the configuration."""

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        ...

    @property
    def frame_samples(self) -> int:
        """Samples that one frame stands for."""
        ...

    @property
    def codes_per_frame(self) -> int:
        """Codes in one frame, over all codebooks."""
        ...

    @property
    def lookahead_frames(self) -> int:
        """Frames that must follow a frame before its samples are certain, once a stream is under way. 0 for a causal
        codec. A stream's first samples may take more.
        """
        ...

    @property
    def context_frames(self) -> int:
        """Frames before a frame that its samples depend on: what a stream needs to be rebuilt exactly.

        More than any sound has for a codec that looks back to the beginning.
        """
        ...

    def open(self, start: StreamStart) -> CodecStream:
        """Begin a stream, or rebuild one from its last frames. ValueError for a history of the wrong shape."""
        ...


class SpeechEncoder(Protocol):
    """Sound to codes, the way back of an `AudioCodec`: for samples of a voice. No stream, for a sample is short."""

    @property
    def sample_rate(self) -> int:
        """Samples per second that it wants."""
        ...

    @property
    def codes_per_frame(self) -> int:
        """Codes in one frame, over all codebooks."""
        ...

    def encode(self, samples: NDArray[np.float32]) -> NDArray[np.int64]:
        """Samples float32[n] in [-1, 1] to frames int64[frames, codes_per_frame], the last one filled up with silence.

        ValueError for no samples, or for another shape.
        """
        ...
