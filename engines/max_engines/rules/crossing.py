"""Where, in the order of their keys, the weights of a row reach what is wanted: found without a sort of many."""

from __future__ import annotations

import torch
from torch import Tensor

FEW = 1024  # up to so many a sort is as fast as histograms
DIGITS = ((20, 11), (10, 10), (0, 10))  # shift and bits of the three digits of a key, 31 bits in all


def crossing(keys: Tensor, weights: Tensor, wanted: Tensor) -> Tensor:
    """The lowest key of each row, int32[rows, 1], up to which the weights reach `wanted` `[rows, 1]`.

    `keys` int32[rows, width] are not below 0, `weights` float32 of the same shape. If all weights do not reach it,
    which rounding can cause, a key that is not below any. Sums are float64, so that their order does not matter.
    """
    target = wanted.double()
    if keys.shape[1] <= FEW:
        ordered, order = keys.sort(1)
        mass = weights.gather(1, order).double().cumsum(1)
        return ordered.gather(1, _first(mass, target))
    found = torch.zeros_like(keys[:, :1])
    values = weights.double()
    for shift, bits in DIGITS:  # as in a radix sort: a histogram of the highest digit, then one of what shares it
        size = 2**bits
        digit = ((keys >> shift) - (found << bits)).clamp_(0, size)  # below counts with 0; above, by itself
        histogram = torch.zeros(len(keys), size + 1, dtype=torch.float64, device=keys.device)
        mass = histogram.scatter_add_(1, digit.long(), values).cumsum(1)
        found = (found << bits) + _first(mass[:, :-1], target).int()
    return found


def _first(mass: Tensor, target: Tensor) -> Tensor:
    """The first position at which a growing `mass` reaches `target`, int64[rows, 1]; the last one if it never does."""
    return (mass < target).sum(1, keepdim=True).clamp_max_(mass.shape[1] - 1)
