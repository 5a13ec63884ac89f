"""What a model thought at each token of a sequence, for another model that reads it."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Listener(Protocol):
    """Is told what the last layer gives, after its norm, for the tokens that a sequence computes, in order.

    What is computed once more, after a loss of memory, is told once more. One that needs them `all` keeps a sequence
    from taking a part of its prompt from others, which computes nothing.
    """

    all: bool

    def note(self, first: int, states: Tensor) -> None:
        """`states` `[tokens, hidden]` of a chunk that begins at token `first`."""
        ...


class HiddenStates:
    """Keeps those of every token. `known` tokens have theirs; what comes once more is not told again."""

    all = True

    def __init__(self) -> None:
        self.known = 0
        self._untold: list[Tensor] = []

    def note(self, first: int, states: Tensor) -> None:
        """See `Listener`; `first` is not behind the last known."""
        new = states[max(0, self.known - first) :]
        if len(new):
            self._untold.append(new)
            self.known += len(new)

    def take(self) -> Tensor | None:
        """Those since the last call, `[tokens, hidden]`; None if there are none."""
        untold, self._untold = self._untold, []
        return torch.cat(untold) if untold else None


class LastState:
    """Keeps that of the last token alone, `[hidden]`: what the next one is sampled from. Empty before it."""

    all = False

    def __init__(self) -> None:
        self.state = torch.empty(0)

    def note(self, first: int, states: Tensor) -> None:
        """See `Listener`."""
        self.state = states[-1].clone()
