"""The transposed convolution as a stage of a stream."""

from __future__ import annotations

import copy
from typing import Self

import torch
from torch import Tensor, nn

from .convolution import bias_of
from .stage import Opening, Stage


class Upsample(Stage):
    """Upsampling by `stride` with a kernel of twice that: rows t - 1 and t of the input make the `stride` rows from
    t * stride on.

    With a row of zeros behind the last these are `stride` rows too many: `left` of them are cut at the start, and
    `right` at the end. ValueError for another kernel, or for a cut that is more than a stride.
    """

    _tail: Tensor
    _cut: int  # rows still to cut at the start

    def __init__(self, module: nn.ConvTranspose1d, left: int, right: int) -> None:
        self.rate = self._stride = module.stride[0]
        if module.kernel_size[0] != 2 * self._stride or not 0 <= left <= self._stride or not 0 <= right <= self._stride:
            raise ValueError(
                f"a transposed convolution has stride {self._stride}, kernel {module.kernel_size[0]} and is cut by"
                f" {left} and {right}: the kernel must be twice the stride, and a cut at most the stride"
            )
        self._left, self._right = left, right
        self._channels = module.out_channels
        weight = _dense(module)
        taps = torch.cat([weight[:, :, self._stride :], weight[:, :, : self._stride]])  # for t - 1, then for t
        self._weight = taps.transpose(1, 2).reshape(taps.shape[0], -1).contiguous()
        self._bias = bias_of(module).repeat(self._stride)
        self._zero = self._bias.new_zeros(1, module.in_channels)

    def open(self, opening: Opening) -> Self:
        stage = copy.copy(self)
        stage._tail, stage._cut = self._zero, self._left
        return stage

    def needs(self, row: int) -> int:
        return (row + self._left) // self._stride - 1

    def awaits(self, row: int) -> int:
        return (row + self._left) // self._stride

    def step(self, x: Tensor, last: bool) -> Tensor:
        ends = last and self._right < self._stride
        rows = torch.cat((self._tail, x, self._zero) if ends else (self._tail, x))
        self._tail = rows[-1:]
        y = torch.addmm(self._bias, torch.cat((rows[:-1], rows[1:]), 1), self._weight)
        y = y.view(-1, self._channels)
        stop = y.shape[0] - (self._right if ends else 0)
        cut = min(self._cut, stop)
        self._cut -= cut
        return y[cut:stop]


def _dense(module: nn.ConvTranspose1d) -> Tensor:
    """The weight float[in, out, kernel] as if there were one group: of Mimi's 512 it makes 4 MB, and one product."""
    weight = module.weight.detach()
    blocks = weight.chunk(module.groups)
    dense = weight.new_zeros(module.in_channels, module.out_channels, weight.shape[2])
    height, width = blocks[0].shape[:2]
    for group, block in enumerate(blocks):
        dense[group * height : (group + 1) * height, group * width : (group + 1) * width] = block
    return dense
