"""Products of two narrow matrices, which are added to what a place gives."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear

from ..kernels import panelled_weight


class LowRank:
    """`down` `[rank, inputs]` and `up` `[width, rank]`: rows `[rows, inputs]` to `[rows, width]`.

    In float32 on one CPU thread a row's result depends on that row alone, as a `Projection`'s.
    """

    def __init__(self, down: Tensor, up: Tensor) -> None:
        self._down, self._up = _product(down), _product(up)

    def __call__(self, values: Tensor) -> Tensor:
        return self._up(self._down(values))


def _product(weight: Tensor) -> Callable[[Tensor], Tensor]:
    compiled = panelled_weight([weight], None)
    if compiled is not None:
        return compiled.multiply
    if weight.dtype == torch.float32:  # see `loading.store_input_major`
        weight = weight.t().contiguous().t()
    return lambda values: linear(values, weight)
