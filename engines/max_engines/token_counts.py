"""How often each token was said, kept up step by step instead of counted anew."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


class TokenCounts:
    """Counts of token ids, as arrays that a rule can send to the device."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        self._ids = np.zeros(64, np.int64)
        self._times = np.zeros(64, np.float32)

    @property
    def ids(self) -> NDArray[np.int64]:
        """Every id that was ever counted, int64[n]; a view, to be used before the next change."""
        return self._ids[: len(self._places)]

    @property
    def times(self) -> NDArray[np.float32]:
        """The count of each of `ids`, float32[n], 0 for one that was taken back; a view, as `ids`."""
        return self._times[: len(self._places)]

    def add(self, tokens: Iterable[int]) -> None:
        """Count tokens."""
        for token in tokens:
            place = self._places.get(token)
            if place is None:
                place = self._places[token] = len(self._places)
                if place == len(self._ids):
                    self._ids = np.concatenate((self._ids, np.zeros_like(self._ids)))
                    self._times = np.concatenate((self._times, np.zeros_like(self._times)))
                self._ids[place] = token
            self._times[place] += 1

    def remove(self, tokens: Iterable[int]) -> None:
        """Take tokens back that were counted before."""
        for token in tokens:
            self._times[self._places[token]] -= 1
