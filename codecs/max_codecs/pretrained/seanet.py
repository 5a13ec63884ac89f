"""The SEANet decoder of EnCodec and Mimi as stages of a stream."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeAlias, cast, get_args

import torch
from torch import nn
from transformers.models.encodec.modeling_encodec import (
    EncodecConv1d,
    EncodecConvTranspose1d,
    EncodecLSTM,
    EncodecResnetBlock,
)
from transformers.models.mimi.modeling_mimi import MimiConv1d, MimiConvTranspose1d, MimiResnetBlock

from ..streaming.activations import Elu
from ..streaming.convolution import convolution
from ..streaming.padding import Mode, Padding
from ..streaming.recurrent import Lstm
from ..streaming.residual import Residual
from ..streaming.stage import Stage
from ..streaming.upsampling import Upsample

Convolution: TypeAlias = EncodecConv1d | MimiConv1d
Transposed: TypeAlias = EncodecConvTranspose1d | MimiConvTranspose1d


@torch.inference_mode()
def stages_of(layers: Iterable[nn.Module]) -> list[Stage]:
    """The stages of a decoder's layers, in order. ValueError for a layer whose settings cannot be streamed."""
    return [stage_of(layer) for layer in layers]


def stage_of(module: nn.Module) -> Stage:
    """The stage for one layer. TypeError for a module that is none."""
    if isinstance(module, Convolution):
        return _convolution(module)
    if isinstance(module, Transposed):
        return _upsampling(module)
    if isinstance(module, EncodecResnetBlock | MimiResnetBlock):
        return _residual(module)
    if isinstance(module, EncodecLSTM):
        return Lstm(module.lstm)
    if isinstance(module, nn.ELU):
        return Elu()
    raise TypeError(f"no stage for {type(module).__name__}")


def _convolution(module: Convolution) -> Stage:
    """Causal: padded on the left alone. Otherwise on both sides, one more on the left for an odd sum."""
    if module.pad_mode not in get_args(Mode):
        raise ValueError(f"pad_mode={module.pad_mode!r}: must be one of {', '.join(get_args(Mode))}")
    if getattr(module, "norm_type", "weight_norm") != "weight_norm":
        raise ValueError(f"norm_type={module.norm_type!r}: a norm over the whole sound cannot be streamed")
    conv = module.conv
    total = (conv.kernel_size[0] - 1) * conv.dilation[0]
    right = 0 if module.causal else total // 2
    return convolution(conv, Padding(total - right, right, cast(Mode, module.pad_mode)))


def _upsampling(module: Transposed) -> Stage:
    conv = module.conv
    total = conv.kernel_size[0] - conv.stride[0]
    right = math.ceil(total * module.trim_right_ratio) if module.causal else total // 2
    return Upsample(conv, total - right, right)


def _residual(module: EncodecResnetBlock | MimiResnetBlock) -> Stage:
    shortcut = None if isinstance(module.shortcut, nn.Identity) else stage_of(module.shortcut)
    return Residual([stage_of(part) for part in module.block], shortcut)
