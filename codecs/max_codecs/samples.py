"""Samples of a sound, as encoders want them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def padded(samples: NDArray[np.float32], frame: int) -> NDArray[np.float32]:
    """Samples float32[n] and as much silence as makes them whole frames. ValueError for none, or another shape."""
    if samples.ndim != 1 or samples.dtype.kind != "f" or not samples.size:
        raise ValueError(
            f"samples are {samples.dtype}{list(samples.shape)}: must be floats in one dimension, at least 1"
        )
    return np.pad(samples.astype(np.float32, copy=False), (0, -samples.size % frame))
