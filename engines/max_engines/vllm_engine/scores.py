"""vLLM's log probabilities as ours: both are those of the model, before any rule of sampling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from max_interfaces.text import LogProbabilities

from ..log_probabilities import LEAST


def log_probabilities(ids: NDArray[np.integer], values: NDArray[np.floating], count: int) -> LogProbabilities:
    """Of rows [tokens, 1 + at least `count`]: the chosen token first, then the likeliest ones, the first before all."""
    rows = np.maximum(values, LEAST)  # JSON could not carry the logarithm of 0
    entries = [_likeliest(own[1:], row[1:], count) for own, row in zip(ids.tolist(), rows.tolist(), strict=True)]
    return LogProbabilities(tuple(float(row[0]) for row in rows), tuple(entries) if count else ())


def _likeliest(ids: list[int], values: list[float], count: int) -> dict[int, float]:
    """The first `count`; what ties is in the order of ids."""
    best = sorted(zip(ids[:count], values[:count], strict=True), key=lambda entry: (-entry[1], entry[0]))
    return dict(best)
