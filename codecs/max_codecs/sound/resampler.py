"""Sound at another sample rate."""

from __future__ import annotations

import av
import numpy as np
from numpy.typing import NDArray

from .frames import FLOAT, MONO, Frames, samples_of


class Resampler:
    """From one rate to another while it comes; the joined pieces are what the whole sound would give at once.

    What `push` returns lags behind what it takes by the filter's length, half a millisecond; `flush` gives the rest.
    """

    def __init__(self, rate: int, to_rate: int) -> None:
        self._frames = Frames(rate)
        self._resampler = None if rate == to_rate else av.AudioResampler(format=FLOAT, layout=MONO, rate=to_rate)

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the next samples [n]; those [m] that are ready, maybe none."""
        if self._resampler is None or not samples.size:
            return samples
        return samples_of(self._resampler.resample(self._frames.frame(samples)))

    def flush(self) -> NDArray[np.float32]:
        """The last samples. Nothing may be pushed afterwards."""
        return samples_of([] if self._resampler is None else self._resampler.resample(None))
