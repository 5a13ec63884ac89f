"""Rotary positions that are not one for each token: images lie in three dimensions (https://arxiv.org/abs/2409.12191)."""

from __future__ import annotations

import torch
from torch import Tensor


class Positions:
    """Where a prompt's tokens are in time, height and width: int64 `[3, tokens]`.

    What follows the prompt goes on behind the furthest of them, the same in all three.
    """

    def __init__(self, prompt: Tensor) -> None:
        self.prompt = prompt
        self._length = prompt.shape[1]
        self._furthest = int(prompt.max())
        flat = bool((prompt == prompt[:1]).all(0).all())
        self._flat_from = 0 if flat else int((prompt != prompt[:1]).any(0).nonzero().max()) + 1
        self._times: list[int] = prompt[0].tolist()

    @property
    def furthest(self) -> int:
        """The furthest position of the prompt."""
        return self._furthest

    def end(self, last: int) -> int:
        """No token before `last` is at this position or behind it."""
        return self._furthest + 1 + max(0, last - self._length)

    def times(self, first: int, last: int) -> list[int]:
        """The first dimension of tokens `first` to `last` (excluded)."""
        shift = self._furthest + 1 - self._length
        return [*self._times[first:last], *range(max(first, self._length) + shift, last + shift)]

    def apart(self, first: int, last: int) -> Tensor | None:
        """All three of these tokens, int64 `[3, tokens]`, if they differ for any of them."""
        if first >= self._flat_from:
            return None
        known = self.prompt[:, first:last]
        beyond = torch.tensor(self.times(first + known.shape[1], last), dtype=torch.int64)
        return torch.cat((known, beyond.expand(3, -1)), 1)

    def note(self, first: int, last: int) -> bytes:
        """What tells tokens `first` to `last` from those of text at the same places; nothing if they are the same."""
        known = self.prompt[:, first:last]
        plain = torch.arange(first, first + known.shape[1])
        return b"" if bool((known == plain).all()) else known.numpy().tobytes()
