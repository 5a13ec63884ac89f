"""Random numbers without state: number i of a request depends on its seed and i alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MASK = 2**64 - 1
_GAMMA = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, splitmix64's increment


def splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix 64 bits, elementwise. Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"."""
    mixed = values + np.uint64(_GAMMA)  # an array's integers wrap around
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


class RandomStreams:
    """The random streams of some rows, by their seeds."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._keys = splitmix64(np.array([seed & _MASK for seed in seeds], np.uint64))

    def uniform(self, positions: Sequence[int]) -> NDArray[np.float64]:
        """The number for one position of each row's output, in [0, 1): 52 bits, so that 1 - u is exact and above 0."""
        counters = np.array(positions, np.uint64) * np.uint64(_GAMMA)
        return (splitmix64(self._keys + counters) >> np.uint64(12)).astype(np.float64) * 2.0**-52


def child_seed(seed: int, index: int) -> int:
    """The seed of sequence `index` of a request with `n` or `best_of`, in [0, 2^63); that of the first is `seed`."""
    if index == 0:
        return seed
    key = splitmix64(np.array([seed & _MASK], np.uint64))
    return int(splitmix64(key ^ np.uint64(index))[0]) >> 1
