"""The silence that a sound begins with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from max_codecs.sound.silence import faded, quiet_before

KEPT_S = 0.05  # of silence before the first audible sample: a soft consonant begins there
FADE_S = 0.005  # where the sound is cut: too short to hear, long enough not to click


class LeadingSilence:
    """Holds a sound back until something in it can be heard, and leaves out the silence before, up to `limit_s`.

    What it leaves out depends on the sound alone, not on its pieces. A sound in which nothing can be heard is left
    as it is.
    """

    def __init__(self, rate: int, limit_s: float) -> None:
        self._limit, self._kept, self._fade = round(limit_s * rate), round(KEPT_S * rate), round(FADE_S * rate)
        self._held: NDArray[np.float32] = np.zeros(0, np.float32)
        self.trimmed: int | None = None  # samples; None as long as that is not certain

    def push(self, samples: NDArray[np.float32], done: bool) -> NDArray[np.float32]:
        """Take the next samples [n]; those [m] that go out, maybe none."""
        if self.trimmed is not None:
            return samples
        held = self._held = np.concatenate([self._held, samples])
        quiet = quiet_before(held)
        if quiet == held.size and not done and quiet < self._limit + self._kept:
            return held[:0]
        self.trimmed = 0 if quiet == held.size and done else min(self._limit, max(0, quiet - self._kept))
        self._held = held[:0]
        return faded(held[self.trimmed :], self._fade, 1) if self.trimmed else held
