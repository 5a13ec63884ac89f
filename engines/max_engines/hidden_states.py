"""What a model thought at each token of a sequence, for another model that reads it."""

from __future__ import annotations

import torch
from torch import Tensor


class HiddenStates:
    """Takes what the last layer gives, after its norm, for every token that a sequence computes, in order.

    `known` tokens have theirs. What is computed once more, after a loss of memory, is not told again.
    """

    def __init__(self) -> None:
        self.known = 0
        self._untold: list[Tensor] = []

    def note(self, first: int, states: Tensor) -> None:
        """`states` `[tokens, hidden]` of a chunk that begins at token `first`, which is not behind the last known."""
        new = states[max(0, self.known - first) :]
        if len(new):
            self._untold.append(new)
            self.known += len(new)

    def take(self) -> Tensor | None:
        """Those since the last call, `[tokens, hidden]`; None if there are none."""
        untold, self._untold = self._untold, []
        return torch.cat(untold) if untold else None
