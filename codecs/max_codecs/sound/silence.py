"""Where in a sound something can be heard."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

AUDIBLE = 0.01  # of full scale: -40 dB, above a codec's idle noise


def quiet_before(samples: NDArray[np.float32]) -> int:
    """How many of the samples [n] come before the first that can be heard; all of them if none can."""
    loud = np.abs(samples) > AUDIBLE
    return int(loud.argmax()) if loud.any() else samples.size


def quiet_behind(samples: NDArray[np.float32]) -> int:
    """How many of the samples [n] come after the last that can be heard; all of them if none can."""
    return quiet_before(samples[::-1])


def faded(samples: NDArray[np.float32], size: int, direction: int) -> NDArray[np.float32]:
    """The first samples faded in (direction 1), or the last ones faded out (-1)."""
    size = min(size, samples.size)
    if not size:
        return samples
    ramp = np.linspace(0, 1, size, dtype=np.float32)[::direction]
    result = samples.copy()
    edge = slice(None, size) if direction == 1 else slice(samples.size - size, None)
    result[edge] *= ramp
    return result
