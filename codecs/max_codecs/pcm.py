"""Samples as 16-bit integers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

S16_FULL_SCALE = 32767  # 1.0 and -1.0 alike, as libsndfile writes them


def to_s16(samples: NDArray[np.floating]) -> NDArray[np.int16]:
    """Samples in [-1, 1] to little-endian int16 of the same shape, rounded; louder ones are clipped, NaN is silence."""
    finite = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
    scaled: NDArray[np.int16] = np.rint(np.clip(finite, -1.0, 1.0) * S16_FULL_SCALE).astype("<i2")
    return scaled


def from_s16(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """The inverse, float32 in [-1, 1] but for -32768, which is a little below."""
    return samples.astype(np.float32) / np.float32(S16_FULL_SCALE)
