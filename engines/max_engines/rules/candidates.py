"""The tokens that a draw is made from."""

from __future__ import annotations

import torch
from torch import Tensor


class Candidates:
    """Some tokens of each row, in the order of their ids, and what they weigh: 1 for the likeliest, 0 for what is cut.

    `weights` are float32[rows, width]. `total` `[rows, 1]` is what all tokens of a row weigh that are not cut, also
    those that are no candidates. `lowest` `[rows, 1]` is the lowest weight among candidates that are the likeliest of
    their row, None if all tokens are candidates; `complete` `[rows, 1]` tells where everything else is known to be cut.
    """

    def __init__(
        self,
        weights: Tensor,
        total: Tensor | None = None,
        lowest: Tensor | None = None,
        complete: Tensor | None = None,
    ) -> None:
        self.weights = weights
        self.total = self._sum() if total is None else total
        self.lowest = torch.full_like(self.total, -torch.inf) if lowest is None else lowest
        self.complete = self.lowest == -torch.inf if complete is None else complete

    def cut_below(self, least: Tensor) -> None:
        """Cut what weighs less than `least` `[rows, 1]`; equal weights share their fate, whatever their order."""
        self.cut(self.weights, least)
        self.complete = self.complete | (least > self.lowest)

    def cut(self, values: Tensor, least: Tensor) -> None:
        """Cut candidates whose value `[rows, width]` is below `least` `[rows, 1]`.

        A comparison that writes floats and a product cut five times faster than a boolean mask (torch 2.13, CPU).
        """
        self.weights = self.weights * torch.ge(values, least, out=torch.empty_like(values))

    def recount(self) -> None:
        """Take for `total` the sum of the candidates: something has cut all others.

        Where that is not known, the sum is too small, and nothing that goes by it can complete the row any more.
        """
        self.total = self._sum()
        self.lowest = torch.where(self.complete, self.lowest, torch.inf)

    def _sum(self) -> Tensor:
        """From left to right and in float64 (torch's cumsum on a CPU), so that zeros in between change no bit."""
        return self.weights.cumsum(1)[:, -1:]

    def of(self, rows: Tensor) -> Candidates:
        """A copy for some rows, int64[n]."""
        return Candidates(self.weights[rows], self.total[rows], self.lowest[rows], self.complete[rows])

    def replace(self, rows: Tensor, other: Candidates) -> None:
        """Take these rows from `other`, where they are the only ones."""
        self.weights[rows], self.total[rows] = other.weights, other.total
        self.complete[rows], self.lowest[rows] = other.complete, other.lowest
