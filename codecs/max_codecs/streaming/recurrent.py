"""An LSTM as a stage of a stream."""

from __future__ import annotations

import copy
from typing import Self

from torch import Tensor, nn

from .stage import EVERYTHING, Opening, Stage


class Lstm(Stage):
    """x + LSTM(x), over as many layers as `module` has; its state is all that it keeps.

    Each row depends on all before it: so it is exact only where a stream begins at the beginning.
    """

    _state: tuple[Tensor, Tensor] | None  # hidden and cell float[layers, channels]

    def __init__(self, module: nn.LSTM) -> None:
        self._module = module

    def open(self, opening: Opening) -> Self:
        stage = copy.copy(self)
        stage._state = None
        return stage

    def needs(self, row: int) -> int:
        return row - EVERYTHING

    def step(self, x: Tensor, last: bool) -> Tensor:
        if not x.shape[0]:
            return x
        y: Tensor
        y, self._state = self._module(x, self._state)
        return x + y
