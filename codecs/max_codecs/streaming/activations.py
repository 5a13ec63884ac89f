"""Stages without state: what is done to each row by itself."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .stage import Stage


class Tanh(Stage):
    def step(self, x: Tensor, last: bool) -> Tensor:
        return torch.tanh(x)


class Elu(Stage):
    def step(self, x: Tensor, last: bool) -> Tensor:
        return functional.elu(x)


class Snake(Stage):
    """x + sin²(alpha x) / alpha, `alpha` with one entry per channel."""

    def __init__(self, alpha: Tensor) -> None:
        self._alpha = alpha.detach().flatten().clone()
        self._inverse = (self._alpha + 1e-9).reciprocal()

    def step(self, x: Tensor, last: bool) -> Tensor:
        sine = torch.sin(x * self._alpha)
        return torch.addcmul(x, sine * self._inverse, sine)


class Pointwise(Stage):
    """A convolution of kernel 1: `weight` float[out, in, 1], `bias` float[out]."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight = weight[:, :, 0].t().contiguous()
        self._bias = bias

    def step(self, x: Tensor, last: bool) -> Tensor:
        return torch.addmm(self._bias, x, self._weight)
