"""The noise that sound begins as: number i of a sound depends on its seed and i alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def noise(seed: int, first: int, last: int, bins: int) -> Tensor:
    """Standard normal numbers for mel frames `first` to `last` (excluded) of a sound: float32 `[frames, bins]`.

    Each frame has a counter of its own, so that a frame's noise is the same in any stretch. Source: Salmon et al. 2011,
    "Parallel random numbers: as easy as 1, 2, 3" (Philox).
    """
    made = np.empty((last - first, bins), np.float32)
    for row, frame in enumerate(range(first, last)):
        source = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, frame]))
        made[row] = source.standard_normal(bins, np.float32)
    return torch.from_numpy(made)
