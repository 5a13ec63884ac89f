"""One sound as somebody would hear it who plays what comes as soon as it comes."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from max_codecs.sound.silence import quiet_before

from .metrics import Metrics


class Playback:
    """Told of samples and of bytes as they leave, it notes in `metrics` what a listener would notice."""

    def __init__(self, metrics: Metrics, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._rate = rate
        self._clock = clock
        self._begun = clock()
        self._plays_until = 0.0  # when a player has played all that has come, 0 before the first
        self._samples = 0
        self._audible = False
        self._byte = False

    def heard(self, samples: NDArray[np.float32]) -> None:
        """The next samples."""
        if not samples.size:
            return
        now, metrics = self._clock(), self._metrics
        if not self._samples:
            metrics.first_sample.observe(now - self._begun)
            self._plays_until = now
        elif now > self._plays_until:
            metrics.underruns.inc()
            self._plays_until = now
        if not self._audible:
            quiet = quiet_before(samples)
            if quiet < samples.size:
                self._audible = True
                metrics.first_audible.observe(self._plays_until + quiet / self._rate - self._begun)
        self._samples += samples.size
        self._plays_until += samples.size / self._rate

    def sent(self, data: bytes) -> None:
        """Bytes that leave."""
        if data and not self._byte:
            self._byte = True
            self._metrics.first_byte.observe(self._clock() - self._begun)

    def ended(self, read: int = 0, made: int = 0) -> None:
        """The sound is whole, and has cost so many tokens."""
        self._metrics.tokens.labels("input").inc(read)
        self._metrics.tokens.labels("output").inc(made)
        if self._samples:
            self._metrics.real_time_factor.observe((self._clock() - self._begun) * self._rate / self._samples)
