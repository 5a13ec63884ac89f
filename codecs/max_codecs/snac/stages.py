"""The decoder's layers as stages of a stream: each keeps the tail of its input that later output still needs.

Tensors are [time, channels], so that a pointwise convolution is one matrix product, and a depthwise one is a few
multiply-adds over whole rows: on short pieces several times faster than oneDNN's convolutions, at 60 µs a call.

A symmetric layer is a causal one that answers late: it pads `left` zeros before the first input and `right` after the
last, and gives out a row as soon as the inputs it depends on are there. So nothing is ever decoded twice.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from .decoder import Conv1d, ConvTranspose1d, DecoderBlock, NoiseBlock, NoiseSource, ResidualUnit, Snake1d
from .stage import Opening, Stage


class Tanh(Stage):
    def step(self, x: Tensor, last: bool) -> Tensor:
        return torch.tanh(x)


class Snake(Stage):
    """x + sin²(alpha x) / alpha."""

    def __init__(self, module: Snake1d) -> None:
        self._alpha = module.alpha.detach().flatten().clone()
        self._inverse = (self._alpha + 1e-9).reciprocal()

    def step(self, x: Tensor, last: bool) -> Tensor:
        sine = torch.sin(x * self._alpha)
        return torch.addcmul(x, sine * self._inverse, sine)


class Pointwise(Stage):
    """A convolution of kernel 1."""

    def __init__(self, module: Conv1d) -> None:
        self._weight = module.weight.detach()[:, :, 0].t().contiguous()
        self._bias = _bias(module)

    def step(self, x: Tensor, last: bool) -> Tensor:
        return torch.addmm(self._bias, x, self._weight)


class Windowed(Stage):
    """What convolutions with a longer kernel share: the rows still needed, and the padding at both ends."""

    _tail: Tensor

    def __init__(self, module: Conv1d) -> None:
        self._bias = _bias(module)
        self._dilation = module.dilation[0]
        self._reach = module.left + module.right
        self._before = self._bias.new_zeros(module.left, module.in_channels)
        self._after = self._bias.new_zeros(module.right, module.in_channels)

    def open(self, opening: Opening) -> Self:
        stage = copy.copy(self)
        stage._tail = self._before
        return stage

    def needs(self, row: int) -> int:
        return row - self._before.shape[0]

    def step(self, x: Tensor, last: bool) -> Tensor:
        rows = torch.cat((self._tail, x, self._after) if last else (self._tail, x))
        count = max(rows.shape[0] - self._reach, 0)
        self._tail = rows[count:]
        return self._convolve(rows, count)

    @abstractmethod
    def _convolve(self, rows: Tensor, count: int) -> Tensor:
        """Rows float[count + reach, in] to rows float[count, out]; fewer than `reach` rows when count is 0."""


class Depthwise(Windowed):
    """One kernel per channel."""

    def __init__(self, module: Conv1d) -> None:
        super().__init__(module)
        taps = module.weight.detach()[:, 0].unbind(1)
        self._first = taps[0].contiguous()
        self._taps = [(k * self._dilation, tap.contiguous()) for k, tap in enumerate(taps) if k]

    def _convolve(self, rows: Tensor, count: int) -> Tensor:
        y = torch.addcmul(self._bias, rows[:count], self._first)
        for shift, tap in self._taps:
            y.addcmul_(rows[shift : shift + count], tap)
        return y


class Dense(Windowed):
    """Every input channel to every output channel."""

    def __init__(self, module: Conv1d) -> None:
        super().__init__(module)
        self._weight = module.weight.detach().clone()

    def _convolve(self, rows: Tensor, count: int) -> Tensor:
        if not count:
            return rows.new_zeros(0, self._weight.shape[0])
        y = functional.conv1d(rows.t()[None], self._weight, self._bias, dilation=self._dilation)
        return y[0].t()


class Upsample(Stage):
    """The transposed convolution: rows t - 1 and t of the input make the `stride` rows from t * stride on.

    Those carry `left` rows too many at the start and stride - left at the end of one more row of zeros.
    """

    _tail: Tensor
    _cut: int  # rows still to cut at the start

    def __init__(self, module: ConvTranspose1d) -> None:
        self.rate = self._stride = module.stride[0]
        self._left = module.left
        self._channels = module.out_channels
        weight = module.weight.detach()  # [in, out, 2 * stride]
        taps = torch.cat([weight[:, :, self._stride :], weight[:, :, : self._stride]])  # for t - 1, then for t
        self._weight = taps.transpose(1, 2).reshape(taps.shape[0], -1).contiguous()
        self._bias = _bias(module).repeat(self._stride)
        self._zero = self._bias.new_zeros(1, module.in_channels)

    def open(self, opening: Opening) -> Self:
        stage = copy.copy(self)
        stage._tail, stage._cut = self._zero, self._left
        return stage

    def needs(self, row: int) -> int:
        return (row + self._left) // self._stride - 1

    def step(self, x: Tensor, last: bool) -> Tensor:
        ends = last and self._left > 0
        rows = torch.cat((self._tail, x, self._zero) if ends else (self._tail, x))
        self._tail = rows[-1:]
        y = torch.addmm(self._bias, torch.cat((rows[:-1], rows[1:]), 1), self._weight)
        y = y.view(-1, self._channels)
        stop = y.shape[0] - (self._stride - self._left if ends else 0)
        cut = min(self._cut, stop)
        self._cut -= cut
        return y[cut:stop]


class Noise(Stage):
    """x + noise * linear(x)."""

    _source: NoiseSource | None
    _next: int  # absolute number of the next row

    def __init__(self, module: NoiseBlock, layer: int) -> None:
        self._weight = module.linear.weight.detach()[:, :, 0].t().contiguous()
        self._layer = layer

    def open(self, opening: Opening) -> Self:
        stage = copy.copy(self)
        stage._source, stage._next = opening.noise, opening.row
        return stage

    def step(self, x: Tensor, last: bool) -> Tensor:
        if self._source is None or not x.shape[0]:
            return x
        noise = self._source(self._layer, self._next, x.t()[None])
        self._next += x.shape[0]
        return torch.addcmul(x, noise[0].t(), x @ self._weight)


class Residual(Stage):
    """x + stages(x). Rows of x wait in the tail until their counterpart is certain."""

    _tail: Tensor

    def __init__(self, module: ResidualUnit) -> None:
        self._stages = tuple(stage_of(part) for part in module.block)
        self._none = next(module.parameters()).detach().new_zeros(0, module.channels)

    def open(self, opening: Opening) -> Self:
        stage = copy.copy(self)
        stage._stages = tuple(part.open(opening) for part in self._stages)
        stage._tail = self._none
        return stage

    def needs(self, row: int) -> int:
        for stage in reversed(self._stages):
            row = stage.needs(row)
        return row

    def step(self, x: Tensor, last: bool) -> Tensor:
        y = x
        for stage in self._stages:
            y = stage.step(y, last)
        waiting = torch.cat((self._tail, x)) if self._tail.shape[0] else x
        count = y.shape[0]
        self._tail = waiting[count:]
        return y + waiting[:count]


def stage_of(module: nn.Module) -> Stage:
    """The stage for a plain layer of `decoder`. TypeError for a module that is none."""
    if isinstance(module, Snake1d):
        return Snake(module)
    if isinstance(module, ResidualUnit):
        return Residual(module)
    if isinstance(module, ConvTranspose1d):
        return Upsample(module)
    if isinstance(module, nn.Tanh):
        return Tanh()
    if not isinstance(module, Conv1d):
        raise TypeError(f"no stage for {type(module).__name__}")
    if module.kernel_size == (1,):
        return Pointwise(module)
    if module.groups == module.in_channels == module.out_channels:
        return Depthwise(module)
    return Dense(module)


def stages_of(modules: Iterable[nn.Module]) -> list[Stage]:
    """The stages of a decoder's `model`, in order, with its blocks taken apart."""
    stages: list[Stage] = []
    layer = 0
    for module in modules:
        if not isinstance(module, DecoderBlock):
            stages.append(stage_of(module))
            continue
        stages += [Noise(part, layer) if isinstance(part, NoiseBlock) else stage_of(part) for part in module.block]
        layer += 1
    return stages


def _bias(module: nn.Conv1d | nn.ConvTranspose1d) -> Tensor:
    if module.bias is None:
        return module.weight.detach().new_zeros(module.out_channels)
    return module.bias.detach().clone()
