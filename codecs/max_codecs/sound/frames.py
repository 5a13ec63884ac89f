"""Samples as FFmpeg's frames, and back."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

FLOAT, MONO = "flt", "mono"


class Frames:
    """Turns consecutive samples of one sound into frames, numbered through as FFmpeg wants them."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._time_base = Fraction(1, rate)
        self._next = 0

    def frame(self, samples: NDArray[np.float32]) -> av.AudioFrame:
        """The next samples [n], n > 0."""
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None], np.float32), format=FLOAT, layout=MONO)
        frame.sample_rate, frame.time_base, frame.pts = self._rate, self._time_base, self._next
        self._next += samples.size
        return frame


def samples_of(frames: list[av.AudioFrame]) -> NDArray[np.float32]:
    """The samples [n] of some frames, one after the other."""
    if not frames:
        return np.zeros(0, np.float32)
    return np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames]).astype(np.float32, copy=False)
