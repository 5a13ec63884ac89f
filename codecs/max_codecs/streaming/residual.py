"""Two ways that meet again, as a stage of a stream."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from .stage import Opening, Stage


class Residual(Stage):
    """shortcut(x) + stages(x). Rows of the shortcut wait until their counterpart is certain.

    The shortcut has no state: x itself, or a convolution of kernel 1.
    """

    _tail: Tensor | None

    def __init__(self, stages: Sequence[Stage], shortcut: Stage | None = None) -> None:
        self._stages = tuple(stages)
        self._shortcut = shortcut

    def open(self, opening: Opening) -> Self:
        stage = copy.copy(self)
        stage._stages = tuple(part.open(opening) for part in self._stages)
        stage._tail = None
        return stage

    def needs(self, row: int) -> int:
        for stage in reversed(self._stages):
            row = stage.needs(row)
        return row

    def awaits(self, row: int) -> int:
        for stage in reversed(self._stages):
            row = stage.awaits(row)
        return row

    def step(self, x: Tensor, last: bool) -> Tensor:
        y = x
        for stage in self._stages:
            y = stage.step(y, last)
        straight = x if self._shortcut is None else self._shortcut.step(x, last)
        waiting = straight if self._tail is None else torch.cat((self._tail, straight))
        count = y.shape[0]
        self._tail = waiting[count:] if count < waiting.shape[0] else None
        return y + waiting[:count]
