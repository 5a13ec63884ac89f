"""The SNAC decoder's layers as stages of a stream."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Self

import torch
from torch import Tensor, nn

from ..streaming.activations import Snake, Tanh
from ..streaming.convolution import convolution
from ..streaming.padding import Padding
from ..streaming.residual import Residual
from ..streaming.stage import NoiseSource, Opening, Stage
from ..streaming.upsampling import Upsample
from .decoder import Conv1d, ConvTranspose1d, DecoderBlock, NoiseBlock, ResidualUnit, Snake1d


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


def stage_of(module: nn.Module) -> Stage:
    """The stage for a plain layer of `decoder`. TypeError for a module that is none."""
    if isinstance(module, Snake1d):
        return Snake(module.alpha)
    if isinstance(module, ResidualUnit):
        return Residual([stage_of(part) for part in module.block])
    if isinstance(module, ConvTranspose1d):
        return Upsample(module, module.left, module.stride[0] - module.left)
    if isinstance(module, nn.Tanh):
        return Tanh()
    if not isinstance(module, Conv1d):
        raise TypeError(f"no stage for {type(module).__name__}")
    return convolution(module, Padding(module.left, module.right))


@torch.inference_mode()
def stages_of(modules: Iterable[nn.Module]) -> list[Stage]:
    """The stages of a decoder's `model`, in order, with its blocks taken apart. The modules can be dropped then."""
    stages: list[Stage] = []
    layer = 0
    for module in modules:
        if not isinstance(module, DecoderBlock):
            stages.append(stage_of(module))
            continue
        stages += [Noise(part, layer) if isinstance(part, NoiseBlock) else stage_of(part) for part in module.block]
        layer += 1
    return stages
