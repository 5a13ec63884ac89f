"""Hidden states that stand in a prompt in the place of what is looked up for its ids."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class PromptStates:
    """`states` `[n, hidden]` at the n `positions` of a prompt, in order.

    `deeper[i]`, `[n, hidden]`, are added to what layer i makes of them (https://arxiv.org/abs/2406.04334).
    """

    positions: Sequence[int]
    states: Tensor
    deeper: tuple[Tensor, ...] = ()

    @property
    def end(self) -> int:
        """There is none from this position on."""
        return self.positions[-1] + 1 if self.positions else 0

    def within(self, first: int, last: int) -> slice:
        """Which of them are at positions `first` to `last` (excluded)."""
        return slice(bisect_left(self.positions, first), bisect_left(self.positions, last))
