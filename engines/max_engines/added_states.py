"""What is added to the embeddings of a sequence's own output, which comes from elsewhere while it is generated."""

from __future__ import annotations

import sys

import torch
from torch import Tensor


class AddedStates:
    """One state `[hidden]` for each output token, in order. A token is computed when its state is there.

    It is added to what is looked up for the token, or stands `instead` of that. With a `rest`, it is that of all
    further tokens.
    """

    def __init__(self, *, instead: bool = False) -> None:
        self.instead = instead
        self._states: list[Tensor] = []
        self._rest: Tensor | None = None

    @property
    def count(self) -> int:
        """How many output tokens have theirs."""
        return len(self._states) if self._rest is None else sys.maxsize

    def extend(self, states: Tensor) -> None:
        """`[tokens, hidden]` for the next output tokens."""
        self._states.extend(states)

    def end(self, rest: Tensor) -> None:
        """All further output tokens have `rest`."""
        self._rest = rest

    def of(self, first: int, last: int) -> Tensor:
        """`[last - first, hidden]`, by the number of the output token."""
        states = self._states[first:last]
        if self._rest is not None:
            states = states + [self._rest] * (last - first - len(states))
        return torch.stack(states)
