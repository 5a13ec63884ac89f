"""Rotary positions that are not one for each token: images lie in three dimensions (https://arxiv.org/abs/2409.12191)."""

from __future__ import annotations

import sys

import torch
from torch import Tensor


class Positions:
    """Where a prompt's tokens are in time, height and width: int64 `[3, tokens]`.

    What follows the prompt goes on one by one behind its last token, as transformers' `generate` does.
    """

    def __init__(self, prompt: Tensor) -> None:
        self._prompt = prompt
        self._length = prompt.shape[1]
        self._times: list[int] = prompt[0].tolist()
        self._last = int(prompt[:, -1].max())
        self.furthest = int(prompt.max())
        differ = (prompt != prompt[:1]).any(0)
        if bool(differ[-1]):
            self._flat_from = sys.maxsize
        else:
            self._flat_from = int(differ.nonzero().max()) + 1 if bool(differ.any()) else 0

    def end(self, last: int) -> int:
        """No token before `last` is at this position or behind it."""
        return max(self.furthest, self._last + last - self._length) + 1

    def times(self, first: int, last: int) -> list[int]:
        """The first dimension of tokens `first` to `last` (excluded)."""
        shift = self._times[-1] + 1 - self._length
        return [*self._times[first:last], *range(max(first, self._length) + shift, last + shift)]

    def apart(self, first: int, last: int) -> Tensor | None:
        """All three of these tokens, int64 `[3, tokens]`, if they can differ."""
        if first >= self._flat_from:
            return None
        behind = torch.arange(max(first, self._length), max(last, self._length)) + 1 - self._length
        return torch.cat((self._prompt[:, first:last], self._prompt[:, -1:] + behind), 1)

    def note(self, first: int, last: int) -> bytes:
        """What tells tokens `first` to `last` from those of text at the same places; nothing if they are the same."""
        known = self._prompt[:, first:last]
        plain = torch.arange(first, first + known.shape[1])
        return b"" if bool((known == plain).all()) else known.numpy().tobytes()
